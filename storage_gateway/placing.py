"""Bringing a payload into the store: leaves become segments, segments become durable.

Leaves are sealed (or verified), hashed and written in worker threads, several at a time; the order
of their completion does not matter. A segment's row is in the catalog before its first byte leaves
the process. Reading pauses while too many leaves are under way or while an older segment lacks its
placement, so one upload holds about six leaves in memory, whatever its size.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from crypto import LEAF_SIZE, SEGMENT_LEAVES, Secret, leaf_tag, new_tag_key

from .backends import KeyedStore, SegmentWriter
from .records import Segment

LEAVES_IN_FLIGHT_MAX = 4
SEGMENTS_UNPLACED_MAX = 2

Produce = Callable[[], bytes | bytearray]
"""Makes the sealed bytes of one leaf; runs in a worker thread."""
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
    leaves: list["asyncio.Task[_PlacedLeaf]"] = field(default_factory=list)
    placed: "asyncio.Task[None] | None" = None


class Placer:
    """Places one payload. Use: `place` each leaf in order, then `finish`; `quiesce` in any case."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        threads: Executor,
        store: KeyedStore,
        prefix: str,
        open_segment: OpenSegment,
    ) -> None:
        """``prefix`` is the payload's folder, ending in ``/``."""
        self._group = group
        self._threads = threads
        self._store = store
        self._prefix = prefix
        self._open_segment = open_segment
        self._in_flight = asyncio.Semaphore(LEAVES_IN_FLIGHT_MAX)
        self._segments: list[_Segment] = []
        self._at_work: set[asyncio.Future[_PlacedLeaf]] = set()
        self._newly_placed: list[Segment] = []
        self.leaf_count = 0
        self.leaf_digests: list[tuple[bytes, int]] = []

    async def place(self, produce: Produce) -> None:
        """Take the next leaf; returns when there is room for another one."""
        segment_index, position = divmod(self.leaf_count, SEGMENT_LEAVES)
        if position == 0:
            await self._next_segment(segment_index)
        self.leaf_count += 1
        await self._in_flight.acquire()
        segment = self._segments[-1]
        task = self._group.create_task(self._place_leaf(segment, position, produce))
        segment.leaves.append(task)
        if position == SEGMENT_LEAVES - 1:
            self._close_segment(segment)

    async def finish(self) -> list[Segment]:
        """Wait until everything is durable; return the segments not yet told to the catalog."""
        if self._segments and self._segments[-1].placed is None:
            self._close_segment(self._segments[-1])
        for segment in self._segments:
            if segment.placed is not None:
                await segment.placed
        return self._take_newly_placed()

    async def quiesce(self) -> None:
        """Wait for threads that are still at work: only then may their blobs be deleted."""
        if self._at_work:
            await asyncio.wait(self._at_work)
        for segment in self._segments:
            await segment.writer.abort()

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

    async def _place_leaf(self, segment: _Segment, position: int, produce: Produce) -> _PlacedLeaf:
        def work() -> _PlacedLeaf:
            sealed = produce()
            segment.writer.write(position * LEAF_SIZE, memoryview(sealed))
            tag = leaf_tag(segment.tag_key, position, sealed)
            return _PlacedLeaf(hashlib.sha256(sealed).digest(), tag, len(sealed))

        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            self._at_work.add(future)
            future.add_done_callback(self._leave)
            # A thread cannot be stopped: a cancelled task must leave its future to `quiesce`.
            await asyncio.wait([future])
            return future.result()
        finally:
            self._in_flight.release()

    def _leave(self, future: "asyncio.Future[_PlacedLeaf]") -> None:
        self._at_work.discard(future)
        if not future.cancelled():
            future.exception()  # looked at, also when the task that wanted it is gone

    def _close_segment(self, segment: _Segment) -> None:
        segment.placed = self._group.create_task(self._place_segment(segment))

    async def _place_segment(self, segment: _Segment) -> None:
        leaves = [await leaf for leaf in segment.leaves]
        await segment.writer.finish()
        self._newly_placed.append(
            Segment(
                index=segment.index,
                size=sum(leaf.size for leaf in leaves),
                leaf_digests=tuple(leaf.digest for leaf in leaves),
                tag_key=segment.tag_key,
                leaf_tags=tuple(leaf.tag for leaf in leaves),
            )
        )
