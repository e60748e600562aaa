"""The store of a simulated deployment: blobs in memory that are slow, torn, late and forgotten.

Two kinds. *Here*: the operations of a process stop with it, and a power cut takes what was not
synced. *Elsewhere*: what a process asked for is done even when it died or was paused meanwhile,
up to just under the late-write horizon later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from storage_gateway.backends import BlobInfo, Check, Range
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull

from .faults import Faults
from .world import Process, World

T = TypeVar("T")

OPERATION_S = 0.004
SLOW_S = 2.0


@dataclass(slots=True)
class Blob:
    """What is there under a key."""

    data: bytearray = field(default_factory=bytearray)
    durable: bool = False


@dataclass(slots=True)
class Shelf:
    """What the store holds, whoever asks."""

    world: World
    faults: Faults
    elsewhere: bool
    late_s_max: float
    blobs: dict[str, Blob] = field(default_factory=dict)

    def cut_power(self) -> None:
        """Forget what was not synced: all of it, some of it, or what was in its place before."""
        for key in sorted(self.blobs):
            blob = self.blobs[key]
            if blob.durable:
                continue
            if self.world.chance(0.5):
                del self.blobs[key]
                self.world.note("store", f"forgets {short(key)}")
            else:
                kept = self.world.random.randint(0, len(blob.data))
                blob.data[kept:] = bytes(len(blob.data) - kept)
                self.world.note("store", f"tears {short(key)} at byte {kept}")


class SimulatedStore:
    """One process's way to the store; keeps the contract of `KeyedStore`."""

    name = "simulated"
    names = (name,)

    def __init__(self, shelf: Shelf, process: Process) -> None:
        """Connect."""
        self.shelf = shelf
        self.world = shelf.world
        self.process = process

    def create(self, key: str) -> "SimulatedWriter":
        """Begin a blob; see the contract."""
        return SimulatedWriter(self, key)

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob; see the contract."""
        await self.operate(f"put {short(key)}", lambda: self.land(key, data))

    def land(self, key: str, data: bytes) -> None:
        """Have a whole blob there, durably."""
        self.shelf.blobs[key] = Blob(bytearray(data), durable=True)

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""

        def work() -> list[T]:
            return [check(at, self._read(r.key, r.offset, r.size)) for at, r in enumerate(ranges)]

        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _read(self, key: str, offset: int, size: int) -> bytes:
        self.fail_by_chance(f"read {short(key)}")
        blob = self.shelf.blobs.get(key)
        if blob is None:
            raise BlobMissing(f"{key} is missing")
        data = bytes(blob.data[offset : offset + size])
        if len(data) != size:
            raise BlobCorrupt(f"{key} ends at byte {offset + len(data)}")
        return data

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        return await self.operate(f"get {short(key)}", lambda: self._read(key, offset, size))

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""

        def look() -> BlobInfo:
            blob = self.shelf.blobs.get(key)
            if blob is None:
                raise BlobMissing(f"{key} is missing")
            return BlobInfo(key, len(blob.data))

        return await self.operate(f"stat {short(key)}", look)

    async def delete(self, key: str) -> None:
        """Remove a blob; see the contract."""
        await self.operate(f"delete {short(key)}", lambda: self.shelf.blobs.pop(key, None))

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract."""

        def look() -> list[BlobInfo]:
            keys = sorted(k for k in self.shelf.blobs if k.startswith(prefix) and k > after)
            return [BlobInfo(key, len(self.shelf.blobs[key].data)) for key in keys]

        for blob in await self.operate(f"list {short(prefix)}", look):
            yield blob

    def fail_by_chance(self, what: str) -> None:
        """Raise an error of the store, if it fails now."""
        if self.world.chance(self.shelf.faults.store_error):
            self.world.note("store", f"{self.process.name}: {what} fails")
            raise BackendUnavailable("the simulated store fails")

    async def operate(self, what: str, effect: Callable[[], T]) -> T:
        """Do something in the store that takes time, fails before or after, or is late."""
        faults, world = self.shelf.faults, self.world
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        slow = world.chance(faults.store_slow)
        delay = min(world.delay(SLOW_S if slow else OPERATION_S), self.shelf.late_s_max)
        # As late as can be, mostly: it is then that others have already cleared away.
        late_s = max(
            delay, world.random.triangular(0, self.shelf.late_s_max, self.shelf.late_s_max)
        )

        def act() -> None:
            if self.process.alive and not self.process.paused:
                do()
            elif world.chance(faults.store_late):
                # Never later after it was sent than the horizon allows.
                world.at(late_s - delay, do)
            elif self.process.alive:
                do()
            else:
                world.note("store", f"{self.process.name}: {what} is lost with its sender")

        def do() -> None:
            fails = world.chance(faults.store_error)
            if fails and world.chance(0.5):
                world.note("store", f"{self.process.name}: {what} fails")
                tell(None, BackendUnavailable("the simulated store fails"))
                return
            late = "" if self.process.alive else ", after its sender died"
            world.note("store", f"{self.process.name}: {what}{late}")
            try:
                answer = effect()
                self.process.on_step()
            except (BlobMissing, BlobCorrupt, BackendUnavailable, StorageFull) as error:
                tell(None, error)
                return
            if fails:
                world.note("store", f"{self.process.name}: {what} is answered with an error")
                tell(None, BackendUnavailable("the simulated store fails"))
            else:
                tell(answer, None)

        def tell(answer: T | None, error: Exception | None) -> None:
            # Later: the process may die between the deed and the word of it.
            told_after = world.delay(OPERATION_S / 2)
            world.at(told_after, lambda: _resolve(future, answer, error), self.process)

        world.at(0.0, self.process.on_step, self.process)
        world.at(delay, act, None if self.shelf.elsewhere else self.process)
        return await future


