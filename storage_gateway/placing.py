"""Bringing a payload into the store: leaves become segments, segments become durable.

Leaves are sealed (or verified), hashed and written in worker threads, several at a time; the order
of their completion does not matter. A leaf that comes in parts, as it does while memory is short,
has them placed one after the other. A segment's row is in the catalog before its first byte leaves
the process. Reading pauses while too many leaves are under way or while an older segment lacks its
placement, so one upload holds about six leaves in memory, whatever its size.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from crypto import LEAF_SIZE, SEGMENT_LEAVES, LeafTagger, Secret, new_tag_key, sealed_size

from .backends import KeyedStore, SegmentWriter
from .memory import Account
from .records import Segment

LEAVES_IN_FLIGHT_MAX = 4
SEGMENTS_UNPLACED_MAX = 2

Produce = Callable[[], bytes | bytearray]
"""Makes the sealed bytes of one part of a leaf; runs in a worker thread."""
OpenSegment = Callable[[int, Sequence[Segment]], Awaitable[None]]
"""Commits a segment's row, and the segments that became durable since the last call."""


@dataclass(frozen=True, slots=True)
class _PlacedLeaf:
    digest: bytes
    tag: bytes
    size: int


@dataclass(slots=True)
class _Segment:
    index: int
    writer: SegmentWriter
    tag_key: Secret = field(default_factory=lambda: new_tag_key(os.urandom))
    leaves: list["_Leaf"] = field(default_factory=list)
    placed: "asyncio.Future[None] | None" = None


class _Leaf:
    """A leaf on its way; its parts are worked on one after the other."""

    def __init__(self, segment: _Segment, position: int) -> None:
        self._segment = segment
        self._start = position * LEAF_SIZE
        self._digest = hashlib.sha256()
        self._tagger = LeafTagger(segment.tag_key, position)
        self._size = 0
        self.newest_part: asyncio.Task[None] | None = None

    def place(self, sealed: bytes | bytearray) -> None:
        """Write the next part and take it into digest and tag; runs in a worker thread."""
        self._segment.writer.write(self._start + self._size, memoryview(sealed))
        self._tagger.update(sealed)
        self._digest.update(sealed)
        self._size += len(sealed)

    async def placed(self) -> _PlacedLeaf:
        """Wait for the last part."""
        if self.newest_part is not None:
            await self.newest_part
        return _PlacedLeaf(self._digest.digest(), self._tagger.finish(), self._size)


