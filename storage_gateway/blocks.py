"""Blocks of payloads by their CID: one of them, or an archive of the tree below one.

Only ciphertext: leaves as they lie in the stores, and the nodes above them. Nothing goes out that
does not have the digest which it was asked for by.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from crypto import LEAF_SIZE, SEGMENT_LEAVES
from urn import CID, Codec, FileNode, Link, car_header, car_section, parse_node

from .backends import KeyedStore, Range
from .block_errors import UnknownBlock
from .catalog import Catalog
from .catalog.blocks import Block, Source, find_block, find_leaves, find_node, require_committed
from .damage import damage_told, record_damage_told
from .errors import BlobCorrupt, BlobMissing
from .memory import Budget
from .raising import fresh

LEAVES_AHEAD = 4
"""Leaves of an archive that are read while an earlier one is sent, as far as there is memory."""
SENT_BYTES_MAX = 320 << 10
"""What a connection may hold unsent; see `api.sending`."""
COUNTS_AS_COMMITTED_S = 0.1
"""How long an object that was seen to be committed counts as such: to ask for each leaf, quick as
they may come, costs a sixth more CPU on SQLite, and a half on PostgreSQL."""
WALK_BYTES_MAX = 256 << 10
"""What a walk holds of the largest tree: a byte for each leaf, a level's links, a few nodes."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, from its ``first`` to its ``last`` one, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Step:
    """What of an archive comes next: bytes that are there already, then a leaf, if any."""

    before: bytes
    digest: bytes = b""
    leaf: int | None = None
    size: int = 0


