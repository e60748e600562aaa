"""The root of a payload of several segments, by which IPFS tools find all of it under one CID.

Its leaves come to a node with their segments, pinned; the nodes above them all are known when the
last leaf is. That they are to come is written down with the commit, so that a payload is not kept
waiting for them, and no crash forgets them.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from functools import partial

from crypto import SEGMENT_LEAVES

from .backends.ipfs import IPFSStore
from .catalog import Catalog
from .catalog.objects import is_committed, load_segment_page
from .catalog.roots import RootKey, has_come, list_roots
from .errors import BackendUnavailable, BlobCorrupt, GatewayError

logger = logging.getLogger(__name__)

ROOT = "root"
"""The name of its blob, beside the numbers of segments."""
SENDER_WAITS_S = 5.0
"""How long who sent a payload waits for its root, which is committed without it."""
SEGMENTS_IN_PAGE = 64
PAGE = 200


class Roots:
    """Brings roots to nodes, for one gateway process."""

    def __init__(self, catalog: Catalog, nodes: Sequence[IPFSStore], *, payloads: str) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``."""
        self._catalog = catalog
        self._nodes = {node.name: node for node in nodes}
        self._payloads = payloads

    def expected(self, stores: Collection[str], leaves: int) -> list[str]:
        """Return to which of some stores the root of a payload of so many leaves is to come."""
        return [name for name in self._nodes if name in stores and leaves > SEGMENT_LEAVES]

    async def bring(self, payload_id: str, backends: Collection[str]) -> None:
        """Bring a root that a commit noted, if that is soon done; never raises what stores do."""
        if not backends:
            return
        try:
            async with asyncio.timeout(SENDER_WAITS_S):
                for backend in backends:
                    await self._bring(payload_id, backend)
        except (GatewayError, TimeoutError) as error:
            told = {"payload_id": payload_id, "kind": type(error).__name__}
            logger.info("root left to recovery", extra=told)

    async def bring_all(self) -> int:
        """Bring all that are to come; return how many did. A store that fails is left for later.

        Raises:
            CatalogUnavailable

        """
        came, after, failed = 0, ("", ""), set[str]()
        while page := await self._catalog.read(partial(list_roots, after=after, limit=PAGE)):
            after = page[-1]
            for payload_id, backend in page:
                if backend in failed or backend not in self._nodes:
                    continue
                came += await self._tried((payload_id, backend), failed)
        return came

    async def _tried(self, root: RootKey, failed: set[str]) -> bool:
        try:
            return await self._bring(*root)
        except (BackendUnavailable, BlobCorrupt) as error:
            # It may lack a segment, which no other payload is kept waiting for.
            node = self._nodes[root[1]]
            if not node.answered_within(SENDER_WAITS_S):
                failed.add(node.name)
            told = {"payload_id": root[0], "store": node.name, "code": error.code}
            logger.info("root did not come", extra=told)
            return False

    async def _bring(self, payload_id: str, backend: str) -> bool:
        """Bring one; tell whether it came. That of a payload which was given up goes again."""
        key = f"{self._payloads}{payload_id}/{ROOT}"
        node = self._nodes[backend]
        if await self._catalog.read(lambda c: is_committed(c, payload_id)):
            digests, size = await self._leaves(payload_id)
            await node.complete(key, digests, size)
        # Erased meanwhile, its list of pins may have been gone through before ours came.
        if await self._catalog.run(lambda c: has_come(c, payload_id, backend)):
            return True
        await node.delete(key)
        return False

    async def _leaves(self, payload_id: str) -> tuple[tuple[bytes, ...], int]:
        digests: list[bytes] = []
        size = first = 0
        while page := await self._catalog.read(
            partial(load_segment_page, payload_id=payload_id, first=first, count=SEGMENTS_IN_PAGE)
        ):
            for segment in page:
                digests += segment.leaf_digests
                size += segment.size
            first += len(page)
        return tuple(digests), size
