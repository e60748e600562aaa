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
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull

from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter

T = TypeVar("T")

OPERATIONS = ("write", "finish", "put", "read", "stat", "delete", "list")
WRITES = frozenset({"write", "finish", "put"})
READS = frozenset({"read", "stat"})


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
    hang: Mapping[str, float] = field(default_factory=dict)
    """Does nothing for `hang_s` and fails then, as a client does at its deadline."""
    hang_s: float = 1.0
    full: float = 0.0
    """Writes, at any of their steps, that find no space."""
    missing: float = 0.0
    """Reads that are told that there is no such blob."""
    forgets: bool = False
    """Says that it has stored a blob, and keeps nothing."""
    spoil: Callable[[str, bytes], bytes] | None = None
    """What a range that is read of a blob (its key, its bytes) is answered as."""
    at_point: Callable[[str], None] | None = None
    """Told of each step, "<operation> begins" and "<operation> done"; may block, from any
    thread but that of the event loop: where a process is to be killed or stopped. What happens
    beside payloads, as manifests are copied, is no step."""


NO_FAULTS = StoreFaults()
_ASIDE = ("/manifests/", "/sessions/", "/retentions/", "/high-water/")


def _is_aside(key: str) -> bool:
    return any(folder in key for folder in _ASIDE)