class Blocks:
    """Serves blocks for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        threads: Executor,
        memory: Budget,
        payloads: str,
        store_of: Callable[[Collection[str] | None], KeyedStore],
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``; ``store_of`` is
        `WantedStores.for_reads`.
        """
        self._catalog = catalog
        self._threads = threads
        self._memory = memory
        self._payloads = payloads
        self._store_of = store_of

    async def find(self, cid: CID) -> Block:
        """Return what the catalog knows of a block; no store is asked.

        Raises:
            UnknownBlock: no object has it.
            Erased, Expired: the objects that had it were erased, or expired.
            BlobCorrupt: a node that does not have its digest.

        """
        block = await self._catalog.read(partial(find_block, cid=cid))
        if block is None:
            raise UnknownBlock("no payload here has this block")
        if block.node is not None:
            _check_node(block.source, cid.digest, block.node)
        return block

    async def read(self, block: Block) -> AsyncGenerator[bytes]:
        """Yield the block, in one piece.

        A piece counts as sent when the next one is asked for.

        Raises:
            Busy: there was no memory for it in time.
            Erased, BlobMissing, BlobCorrupt, BackendUnavailable: nothing was yielded.

        """
        size, seen_s = size_of(block), _now_s()
        async with self._memory.admit(size + min(SENT_BYTES_MAX, size)):
            found = await self._bytes_of(block, size)
            await self._see_committed(block.source, seen_s)
            yield found

    async def _bytes_of(self, block: Block, size: int) -> bytes:
        if block.node is not None:
            return block.node
        return await self._fetch(block.source, _Step(b"", block.cid.digest, block.leaf, size))

    async def archive(
        self, block: Block, *, span: Span | None = None, alone: bool = False, again: bool = False
    ) -> AsyncGenerator[bytes]:
        """Yield an archive of a block and what is below it, depth first, a block at most at a time.

        Of a ``span``, only what is needed for these bytes; ``alone`` is without what is below. Of
        blocks that are alike the first is in it, with ``again`` each of them.

        Raises:
            Busy: there was no memory for it in time; nothing was yielded.
            Erased, BlobMissing, BlobCorrupt, BackendUnavailable: nothing of the bad leaf was
                yielded, nor, if it is the first one, of anything.

        """
        seen_s = _now_s()
        if block.node is not None and not alone:
            steps = self._walk(block, span or Span(0, block.source.payload_size), again=again)
        else:
            steps = _single(block)
        largest = min(LEAF_SIZE, block.source.payload_size)
        unsent = min(SENT_BYTES_MAX, block.source.payload_size)
        if block.node is not None:
            unsent += WALK_BYTES_MAX
        async with self._memory.admit(unsent + largest) as memory, aclosing(steps):
            memory.take(unsent)
            under_way: deque[tuple[_Step, asyncio.Task[bytes]]] = deque()
            step = await anext(steps, None)
            try:
                while step is not None or under_way:
                    # One leaf at a time is what an archive needs to go on, if slowly.
                    if step and len(under_way) < LEAVES_AHEAD and memory.take(step.size):
                        fetching = asyncio.create_task(self._fetch(block.source, step))
                        under_way.append((step, fetching))
                        step = await anext(steps, None)
                        continue
                    sent, fetched = under_way.popleft()
                    try:
                        leaf = await fetched
                    finally:
                        del fetched  # its error holds this frame; see `raising`
                    seen_s = await self._see_committed(block.source, seen_s)
                    yield sent.before
                    if leaf:
                        yield leaf
                    del leaf  # sent: not to be held while the next one is waited for
                    memory.give(sent.size)
            finally:
                for _, task in under_way:
                    task.cancel()
                await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)

    async def _walk(self, block: Block, span: Span, *, again: bool) -> AsyncGenerator[_Step]:
        """Yield the leaves of a tree, each with the nodes that come before it."""
        source = block.source
        root = _parsed(block.cid, block.node or b"")
        before = bytearray(car_header([block.cid]))
        # Leaves by number, which those that are alike share; nodes by digest.
        sent = bytearray(-(-source.payload_size // LEAF_SIZE))
        nodes: set[bytes] = set()
        waiting = [(root.link, 0)]
        while waiting:
            link, start = waiting.pop()
            if link.cid.codec is Codec.DAG_PB:
                if link.cid.digest in nodes and not again:
                    continue
                nodes.add(link.cid.digest)
                node = block.node if link.cid == block.cid else await self._node(source, link)
                node = node or b""
                before += car_section(link.cid, len(node)) + node
                below = _below(_parsed(link.cid, node), start, span)
                places = await self._places(source, below)
                waiting += [(child, at) for child, at in reversed(below)]
                continue
            leaf = places[link.cid.digest]
            if sent[leaf] and not again:
                continue
            sent[leaf] = 1
            before += car_section(link.cid, link.content_size)
            yield _Step(bytes(before), link.cid.digest, leaf, link.content_size)
            before.clear()
        if before:
            yield _Step(bytes(before))

    async def _node(self, source: Source, link: Link) -> bytes:
        node = await self._catalog.read(partial(find_node, source=source, digest=link.cid.digest))
        if node is None:
            raise record_damage_told(source.object_id, f"the block {link.cid} is not there")
        _check_node(source, link.cid.digest, node)
        return node

    async def _places(self, source: Source, below: list[tuple[Link, int]]) -> dict[bytes, int]:
        """Return which leaf is which, of those among the links of one node."""
        digests = {link.cid.digest for link, _ in below if link.cid.codec is Codec.RAW}
        if not digests:
            return {}
        places = await self._catalog.read(partial(find_leaves, source=source, digests=digests))
        if len(places) < len(digests):
            raise record_damage_told(source.object_id, "leaves of a node are not there")
        return places

    async def _fetch(self, source: Source, step: _Step) -> bytes:
        """Return the bytes of a leaf, which have its digest."""
        if step.leaf is None:
            return b""
        segment, position = divmod(step.leaf, SEGMENT_LEAVES)
        key = f"{self._payloads}{source.payload_id}/{segment}"
        wanted = Range(key, position * LEAF_SIZE, step.size, step.digest)
        store = self._store_of(source.backends)
        try:
            (leaf,) = await store.fetch(
                [wanted], lambda _at, found: _check(step.digest, found), self._threads
            )
            return leaf
        except (BlobMissing, BlobCorrupt) as error:
            damage = fresh(error)
        # Perhaps no damage: an erasure since the block was found deletes under its readers.
        await self._catalog.read(partial(require_committed, source=source))
        raise await damage_told(
            self._catalog,
            damage,
            object_id=source.object_id,
            payload_id=source.payload_id,
            segment=segment,
            store=store,
        )

    async def _see_committed(self, source: Source, seen_s: float) -> float:
        """Ask, before bytes go out, whether they still may: stores can keep what was erased.

        Return when that was seen last, which is ``seen_s`` if it is not long ago.
        """
        now_s = _now_s()
        if now_s - seen_s < COUNTS_AS_COMMITTED_S:
            return seen_s
        await self._catalog.read(partial(require_committed, source=source))
        return now_s


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def size_of(block: Block) -> int:
    """Return how many bytes a block has."""
    if block.node is not None:
        return len(block.node)
    return min(LEAF_SIZE, block.source.payload_size - block.leaf * LEAF_SIZE)


def content_size_of(block: Block) -> int:
    """Return how many bytes of the payload are in a block and below it."""
    if block.node is not None:
        return _parsed(block.cid, block.node).link.content_size
    return size_of(block)


async def _single(block: Block) -> AsyncGenerator[_Step]:
    """Yield the one step of an archive of one block."""
    size = size_of(block)
    before = car_header([block.cid]) + car_section(block.cid, size)
    if block.node is not None:
        yield _Step(before + block.node)
    else:
        yield _Step(before, block.cid.digest, block.leaf, size)


def _below(node: FileNode, start: int, span: Span) -> list[tuple[Link, int]]:
    """Return the links of a node to bytes of the span, each with where in the file it begins."""
    found = []
    for link in node.links:
        if start <= span.last and start + link.content_size > span.first:
            found.append((link, start))
        start += link.content_size
    return found


def _parsed(cid: CID, node: bytes) -> FileNode:
    parsed = parse_node(node)
    if not isinstance(parsed, FileNode):
        raise BlobCorrupt(f"the block {cid} is no node of a file")
    return parsed


def _check_node(source: Source, digest: bytes, node: bytes) -> None:
    if sha256(node).digest() != digest:
        detail = f"a node does not have its digest {digest.hex()}"
        raise record_damage_told(source.object_id, detail)


def _check(digest: bytes, block: bytes) -> bytes:
    if sha256(block).digest() != digest:
        raise BlobCorrupt(f"a block does not have its digest {digest.hex()}")
    return block
