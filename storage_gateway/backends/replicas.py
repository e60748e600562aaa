"""Several stores as one: written to all of them, durable at a quorum, read from any that is right.

A blob counts as stored once stores in ``write_quorum`` failure domains have it. A store that is
slower than that goes on by itself; one that lies too far behind is left out until it has caught up.
A read goes to the store that serves best, and to the next one where that fails or lies.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull

from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter

T = TypeVar("T")

logger = logging.getLogger(__name__)

WRITE_ERRORS = (BackendUnavailable, StorageFull)
READ_ERRORS = (BackendUnavailable, BlobCorrupt, BlobMissing)
LAGGING_MAX = 4
"""Blobs that a store may still be taking when a quorum has them; with more it is left out."""
GRACE_S = 0.05
"""Beside as long again as the quorum took: what a store gets that is a little slower."""
RESTED_S = 5.0
"""How long a store that failed to read is asked last."""


class Member:
    """A store, where it stands, and how it did."""

    def __init__(self, store: KeyedStore, *, domain: str, ready: bool = True) -> None:
        """``domain`` is the failure domain.

        A store that is not ``ready`` is not written to, and what it lacks is not missing.
        """
        self.store = store
        self.domain = domain
        self.ready = ready
        """It was seen to be this deployment's: else it may be a mount point without its disk."""
        self.lagging = 0
        self.failed_at: float | None = None

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name


OnBad = Callable[[str, str, type[Exception]], None]
"""Told the key and the store of a replica that is missing or corrupt while another one is right."""