class Placer:
    """Places one payload. Use: `place` each part in order, then `finish`; `quiesce` in any case."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        threads: Executor,
        store: KeyedStore,
        *,
        prefix: str,
        open_segment: OpenSegment,
        memory: Account,
    ) -> None:
        """``prefix`` is the payload's folder, ending in ``/``."""
        self._group = group
        self._threads = threads
        self._store = store
        self._prefix = prefix
        self._open_segment = open_segment
        self._memory = memory
        self._in_flight = asyncio.Semaphore(LEAVES_IN_FLIGHT_MAX)
        self._segments: list[_Segment] = []
        self._leaf: _Leaf | None = None
        self._at_work: set[asyncio.Future[None]] = set()
        self._newly_placed: list[Segment] = []
        self.leaf_count = 0
        self.leaf_digests: list[tuple[bytes, int]] = []

    async def place(self, produce: Produce, size: int, *, ends_leaf: bool) -> None:
        """Take the next part, which holds ``size`` bytes of memory until it is in the store.

        Returns when there is room for another one.
        """
        if self._leaf is None:
            self._leaf = await self._next_leaf()
        segment, leaf = self._segments[-1], self._leaf
        await self._in_flight.acquire()
        leaf.newest_part = self._group.create_task(
            self._place_part(leaf, leaf.newest_part, produce, size)
        )
        if ends_leaf:
            self._leaf = None
            if len(segment.leaves) == SEGMENT_LEAVES:
                self._close_segment(segment)

    async def place_whole(self, prepare: Callable[[], Awaitable[Produce]], size: int) -> None:
        """Take a body that is one part, and nothing before it; return when it is durable.

        What `place` and `finish` do together, without their tasks: of a few KiB they cost more than
        all that is done with the bytes. ``prepare`` returns what makes the sealed ones. It is
        called once the segment's row is committed: the disk works while others are sealed.
        """
        leaf = await self._next_leaf()
        segment = self._segments[-1]
        produce = await prepare()
        if segment.writer.only_copies(sealed_size(size)):
            try:
                leaf.place(produce())
            finally:
                self._memory.give(size)
        else:
            await self._in_thread(leaf, produce, size)
        await self._place_segment(segment)
        segment.placed = asyncio.get_running_loop().create_future()
        segment.placed.set_result(None)

    async def finish(self) -> list[Segment]:
        """Wait until everything is durable; return the segments not yet told to the catalog."""
        if self._segments and self._segments[-1].placed is None:
            self._close_segment(self._segments[-1])
        for segment in self._segments:
            if segment.placed is not None:
                await segment.placed
        return self._take_newly_placed()

    async def wait_held(self) -> None:
        """Wait until each segment is durable in some store, though `finish` may wait for more.

        To be asked when everything was placed: what a segment still lacks is not waited for.
        """
        for segment in tuple(self._segments):
            await segment.writer.held.wait()

    async def quiesce(self) -> None:
        """Wait for threads that are still at work: only then may their blobs be deleted."""
        if self._at_work:
            await asyncio.wait(self._at_work)
        for segment in self._segments:
            await segment.writer.abort()
            # A task that failed holds what it worked on by its error, and is held by that here.
            segment.placed = None
            for leaf in segment.leaves:
                leaf.newest_part = None

    async def _next_leaf(self) -> _Leaf:
        segment_index, position = divmod(self.leaf_count, SEGMENT_LEAVES)
        if position == 0:
            await self._next_segment(segment_index)
        self.leaf_count += 1
        segment = self._segments[-1]
        leaf = _Leaf(segment, position)
        segment.leaves.append(leaf)
        return leaf

    async def _next_segment(self, index: int) -> None:
        if len(self._segments) >= SEGMENTS_UNPLACED_MAX:
            oldest = self._segments[0]
            if oldest.placed is not None:
                await oldest.placed
            self._segments.pop(0)
        await self._open_segment(index, self._take_newly_placed())
        self._segments.append(_Segment(index, self._store.create(f"{self._prefix}{index}")))

    def _take_newly_placed(self) -> list[Segment]:
        taken, self._newly_placed = self._newly_placed, []
        self.leaf_digests += [
            (digest, min(LEAF_SIZE, segment.size - at * LEAF_SIZE))
            for segment in sorted(taken, key=lambda s: s.index)
            for at, digest in enumerate(segment.leaf_digests)
        ]
        return taken

    async def _place_part(
        self, leaf: _Leaf, before: "asyncio.Task[None] | None", produce: Produce, size: int
    ) -> None:
        try:
            if before is not None:
                await before
            await self._in_thread(leaf, produce, size)
        finally:
            self._in_flight.release()

    async def _in_thread(self, leaf: _Leaf, produce: Produce, size: int) -> None:
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: leaf.place(produce())
        )
        self._at_work.add(future)
        future.add_done_callback(lambda done: self._leave(done, size))
        # A thread cannot be stopped: a cancelled task must leave its future to `quiesce`.
        await asyncio.wait([future])
        try:
            future.result()
        finally:
            del future  # its error holds this frame; see `raising`

    def _leave(self, future: "asyncio.Future[None]", size: int) -> None:
        self._at_work.discard(future)
        self._memory.give(size)
        if not future.cancelled():
            future.exception()  # looked at, also when the task that wanted it is gone

    def _close_segment(self, segment: _Segment) -> None:
        segment.placed = self._group.create_task(self._place_segment(segment))

    async def _place_segment(self, segment: _Segment) -> None:
        leaves = [await leaf.placed() for leaf in segment.leaves]
        stores = await segment.writer.finish()
        self._newly_placed.append(
            Segment(
                index=segment.index,
                size=sum(leaf.size for leaf in leaves),
                leaf_digests=tuple(leaf.digest for leaf in leaves),
                tag_key=segment.tag_key,
                leaf_tags=tuple(leaf.tag for leaf in leaves),
                stores=stores,
            )
        )
