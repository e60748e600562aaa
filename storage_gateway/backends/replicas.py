"""Several stores as one: written to all of them, durable at a quorum, read from any that is right.

A blob counts as stored once stores in ``write_quorum`` failure domains have it. A store that is
slower than that goes on by itself; one that lies too far behind is left out until it has caught up.
One that failed some times in a row is asked only now and then, or where no other is left. To delete
and to list it is not asked then at all, and the others are: the deletion, or the list, has failed.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from copy import copy
from typing import TypeVar

from storage_gateway.errors import BackendUnavailable, StorageFull
from storage_gateway.raising import fresh

from .contract import BlobInfo, Check, Range, SegmentWriter
from .member import Member
from .replica_reads import OnBad, ReplicaReads, unseen

T = TypeVar("T")

logger = logging.getLogger(__name__)

WRITE_ERRORS = (BackendUnavailable, StorageFull)
LAGGING_MAX = 4
"""Blobs that a store may still be taking when a quorum has them; with more it is left out."""
GRACE_S = 0.05
"""Beside as long again as the quorum took: what a store gets that is a little slower."""
GRACE_S_MAX = 5.0
"""Of that: whoever sent what a quorum has is not kept waiting for one that hangs."""


OnEnd = Callable[[Member, BaseException | None], None]
"""Told how a write of a store ended."""


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
        """Of members that serve alike the first ones are read from.

        Raises ValueError when the quorum needs more failure domains than there are.
        """
        _check_quorum(members, write_quorum)
        self.members = tuple(members)
        self.write_quorum = write_quorum
        self.reads = ReplicaReads(self.members, on_bad)
        self._late: set[asyncio.Task[tuple[str, ...]]] = set()

    def among(self, names: Collection[str], *, write_quorum: int) -> "Replicas":
        """Return the same over those of these names alone, with a quorum of their own.

        What is known of each store, and what still lags behind, is one for both: it is this one
        that is closed. Raises ValueError as `Replicas` does.
        """
        view = copy(self)
        view.members = tuple(member for member in self.members if member.name in names)
        _check_quorum(view.members, write_quorum)
        view.write_quorum = write_quorum
        view.reads = self.reads.among(view.members)
        return view

    @property
    def names(self) -> tuple[str, ...]:
        """All members; see the contract."""
        return tuple(member.name for member in self.members)

    @property
    def rest(self) -> bool:
        """Whether reads of all members failed too often lately, and none is to be tried again."""
        now = asyncio.get_running_loop().time()
        return not any(m.reads.is_closed or m.reads.wants_probe(now) for m in self.members)

    @property
    def some_answered(self) -> bool:
        """Whether a member at least answered when it was last read from."""
        return any(member.reads.was_answered for member in self.members)

    async def close(self) -> None:
        """Give up what lags behind; the members are closed by who made them."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self.reads.close()

    async def wait_late(self) -> None:
        """Wait until nothing lags behind."""
        while self._late:
            await asyncio.wait(self._late)

    def create(self, key: str) -> "ReplicatedWriter":
        """Begin a blob in every store that is well; see the contract."""
        ready = [m for m in self.members if m.ready]
        keep_up = [m for m in ready if m.lagging < LAGGING_MAX]
        well = [m for m in keep_up if m.writes.is_closed]
        now = asyncio.get_running_loop().time()
        if self.is_quorum(well):
            chosen = [m for m in keep_up if m in well or m.writes.wants_probe(now)]
        else:
            chosen = ready
        return ReplicatedWriter(self, [(m, m.store.create(key)) for m in chosen])

    def is_quorum(self, members: Iterable[Member]) -> bool:
        """Tell whether they stand in enough failure domains."""
        return len({member.domain for member in members}) >= self.write_quorum

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob durably; see the contract."""
        ready = [member for member in self.members if member.ready]
        outcomes = await asyncio.gather(
            *(member.store.put(key, data) for member in ready), return_exceptions=True
        )
        if not self.is_quorum(m for m, o in zip(ready, outcomes, strict=True) if o is None):
            _raise_first(outcomes)
            raise BackendUnavailable("too few stores are within reach")

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range from the first store that has it; see the contract."""
        return await self.reads.get(key, offset, size)

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges, each from a store whose bytes pass; see the contract."""
        return await self.reads.fetch(ranges, check, threads)

    async def stat(self, key: str) -> BlobInfo:
        """Return what the first store knows that has it; see the contract."""
        return await self.reads.stat(key)

    async def delete(self, key: str) -> None:
        """Remove a blob from all stores; those that can be reached lose it in any case."""
        not_seen = self._unseen()
        failed = await asyncio.gather(
            *(member.delete(key) for member in self.members), return_exceptions=True
        )
        _raise_first([*failed, *not_seen])

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield what is in any store, each key once; what can be reached before any error."""
        not_seen = self._unseen()
        failed = await asyncio.gather(
            *(member.list(prefix) for member in self.members), return_exceptions=True
        )
        found = {blob.key: blob for blobs in failed if isinstance(blobs, list) for blob in blobs}
        for key in sorted(found):
            if key > after:
                yield found[key]
        _raise_first([*failed, *not_seen])

    def _unseen(self) -> Sequence[BackendUnavailable]:
        return [unseen(member) for member in self.members if not member.ready]

    def let_lag(
        self, member: Member, writing: "asyncio.Task[tuple[str, ...]]", on_end: OnEnd
    ) -> None:
        """See a write to its end that nobody waits for any more; ``on_end`` is told of it."""
        member.lagging += 1
        self._late.add(writing)

        def end(_: object) -> None:
            member.lagging -= 1
            self._late.discard(writing)
            if writing.cancelled():
                on_end(member, asyncio.CancelledError())
                return
            error = writing.exception()
            on_end(member, error)
            if error is not None:
                logger.warning(
                    "late write failed",
                    extra={"store": member.name, "kind": type(error).__name__},
                )

        writing.add_done_callback(end)