class SimulatedWriter:
    """One blob on its way; keeps the contract of `SegmentWriter`."""

    def __init__(self, store: SimulatedStore, key: str) -> None:
        """Nothing is stored yet."""
        self.held = asyncio.Event()
        self._store = store
        self._key = key
        self._data = bytearray()
        self._closed = False

    def write(self, offset: int, data: memoryview) -> None:
        """Take data; see the contract. What fails may have written a part."""
        store = self._store
        if self._closed:
            raise BackendUnavailable(f"{self._key} was let go of")
        fails = store.world.chance(store.shelf.faults.store_error)
        taken = bytes(data)
        if fails:
            taken = taken[: store.world.random.randint(0, len(taken))]
        if len(self._data) < offset + len(taken):
            self._data.extend(bytes(offset + len(taken) - len(self._data)))
        self._data[offset : offset + len(taken)] = taken
        if not store.shelf.elsewhere:
            # A file grows where others see it; an object elsewhere appears when it is whole.
            store.shelf.blobs.setdefault(self._key, Blob()).data[:] = self._data
        if fails:
            store.world.note("store", f"{store.process.name}: write {short(self._key)} is torn")
            raise BackendUnavailable("the simulated store fails")

    def only_copies(self, size: int) -> bool:
        """Say no: threads are a part of what is simulated."""
        return False

    async def finish(self) -> tuple[str, ...]:
        """Make it durable; see the contract."""

        def effect() -> None:
            shelf = self._store.shelf
            if not shelf.elsewhere and self._key not in shelf.blobs:
                raise BackendUnavailable(f"the folder of {self._key} is gone")
            self._store.land(self._key, bytes(self._data))

        await self._store.operate(f"finish {short(self._key)}", effect)
        return self._store.names

    async def abort(self) -> None:
        """Let go; see the contract."""
        self._closed = True


def short(key: str) -> str:
    """Return a key as the trace shows it."""
    parts = key.rstrip("/").split("/")
    return "/".join(part[:6] for part in parts[-2:])


def _resolve(future: "asyncio.Future[T]", answer: T | None, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)  # type: ignore[arg-type]