class FaultyStore:
    """A store over another one, with faults. Methods are those of the contract."""

    def __init__(self, inner: KeyedStore, *, seed: int, label: str = "store") -> None:
        """Begin without faults. Stores of one seed have draws of their own by their ``label``."""
        self.inner = inner
        self.name = inner.name
        self.faults = NO_FAULTS
        self.injected: collections.Counter[str] = collections.Counter()
        """How many faults there were, by kind and operation."""
        self.asked: collections.Counter[str] = collections.Counter()
        """How many calls there were, by operation."""
        self.damaged: dict[str, bytes] = {}
        """What lies where a key's blob was: read instead of it, until it is deleted or written."""
        self.finishing = 0
        """Blobs that it was asked to finish, and has not answered."""
        self._chances = {operation: Chance(seed, label, operation) for operation in OPERATIONS}
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
        return _FaultyWriter(self, key, self.inner.create(key))

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob; see the contract."""
        await self.before("put", key)
        if not self.is_forgotten():
            await self.inner.put(key, data)
            self.damaged.pop(key, None)
        await self.after("put", key)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        await self.before("read")
        data = await self.inner.get(key, offset, size)
        data = self._answered(Range(key, offset, size), data)
        await self.after("read")
        return data

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        for _ in ranges:
            await self.before("read")
        made = await self.inner.fetch(
            ranges, lambda at, data: check(at, self._answered(ranges[at], data)), threads
        )
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
        await self.before("delete", key)
        await self.inner.delete(key)
        self.damaged.pop(key, None)
        await self.after("delete", key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract."""
        await self.before("list", prefix)
        async for blob in self.inner.list(prefix, after=after):
            yield blob

    async def before(self, operation: str, key: str = "") -> None:
        """As `before_blocking`, for callers on an event loop."""
        self.asked[operation] += 1
        await asyncio.sleep(self._delay(operation))
        if self._hang(operation):
            await asyncio.sleep(self.faults.hang_s)
            raise self._hung()
        if self.faults.at_point is not None and not _is_aside(key):
            await asyncio.to_thread(self.faults.at_point, f"{operation} begins")
        self._refuse(operation)

    async def after(self, operation: str, key: str = "") -> None:
        """As `after_blocking`, for callers on an event loop."""
        if self.faults.at_point is not None and not _is_aside(key):
            await asyncio.to_thread(self.faults.at_point, f"{operation} done")
        self._lose_answer(operation)

    def before_blocking(self, operation: str) -> None:
        """Do what the plan says happens before an operation."""
        with self._lock:
            self.asked[operation] += 1
        delay_s = self._delay(operation)
        if delay_s:
            time.sleep(delay_s)
        if self._hang(operation):
            time.sleep(self.faults.hang_s)
            raise self._hung()
        if self.faults.at_point is not None:
            self.faults.at_point(f"{operation} begins")
        self._refuse(operation)

    def after_blocking(self, operation: str) -> None:
        """Do what the plan says happens after an operation."""
        if self.faults.at_point is not None:
            self.faults.at_point(f"{operation} done")
        self._lose_answer(operation)

    def part_of(self, size: int) -> int | None:
        """Return how many bytes of a write are stored when it is to be torn."""
        share = self.faults.torn
        if not self._drawn("write", share):
            return None
        self._count("torn write")
        return self._chances["write"].below(max(1, size))

    def torn(self) -> BackendUnavailable:
        """Return what a torn write raises."""
        return BackendUnavailable(f"store {self.name} stored a part only (injected)")

    def is_forgotten(self) -> bool:
        """Tell whether what is written now is to be acknowledged, and not kept."""
        if self.faults.forgets:
            self._count("forgotten write")
        return self.faults.forgets

    def _answered(self, asked: Range, data: bytes) -> bytes:
        """Return what is answered where a range of a blob is ``data``."""
        damaged = self.damaged.get(asked.key)
        if damaged is not None:
            self._count("damaged read")
            data = damaged[asked.offset : asked.offset + asked.size]
            if len(data) < asked.size:
                raise BlobCorrupt(f"{asked.key} in store {self.name} ends too soon (injected)")
        spoil = self.faults.spoil
        if spoil is None or (spoiled := spoil(asked.key, data)) == data:
            return data
        self._count("spoiled read")
        return spoiled

    def _hang(self, operation: str) -> bool:
        hangs = self._drawn(operation, self.faults.hang.get(operation, 0.0))
        if hangs:
            self._count(f"hung {operation}")
        return hangs

    def _hung(self) -> BackendUnavailable:
        return BackendUnavailable(f"store {self.name} did not answer in time (injected)")

    def _delay(self, operation: str) -> float:
        delay_s = self.faults.delay_s.get(operation, 0.0)
        if not delay_s:
            return 0.0
        self._count(f"slow {operation}")
        return self._chances[operation].fraction() * delay_s

    def _drawn(self, operation: str, share: float) -> bool:
        return bool(share) and self._chances[operation].fraction() < share

    def _refuse(self, operation: str) -> None:
        if self._drawn(operation, self.faults.refused.get(operation, 0.0)):
            self._count(f"refused {operation}")
            raise self._failed(operation)
        if operation in WRITES and self._drawn(operation, self.faults.full):
            self._count(f"full {operation}")
            raise StorageFull(f"no space left in store {self.name} (injected)")
        if operation in READS and self._drawn(operation, self.faults.missing):
            self._count(f"missing {operation}")
            raise BlobMissing(f"store {self.name} says that it has no such blob (injected)")

    def _lose_answer(self, operation: str) -> None:
        if self._drawn(operation, self.faults.lost_answer.get(operation, 0.0)):
            self._count(f"lost_answer {operation}")
            raise self._failed(operation)

    def _failed(self, operation: str) -> BackendUnavailable:
        return BackendUnavailable(f"store {self.name} failed to {operation} (injected)")

    def _count(self, what: str) -> None:
        with self._lock:
            self.injected[what] += 1


class _FaultyWriter:
    """One blob being written; see `SegmentWriter`."""

    def __init__(self, store: FaultyStore, key: str, inner: SegmentWriter) -> None:
        self._store = store
        self._key = key
        self._inner = inner
        self.held = inner.held

    def write(self, offset: int, data: memoryview) -> None:
        self._store.before_blocking("write")
        part = self._store.part_of(len(data))
        if part is not None:
            self._inner.write(offset, data[:part])
            raise self._store.torn()
        self._inner.write(offset, data)
        self._store.after_blocking("write")

    def only_copies(self, size: int) -> bool:  # noqa: ARG002 - whatever its size
        return False  # a fault may be one that takes its time

    async def finish(self) -> tuple[str, ...]:
        self._store.finishing += 1
        try:
            return await self._finish()
        finally:
            self._store.finishing -= 1

    async def _finish(self) -> tuple[str, ...]:
        await self._store.before("finish")
        if self._store.is_forgotten():
            await self._inner.abort()
            await self._store.inner.delete(self._key)
            return self._store.names
        placed = await self._inner.finish()
        self._store.damaged.pop(self._key, None)
        await self._store.after("finish")
        return placed

    async def abort(self) -> None:
        await self._inner.abort()