class Replicas:
    """The contract of a keyed store over several; see there for the methods."""

    name = "replicas"

    def __init__(
        self,
        members: Sequence[Member],
        *,
        write_quorum: int,
        on_bad: OnBad = lambda _key, _name, _kind: None,
    ) -> None:
        """The members' order is that in which they are read from.

        Raises ValueError when the quorum needs more failure domains than there are.
        """
        domains = {member.domain for member in members}
        if not 1 <= write_quorum <= len(domains):
            raise ValueError(f"a quorum of {write_quorum} among {len(domains)} failure domains")
        self.members = tuple(members)
        self.write_quorum = write_quorum
        self.on_bad = on_bad
        self._late: set[asyncio.Task[tuple[str, ...]]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """All members; see the contract."""
        return tuple(member.name for member in self.members)

    async def close(self) -> None:
        """Give up what lags behind; the members are closed by who made them."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def wait_late(self) -> None:
        """Wait until nothing lags behind."""
        while self._late:
            await asyncio.wait(self._late)

    def create(self, key: str) -> "ReplicatedWriter":
        """Begin a blob in every store that is well; see the contract."""
        well = [m for m in self.members if m.ready and m.lagging < LAGGING_MAX]
        if len({m.domain for m in well}) < self.write_quorum:
            well = [m for m in self.members if m.ready]
        return ReplicatedWriter(self, [(m, m.store.create(key)) for m in well])

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob durably; see the contract."""
        ready = [member for member in self.members if member.ready]
        outcomes = await asyncio.gather(
            *(member.store.put(key, data) for member in ready), return_exceptions=True
        )
        placed = {m.domain for m, outcome in zip(ready, outcomes, strict=True) if outcome is None}
        if len(placed) < self.write_quorum:
            _raise_first(outcomes)
            raise BackendUnavailable("too few stores are within reach")

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range from the first store that has it; see the contract."""
        return await self._first(key, lambda store: store.get(key, offset, size))

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges, each from a store whose bytes pass; see the contract."""
        best = self._ranked()[0]
        try:
            return await best.store.fetch(ranges, check, threads)
        except READ_ERRORS as error:
            self._note(best, error)

        async def one(at: int, wanted: Range) -> T:
            def check_it(_: int, data: bytes) -> T:
                return check(at, data)

            found = await self._first(
                wanted.key, lambda store: store.fetch([wanted], check_it, threads)
            )
            return found[0]

        # One range may be bad in one store, and another one in another.
        return [await one(at, wanted) for at, wanted in enumerate(ranges)]

    async def stat(self, key: str) -> BlobInfo:
        """Return what the first store knows that has it; see the contract."""
        return await self._first(key, lambda store: store.stat(key))

    async def delete(self, key: str) -> None:
        """Remove a blob from all stores; those that can be reached lose it in any case."""
        unseen = [_unseen(member) for member in self.members if not member.ready]
        failed = await asyncio.gather(
            *(member.store.delete(key) for member in self.members), return_exceptions=True
        )
        _raise_first([*failed, *unseen])

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Yield what is in any store, each key once; what can be reached before any error."""
        unseen = [_unseen(member) for member in self.members if not member.ready]
        failed = await asyncio.gather(
            *(_listed(member.store, prefix) for member in self.members), return_exceptions=True
        )
        found = {blob.key: blob for blobs in failed if isinstance(blobs, list) for blob in blobs}
        for key in sorted(found):
            yield found[key]
        _raise_first([*failed, *unseen])

    def let_lag(self, member: Member, writing: "asyncio.Task[tuple[str, ...]]") -> None:
        """See a write to its end that nobody waits for any more."""
        member.lagging += 1
        self._late.add(writing)

        def end(_: object) -> None:
            member.lagging -= 1
            self._late.discard(writing)
            error = None if writing.cancelled() else writing.exception()
            if error is not None:
                logger.warning(
                    "late write failed",
                    extra={"store": member.name, "kind": type(error).__name__},
                )

        writing.add_done_callback(end)

    def _ranked(self) -> tuple[Member, ...]:
        now = asyncio.get_running_loop().time()

        def rests(member: Member) -> bool:
            return member.failed_at is not None and now - member.failed_at < RESTED_S

        return tuple(sorted(self.members, key=lambda m: (rests(m), not m.ready)))

    async def _first(self, key: str, ask: Callable[[KeyedStore], Coroutine[Any, Any, T]]) -> T:
        """Ask one store after the other; raise what tells most when none can serve."""
        errors: list[tuple[Member, Exception]] = []
        for member in self._ranked():
            try:
                found = await ask(member.store)
            except READ_ERRORS as error:
                self._note(member, error)
                errors.append((member, error if member.ready else _unseen(member)))
                continue
            for bad, failure in errors:
                if not isinstance(failure, BackendUnavailable):
                    self.on_bad(key, bad.name, type(failure))
            return found
        # Not lost as long as a store that may have it is merely out of reach.
        raise min((failure for _, failure in errors), key=_rank)

    def _note(self, member: Member, error: Exception) -> None:
        if isinstance(error, BackendUnavailable):
            member.failed_at = asyncio.get_running_loop().time()
        logger.info("replica not read", extra={"store": member.name, "kind": type(error).__name__})


class ReplicatedWriter:
    """One blob on its way into several stores; see `SegmentWriter`."""

    def __init__(self, replicas: Replicas, writers: Sequence[tuple[Member, SegmentWriter]]) -> None:
        """Made by `Replicas.create`."""
        self._replicas = replicas
        self._writers = list(writers)
        self._lock = threading.Lock()
        self._failed: dict[str, Exception] = {}
        self._lagging: set[str] = set()

    def write(self, offset: int, data: memoryview) -> None:
        """Write to every store that took all before; see the contract."""
        for member, writer in self._living():
            try:
                writer.write(offset, data)
            except WRITE_ERRORS as error:
                self._give_up(member, error)
        self._require_quorum([member for member, _ in self._living()])

    async def finish(self) -> tuple[str, ...]:
        """Wait for a quorum, and a little for the others; see the contract."""
        clock = asyncio.get_running_loop().time
        began = clock()
        at_work = {
            asyncio.create_task(_finish(writer)): member for member, writer in self._living()
        }
        placed: list[Member] = []
        try:
            while at_work and not self._is_quorum(placed):
                done, _ = await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
                placed += self._ended(at_work, done)
            self._require_quorum(placed)
            if at_work:
                done, _ = await asyncio.wait(at_work, timeout=clock() - began + GRACE_S)
                placed += self._ended(at_work, done)
        except BaseException:
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)
            raise
        for member, writer in self._writers:
            if member.name in self._failed:
                at_work[asyncio.create_task(_let_go(writer))] = member
        for task, member in at_work.items():
            self._lagging.add(member.name)
            self._replicas.let_lag(member, task)
        return tuple(sorted(member.name for member in placed))

    async def abort(self) -> None:
        """Let go of it in every store; see the contract."""
        for member, writer in self._writers:
            if member.name not in self._lagging:
                await writer.abort()

    def _living(self) -> list[tuple[Member, SegmentWriter]]:
        with self._lock:
            return [(m, writer) for m, writer in self._writers if m.name not in self._failed]

    def _give_up(self, member: Member, error: Exception) -> None:
        with self._lock:
            self._failed[member.name] = error
        logger.warning(
            "store left out of a write", extra={"store": member.name, "kind": type(error).__name__}
        )

    def _ended(
        self,
        at_work: "dict[asyncio.Task[tuple[str, ...]], Member]",
        done: "set[asyncio.Task[tuple[str, ...]]]",
    ) -> list[Member]:
        """Return the stores that have it now; take what has ended out of ``at_work``."""
        placed = []
        for task in done:
            member = at_work.pop(task)
            error = task.exception()
            if error is None:
                placed.append(member)
            elif isinstance(error, WRITE_ERRORS):
                self._give_up(member, error)
            else:
                raise error
        return placed

    def _is_quorum(self, members: Sequence[Member]) -> bool:
        return len({member.domain for member in members}) >= self._replicas.write_quorum

    def _require_quorum(self, members: Sequence[Member]) -> None:
        if self._is_quorum(members):
            return
        errors = list(self._failed.values())
        absent = set(self._replicas.names) - {member.name for member in members}
        full = next((error for error in errors if isinstance(error, StorageFull)), None)
        raise full or BackendUnavailable(
            f"{self._replicas.write_quorum} stores must take what is written;"
            f" out of reach: {', '.join(sorted(absent))}"
        )


def _unseen(member: Member) -> BackendUnavailable:
    return BackendUnavailable(f"store {member.name} was not seen to be ours since the start")


def _rank(failure: Exception) -> int:
    return next(at for at, kind in enumerate(READ_ERRORS) if isinstance(failure, kind))


async def _finish(writer: SegmentWriter) -> tuple[str, ...]:
    return await writer.finish()


async def _let_go(writer: SegmentWriter) -> tuple[str, ...]:
    await writer.abort()
    return ()


async def _listed(store: KeyedStore, prefix: str) -> list[BlobInfo]:
    return [blob async for blob in store.list(prefix)]


def _raise_first(outcomes: Sequence[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
