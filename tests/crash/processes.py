"""One process's use cases over a `World`, stopped at each of its steps by whoever wants to.

A *step* is one call on the disk, one transaction, one read of the catalog, or one answer to a
client. Its process asks the gate before each, so that a gate can take an image there, let another
process go on, or end this one. What would run in worker threads runs on the loop's own thread, one
piece at a time, while the loop has nothing else to do: the same order every time.
"""

import asyncio
import errno
import os
import threading
from asyncio.events import _set_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar, TypeVarTuple, Unpack

from crypto import Meta, X25519Identity
from storage_gateway.backends import KeyedStore, LocalStore, Member, Replicas
from storage_gateway.catalog import Catalog, Unit
from storage_gateway.catalog.sessions import load_session
from storage_gateway.catalog.work import renew_instance, start_instance
from storage_gateway.erase import Erasure
from storage_gateway.errors import CatalogUnavailable, GatewayError, StorageFull
from storage_gateway.read import Reads
from storage_gateway.records import INPUT, Manifest, Session, Slot
from storage_gateway.recovery import Recovery
from storage_gateway.write import Uploads
from tests.workers import SESSION, use_cases

from .world import Attempt, World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ROUTER = X25519Identity.generate()
LEASE_S = 60.0
HORIZON_S = 900.0
META = Meta(content_type="text/plain")
LOST = frozenset({"intent_lost", "backend_unavailable"})
"""What an upload is refused with that was claimed: both are 503. The second is that its file, or
the folder of it, was removed while it wrote.
"""
UNAVAILABLE = frozenset({"backend_unavailable", "catalog_unavailable", "storage_full"})
"""What an upload is refused with when a step of it failed."""

Gate = Callable[[str], None]


class Killed(BaseException):
    """Raised at a step of a process that is no more: nothing of it may take effect."""


class Failing(Exception):
    """Raised by a gate where a step is to fail, without effect or after it."""

    def __init__(self, number: int, *, took_effect: bool) -> None:
        super().__init__(number)
        self.number = number
        self.took_effect = took_effect


FAULTS: dict[str, Callable[[], Failing]] = {
    "fail": lambda: Failing(errno.EIO, took_effect=False),
    "full": lambda: Failing(errno.ENOSPC, took_effect=False),
    "lost": lambda: Failing(errno.EIO, took_effect=True),
}
"""Made anew each time: an exception keeps the frames that it passed through, with all they hold."""


class Stuck(Exception):
    """A process waits for what nobody does."""


class _Jobs:
    """Stands where a loop waits for the network: it does what others would do in threads."""

    def __init__(self, loop: "StepLoop") -> None:
        self.waiting: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is not None and timeout <= 0:
            return []
        if self.waiting:
            future, work = self.waiting.pop(self._loop.next_of(len(self.waiting)))
            _set_running_loop(None)  # this is a thread of its own, to those who ask
            try:
                answer = work()
            except BaseException as error:  # noqa: BLE001 - it goes to who waits for the job
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(answer)
            finally:
                _set_running_loop(self._loop)
        elif timeout is None:
            raise Stuck
        else:
            self._loop.now_s += timeout
        return []

    def close(self) -> None:
        """Nothing is open."""


