"""The pass that enters blocks of objects which were committed while nobody could ask for blocks.

Runs once, after a start. It goes in steps of bounded size, may die anywhere and be run again, and
beside that of another process.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial

from crypto import LEAF_SIZE, SEGMENT_SIZE
from urn import DAGBuilder, LeafError

from .catalog import Catalog
from .catalog.blocks import CommittedPayload, Node, index_blocks, list_unindexed
from .catalog.segments import load_segment_page
from .errors import GatewayError

logger = logging.getLogger(__name__)

PAGE = 200
"""Objects that one transaction looks at."""
SEGMENTS_AT_ONCE = 16
"""Segments whose leaves one transaction enters, 128 at most."""
NODES_AT_ONCE = 64
PAYLOADS_AT_ONCE = 8


class Indexing:
    """The pass of one gateway process."""

    def __init__(self, catalog: Catalog) -> None:
        """All that it needs is in the catalog."""
        self._catalog = catalog

    async def run_until_done(self, retry_s: float) -> None:
        """Run a pass; one that fails is logged, and begun again ``retry_s`` seconds later."""
        while True:
            try:
                indexed = await self.run_once()
            except GatewayError as error:
                logger.warning("indexing failed", extra={"code": error.code})
            except Exception:
                logger.exception("indexing failed unexpectedly")
            else:
                if indexed:
                    logger.info("payloads indexed", extra={"payloads": indexed})
                return
            await asyncio.sleep(retry_s)

    async def run_once(self) -> int:
        """Go once through all committed objects; return how many were not indexed and now are.

        Raises:
            GatewayError: the catalog fails; what was entered until then stays.

        """
        indexed, after = 0, ""
        while True:
            look = partial(list_unindexed, after=after, limit=PAGE)
            found, last = await self._catalog.read(look)
            for first in range(0, len(found), PAYLOADS_AT_ONCE):
                some = found[first : first + PAYLOADS_AT_ONCE]
                indexed += sum(await asyncio.gather(*(self._index(payload) for payload in some)))
            if last is None:
                return indexed
            after = last

    async def _index(self, payload: CommittedPayload) -> bool:
        """Enter the blocks of a payload, the root last; False when it was erased, or is damaged."""
        nodes: list[Node] = []
        dag = DAGBuilder(on_node=lambda *node: nodes.append(node))
        segment, count = 0, -(-payload.payload_size // SEGMENT_SIZE)
        while segment < count:
            load = partial(
                load_segment_page,
                payload_id=payload.payload_id,
                first=segment,
                count=SEGMENTS_AT_ONCE,
            )
            page = await self._catalog.read(load)
            enter = partial(index_blocks, payload=payload, segments=page)
            if not page or not await self._catalog.run(enter):
                return False
            with suppress(LeafError):  # the catalog is damaged, and the root will be another one
                for each in page:
                    for at, digest in enumerate(each.leaf_digests):
                        dag.add_leaf(digest, min(LEAF_SIZE, each.size - at * LEAF_SIZE))
            segment += len(page)
        if dag.finish() != payload.cid:
            logger.error("leaves do not make the CID", extra={"object_id": payload.object_id})
            return False
        for first in range(0, len(nodes), NODES_AT_ONCE):
            some = nodes[first : first + NODES_AT_ONCE]
            if not await self._catalog.run(partial(index_blocks, payload=payload, nodes=some)):
                return False
        return True