class ReplicatedWriter:
    """One blob on its way into several stores; see `SegmentWriter`."""

    def __init__(self, replicas: Replicas, writers: Sequence[tuple[Member, SegmentWriter]]) -> None:
        """Made by `Replicas.create`."""
        self.held = asyncio.Event()
        self._replicas = replicas
        self._writers = list(writers)
        self._lock = threading.Lock()
        self._clock = asyncio.get_running_loop().time
        # Of those of which it is not known yet how the write ended: whether it is the probe.
        self._probes = {member.name: member.writes.enter(self._clock()) for member, _ in writers}
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

    def only_copies(self, size: int) -> bool:
        """Tell whether every store only copies it; see the contract."""
        return all(writer.only_copies(size) for _, writer in self._writers)

    async def finish(self) -> tuple[str, ...]:
        """Wait for a quorum, and a little for the others; see the contract."""
        began = self._clock()
        at_work = {
            asyncio.create_task(_finish(writer)): member for member, writer in self._living()
        }
        placed: list[Member] = []
        try:
            while at_work and not self._is_quorum(placed):
                done, _ = await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
                placed += self._ended(at_work, done)
                if placed:
                    self.held.set()
            self._require_quorum(placed)
            if at_work:
                grace_s = min(GRACE_S_MAX, self._clock() - began) + GRACE_S
                done, _ = await asyncio.wait(at_work, timeout=grace_s)
                placed += self._ended(at_work, done)
        except BaseException:
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)
            raise
        for member, writer in self._writers:
            if member.name in self._failed:
                self._count(member, self._failed[member.name])
                at_work[asyncio.create_task(_let_go(writer))] = member
        for task, member in at_work.items():
            self._lagging.add(member.name)
            self._replicas.let_lag(member, task, self._count)
        return tuple(sorted(member.name for member in placed))

    async def abort(self) -> None:
        """Let go of it in every store; see the contract."""
        for member, writer in self._writers:
            if member.name not in self._lagging:
                self._count(member, self._failed.get(member.name, asyncio.CancelledError()))
                await writer.abort()

    def _living(self) -> list[tuple[Member, SegmentWriter]]:
        with self._lock:
            return [(m, writer) for m, writer in self._writers if m.name not in self._failed]

    def _give_up(self, member: Member, error: Exception) -> None:
        with self._lock:
            self._failed[member.name] = fresh(error)
        logger.warning(
            "store left out of a write", extra={"store": member.name, "kind": type(error).__name__}
        )

    def _count(self, member: Member, outcome: BaseException | None) -> None:
        """Count how the write of a store ended, once."""
        if (probe := self._probes.pop(member.name, None)) is None:
            return
        if outcome is None:
            member.writes.succeed()
        elif isinstance(outcome, BackendUnavailable):
            member.writes.fail(self._clock(), probe=probe)
        else:
            member.writes.drop(self._clock(), probe=probe)

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
                self._count(member, None)
            elif isinstance(error, WRITE_ERRORS):
                self._give_up(member, error)
            else:
                raise error
        return placed

    def _is_quorum(self, members: Sequence[Member]) -> bool:
        return self._replicas.is_quorum(members)

    def _require_quorum(self, members: Sequence[Member]) -> None:
        if self._is_quorum(members):
            return
        for error in self._failed.values():
            if isinstance(error, StorageFull):
                raise fresh(error)
        absent = set(self._replicas.names) - {member.name for member in members}
        raise BackendUnavailable(
            f"{self._replicas.write_quorum} stores must take what is written;"
            f" out of reach: {', '.join(sorted(absent))}"
        )


def _check_quorum(members: Sequence[Member], write_quorum: int) -> None:
    domains = {member.domain for member in members}
    if not 1 <= write_quorum <= len(domains):
        raise ValueError(f"a quorum of {write_quorum} among {len(domains)} failure domains")


async def _finish(writer: SegmentWriter) -> tuple[str, ...]:
    return await writer.finish()


async def _let_go(writer: SegmentWriter) -> tuple[str, ...]:
    await writer.abort()
    return ()


def _raise_first(outcomes: Sequence[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