class StepLoop(asyncio.BaseEventLoop):
    """A loop without threads, network and clock."""

    def __init__(self, order: Random | None) -> None:
        """``order`` says which waiting job is done next; by default the oldest."""
        super().__init__()
        self._order = order
        self._jobs = _Jobs(self)
        self._selector = self._jobs
        self.now_s = 0.0
        self.unseen: list[str] = []
        """Errors that were thrown away with their task."""
        self.set_exception_handler(
            lambda _loop, context: self.unseen.append(
                f"{context['message']}: {context.get('exception')!r}"
            )
        )

    def next_of(self, count: int) -> int:
        return 0 if self._order is None else self._order.randrange(count)

    def time(self) -> float:
        return self.now_s

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        self._jobs.waiting.append((future, partial(func, *args)))
        return future

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class StepFs:
    """The world's disk, each call a step."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world = world
        self._gate = gate

    def _step(self, name: str, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        try:
            self._gate(name)
        except Failing as failing:
            if failing.took_effect:
                function(*args)
            raise OSError(failing.number, os.strerror(failing.number)) from None
        return function(*args)

    def make_folder(self, path: Path) -> bool:
        return self._step("make_folder", self._world.fs.make_folder, path)

    def create(self, path: Path) -> int:
        return self._step("create", self._world.fs.create, path)

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        self._step("write_at", self._world.fs.write_at, descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._step("sync", self._world.fs.sync, descriptor)

    def close(self, descriptor: int) -> None:
        self._step("close", self._world.fs.close, descriptor)

    def sync_folder(self, path: Path) -> None:
        self._step("sync_folder", self._world.fs.sync_folder, path)

    def read_at(self, path: Path, offset: int, size: int) -> bytes:
        return self._step("read_at", self._world.fs.read_at, path, offset, size)

    def size(self, path: Path) -> int:
        return self._step("size", self._world.fs.size, path)

    def remove(self, path: Path) -> None:
        self._step("remove", self._world.fs.remove, path)

    def remove_folder(self, path: Path) -> None:
        self._step("remove_folder", self._world.fs.remove_folder, path)

    def scan(self, path: Path) -> Iterator[tuple[str, bool, int]]:
        return self._step("scan", self._world.fs.scan, path)


class StepCatalog(Catalog):
    """The world's catalog as one process sees it, each transaction and each read a step."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world = world
        self._gate = gate

    def _step(self, name: str, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        try:
            self._gate(name)
        except Failing as failing:
            if failing.took_effect:
                function(*args)
            if failing.number == errno.ENOSPC:
                raise StorageFull("for this test") from None
            raise CatalogUnavailable("for this test") from None
        return function(*args)

    async def run(self, unit: Unit[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, self.run_blocking, unit)

    def run_blocking(self, unit: Unit[T]) -> T:
        return self._step("transaction", self._world.ledger.run, unit)

    async def read(self, unit: Unit[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, self.read_blocking, unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        return self._step("read", self._world.ledger.read, unit)

    def clean_pages(self) -> bool:
        return self._step("clean_pages", lambda: True)

    def close(self) -> None:
        pass


class _NoThreads(ThreadPoolExecutor):
    """What a `StepLoop` never asks: it does the work itself."""

    def submit(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401
        raise AssertionError("a step would run in a thread")


@dataclass(slots=True)
class Process:
    """One process's use cases. Made by `start_process`, which takes its lease."""

    name: str
    world: World
    loop: StepLoop
    gate: Gate
    instance_id: str
    session: Session
    uploads: Uploads
    erasure: Erasure
    recovery: Recovery
    reads: Reads
    ended: bool = False
    failed: bool = False
    """A step of it was made to fail."""

    def run(self, script: Callable[["Process"], Coroutine[Any, Any, T]]) -> T:
        """Run a script to its end, with which the process ends."""
        try:
            return self.loop.run_until_complete(script(self))
        finally:
            self.ended = True
            self.loop.set_exception_handler(lambda _loop, _context: None)
            self.loop.run_until_complete(_end_tasks(self.loop))

    async def upload(
        self,
        task_id: str,
        content: bytes,
        seal: Callable[["Process", Slot], Awaitable[Manifest]],
        *,
        may_refuse: frozenset[str] = frozenset(),
    ) -> None:
        """Upload to a slot; what became of it is told to the world."""
        key = f"{self.name}:{task_id}"
        self.world.attempts[key] = Attempt(task_id, content)
        slot = Slot(SESSION, task_id, INPUT, None)
        try:
            await self.uploads.check(slot)
            manifest = await seal(self, slot)
        except GatewayError as error:
            fair = may_refuse | (LOST if self.world.time_passed else frozenset())
            fair |= UNAVAILABLE if self.failed else frozenset()
            await self._tell(key, refused=error.code, wronged=error.code not in fair)
        else:
            await self._tell(key, object_id=manifest.object_id)

    async def erase(self, key: str) -> None:
        """Erase what an attempt made."""
        attempts = self.world.attempts
        object_id = attempts[key].object_id
        assert object_id is not None
        attempts[key] = replace(attempts[key], erase_asked=True)
        try:
            await self.erasure.erase(object_id)
        except GatewayError as error:
            fair = UNAVAILABLE if self.failed else frozenset()
            await self._tell(key, wronged=error.code not in fair)
        else:
            await self._tell(key, erase_answered=True)

    async def _tell(self, key: str, **changes: Any) -> None:  # noqa: ANN401 - an attempt's fields
        await self.loop.run_in_executor(None, self.gate, "answer")
        self.world.attempts[key] = replace(self.world.attempts[key], **changes)

    async def let_pass(self, seconds: float) -> None:
        """Let time pass for all; only this process is awake and renews its lease. No step."""
        self.world.time_passed = True
        self.world.ledger.now_ms += int(seconds * 1000)
        await self.loop.run_in_executor(None, self.renew)

    def renew(self) -> None:
        """Renew the lease, as a process does as soon as it goes on after a pause."""
        self.world.ledger.run(lambda c: renew_instance(c, self.instance_id, LEASE_S))


def _open_store(world: World, fs: StepFs) -> KeyedStore:
    stores = [LocalStore(root, fs, name=name) for name, root in world.roots.items()]
    if len(stores) == 1:
        return stores[0]
    members = [Member(store, domain=store.name) for store in stores]
    return Replicas(members, write_quorum=world.write_quorum)


def start_process(
    world: World, name: str, gate: Gate = lambda _step: None, order: Random | None = None
) -> Process:
    """Start a process: a lease is taken, nothing else is done. No step."""

    def live_gate(step: str) -> None:
        if process.ended:
            raise Killed
        gate(step)

    catalog = StepCatalog(world, live_gate)
    store = _open_store(world, StepFs(world, live_gate))
    instance_id = name.rjust(32, "0")
    world.ledger.run(lambda c: start_instance(c, instance_id, LEASE_S))
    uses = use_cases(catalog, store, _NoThreads(1), ROUTER, instance_id, horizon_s=HORIZON_S)
    loop = StepLoop(order)
    world.ledger.loops.append(loop)
    process = Process(
        name=name,
        world=world,
        loop=loop,
        gate=live_gate,
        instance_id=instance_id,
        session=world.ledger.read(lambda c: load_session(c, SESSION)),
        uploads=uses.uploads,
        erasure=Erasure(catalog=catalog, settler=uses.settler),
        recovery=uses.recovery,
        reads=uses.reads,
    )
    return process


async def _end_tasks(loop: StepLoop) -> None:
    """Let what is still under way come to nothing."""
    while tasks := asyncio.all_tasks(loop) - {asyncio.current_task(loop)}:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()


async def whole(pieces: AsyncIterator[bytes | bytearray]) -> bytes:
    """Return all of them in one."""
    return b"".join([bytes(piece) async for piece in pieces])


class Actor:
    """A process on a thread of its own that takes a step only when told to.

    Threads, as one process must be stopped in the midst of a blocking call while another one goes
    on; but one at a time is awake, so there is no race.
    """

    def __init__(
        self,
        world: World,
        name: str,
        script: Callable[[Process], Coroutine[Any, Any, None]],
        order: Random | None = None,
    ) -> None:
        self.process = start_process(world, name, self._gate, order)
        self.finished = False
        self.error: BaseException | None = None
        self._script = script
        self._dead = False
        self._fault: Failing | None = None
        self._steps_left: int | None = 0
        self._awake = threading.Semaphore(0)
        self._asleep = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, name=f"process {name}", daemon=True)
        self._thread.start()

    def go_on(self, steps: int | None = None) -> None:
        """Take so many steps, or all that are left; returns when they are taken."""
        if self.finished:
            return
        self._steps_left = steps
        self._awake.release()
        if not self._asleep.acquire(timeout=60):
            raise Stuck(f"{self.process.name} did not come to its next step")

    def fail(self, fault: str) -> None:
        """Take one step, which fails in that way; an answer to a client cannot."""
        self._fault = FAULTS[fault]()
        self.go_on(1)

    def kill(self) -> None:
        """End it where it is: no further step of it takes effect."""
        self._dead = True
        self.go_on()
        self._thread.join()

    def _live(self) -> None:
        self._awake.acquire()
        try:
            if not self._dead:
                self.process.run(self._script)
        except BaseException as error:  # noqa: BLE001 - looked at by who plays the schedule
            self.error = error
        self.finished = True
        self._asleep.release()

    def _gate(self, step: str) -> None:
        if self._steps_left == 0 and not self._dead:
            self._asleep.release()
            self._awake.acquire()
        if self._dead:
            raise Killed
        if self._steps_left is not None:
            self._steps_left -= 1
        fault, self._fault = self._fault, None
        if fault is not None and step != "answer":
            self.process.failed = True
            raise fault
