"""Faults as a store: the contract over any keyed store, failing where a seeded plan says so.

For stress runs and tests. A plan can be exchanged while work is under way; with `NO_FAULTS` the
store behaves as the one below it.
"""

import asyncio
import collections
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from storage_gateway.chance import Chance
from storage_gateway.errors import BackendUnavailable

from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter

T = TypeVar("T")

OPERATIONS = ("write", "finish", "put", "read", "stat", "delete", "list")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFaults:
    """What goes wrong, as shares (0 to 1) of the calls of an operation; see `OPERATIONS`."""

    refused: Mapping[str, float] = field(default_factory=dict)
    """Fails before anything is done."""
    lost_answer: Mapping[str, float] = field(default_factory=dict)
    """Is done, and fails all the same."""
    torn: float = 0.0
    """Writes of which only a part is stored, after which they fail."""
    delay_s: Mapping[str, float] = field(default_factory=dict)
    """Each call takes up to so much longer."""
    at_point: Callable[[str], None] | None = None
    """Told of each step, "<operation> begins" and "<operation> done"; may block, from any
    thread but that of the event loop: where a process is to be killed or stopped."""


NO_FAULTS = StoreFaults()


class FaultyStore:
    """A store over another one, with faults. Methods are those of the contract."""

    def __init__(self, inner: KeyedStore, *, seed: int) -> None:
        """Begin without faults."""
        self.inner = inner
        self.name = inner.name
        self.faults = NO_FAULTS
        self.injected: collections.Counter[str] = collections.Counter()
        """How many faults there were, by kind and operation."""
        self._chances = {operation: Chance(seed, "store", operation) for operation in OPERATIONS}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the store below; see the contract."""
        return self.inner.names

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.faults = NO_FAULTS

    def create(self, key: str) -> SegmentWriter:
        """Begin a blob; see the contract."""
        return _FaultyWriter(self, self.inner.create(key))

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob; see the contract."""
        await self.before("put")
        await self.inner.put(key, data)
        await self.after("put")

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        await self.before("read")
        data = await self.inner.get(key, offset, size)
        await self.after("read")
        return data

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        for _ in ranges:
            await self.before("read")
        made = await self.inner.fetch(ranges, check, threads)
        for _ in ranges:
            await self.after("read")
        return made

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        await self.before("stat")
        found = await self.inner.stat(key)
        await self.after("stat")
        return found

    async def delete(self, key: str) -> None:
        """Remove a blob; see the contract."""
        await self.before("delete")
        await self.inner.delete(key)
        await self.after("delete")

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract."""
        await self.before("list")
        async for blob in self.inner.list(prefix):
            yield blob

    async def before(self, operation: str) -> None:
        """As `before_blocking`, for callers on an event loop."""
        await asyncio.sleep(self._delay(operation))
        if self.faults.at_point is not None:
            await asyncio.to_thread(self.faults.at_point, f"{operation} begins")
        self._fail(operation, self.faults.refused, "refused")

    async def after(self, operation: str) -> None:
        """As `after_blocking`, for callers on an event loop."""
        if self.faults.at_point is not None:
            await asyncio.to_thread(self.faults.at_point, f"{operation} done")
        self._fail(operation, self.faults.lost_answer, "lost_answer")

    def before_blocking(self, operation: str) -> None:
        """Do what the plan says happens before an operation."""
        delay_s = self._delay(operation)
        if delay_s:
            time.sleep(delay_s)
        if self.faults.at_point is not None:
            self.faults.at_point(f"{operation} begins")
        self._fail(operation, self.faults.refused, "refused")

    def after_blocking(self, operation: str) -> None:
        """Do what the plan says happens after an operation."""
        if self.faults.at_point is not None:
            self.faults.at_point(f"{operation} done")
        self._fail(operation, self.faults.lost_answer, "lost_answer")

    def part_of(self, size: int) -> int | None:
        """Return how many bytes of a write are stored when it is to be torn."""
        share = self.faults.torn
        if not share or self._chances["write"].fraction() >= share:
            return None
        self._count("torn write")
        return self._chances["write"].below(max(1, size))

    def torn(self) -> BackendUnavailable:
        """Return what a torn write raises."""
        return BackendUnavailable(f"store {self.name} stored a part only (injected)")

    def _delay(self, operation: str) -> float:
        delay_s = self.faults.delay_s.get(operation, 0.0)
        return self._chances[operation].fraction() * delay_s if delay_s else 0.0

    def _fail(self, operation: str, shares: Mapping[str, float], kind: str) -> None:
        share = shares.get(operation, 0.0)
        if share and self._chances[operation].fraction() < share:
            self._count(f"{kind} {operation}")
            raise BackendUnavailable(f"store {self.name} failed to {operation} (injected)")

    def _count(self, what: str) -> None:
        with self._lock:
            self.injected[what] += 1


class _FaultyWriter:
    """One blob being written; see `SegmentWriter`."""

    def __init__(self, store: FaultyStore, inner: SegmentWriter) -> None:
        self._store = store
        self._inner = inner

    def write(self, offset: int, data: memoryview) -> None:
        self._store.before_blocking("write")
        part = self._store.part_of(len(data))
        if part is not None:
            self._inner.write(offset, data[:part])
            raise self._store.torn()
        self._inner.write(offset, data)
        self._store.after_blocking("write")

    async def finish(self) -> tuple[str, ...]:
        await self._store.before("finish")
        placed = await self._inner.finish()
        await self._store.after("finish")
        return placed

    async def abort(self) -> None:
        await self._inner.abort()
