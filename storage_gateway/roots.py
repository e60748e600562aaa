"""The root of a payload of several segments, by which IPFS tools find all of it under one CID.

Its leaves come to a node with their segments, pinned; the nodes above them all are known when the
last leaf is. That they are to come is written down with the commit, so that a payload is not kept
waiting for them, and no crash forgets them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial

from crypto import SEGMENT_LEAVES

from .backends.ipfs import IPFSStore
from .catalog import Catalog
from .catalog.objects import is_committed
from .catalog.roots import RootKey, can_come, has_come, list_roots
from .catalog.segments import load_segment_page
from .errors import CatalogUnavailable, GatewayError

logger = logging.getLogger(__name__)

ROOT = "root"
"""The name of its blob, beside the numbers of segments."""
SENDER_WAITS_S = 5.0
"""How long who sent a payload waits for its root, which is committed without it."""
SEGMENTS_IN_PAGE = 64
PAGE = 200
NOTHING: RootKey = ("", "")


class Roots:
    """Brings roots to nodes, for one gateway process."""

    def __init__(self, catalog: Catalog, nodes: Sequence[IPFSStore], *, payloads: str) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``."""
        self._catalog = catalog
        self._nodes = {node.name: node for node in nodes}
        self._payloads = payloads
        self._after = NOTHING
        self.brought = 0
        """How many came so far."""

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
            logger.info("root left for later", extra=told)

    async def run_forever(self, interval_s: float) -> None:
        """Bring what is to come until cancelled; what fails is logged and tried again.

        Beside recovery, not within it: a node that looks for a block which nobody has takes as long
        as it may.
        """
        while self._nodes:
            try:
                await self.bring_all()
            except GatewayError as error:
                logger.warning("roots not brought", extra={"code": error.code})
            except Exception:
                logger.exception("roots not brought, unexpectedly")
            await asyncio.sleep(interval_s)

    async def bring_all(self) -> int:
        """Bring all that can come; return how many did.

        A node is left alone after its first failure. The next call begins behind that, so that one
        root which never comes keeps no other waiting.

        Raises:
            CatalogUnavailable

        """
        came, failed = 0, set[str]()
        for roots in (self._between(self._after, None), self._between(NOTHING, self._after)):
            async for root in roots:
                if root[1] in self._nodes and root[1] not in failed:
                    came += await self._tried(root, failed)
        return came

    async def _between(self, after: RootKey, last: RootKey | None) -> AsyncIterator[RootKey]:
        """Yield what can come behind one key, up to another one."""
        while page := await self._catalog.read(partial(list_roots, after=after, limit=PAGE)):
            for root in page:
                if last is not None and root > last:
                    return
                yield root
            after = page[-1]

    async def _tried(self, root: RootKey, failed: set[str]) -> bool:
        try:
            return await self._bring(*root)
        except CatalogUnavailable:
            raise
        except GatewayError as error:
            failed.add(root[1])
            self._after = root
            told = {"payload_id": root[0], "store": root[1], "code": error.code}
            logger.info("root did not come", extra=told)
            return False

    async def _bring(self, payload_id: str, backend: str) -> bool:
        """Bring one; tell whether it came. That of a payload which was given up goes again."""
        key = f"{self._payloads}{payload_id}/{ROOT}"
        node = self._nodes[backend]
        if await self._catalog.read(lambda c: is_committed(c, payload_id)):
            if not await self._catalog.read(lambda c: can_come(c, payload_id, backend)):
                return False
            digests, size = await self._leaves(payload_id)
            await node.complete(key, digests, size)
        # Erased meanwhile, its list of pins may have been gone through before ours came.
        if await self._catalog.run(lambda c: has_come(c, payload_id, backend)):
            self.brought += 1
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
