"""Reading from several stores as one: the best is asked first, and one is not waited for alone.

A read goes to the store that serves best, to the next one where that fails or lies, and to both
where the first takes longer than nearly all of its reads do (it is *hedged*).

Memory: who reads has taken it once from the budget, and a hedged read holds its bytes up to twice.
Hedges are at most `HEDGE_SHARE` of all reads, and `HEDGES_SAVED_MAX` at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from storage_gateway.raising import fresh

from .allowance import Allowance
from .contract import BlobInfo, Check, KeyedStore, Range
from .member import Member

T = TypeVar("T")

logger = logging.getLogger(__name__)

READ_ERRORS = (BackendUnavailable, BlobCorrupt, BlobMissing)
HEDGE_SHARE = 0.1
"""Of the reads that may be asked of two stores at the same time."""
HEDGES_SAVED_MAX = 10.0
MEASURED_EVERY = 50
"""One of so many reads goes first to the store that was measured longest ago: what is never asked
would stay as slow, or as quick, as it was."""

Ask = Callable[[KeyedStore], Coroutine[Any, Any, T]]
OnBad = Callable[[str, str, type[Exception]], None]
"""Told the key and the store of a replica that is missing or corrupt while another one is right."""


class ReplicaReads:
    """The reading half of `Replicas`; see the contract for `get`, `fetch` and `stat`."""

    def __init__(self, members: Sequence[Member], on_bad: OnBad) -> None:
        """Of stores that are alike the first ones are read from."""
        self._members = members
        self._on_bad = on_bad
        self._numbers = count(1)
        self.hedges = Allowance(share=HEDGE_SHARE, saved_max=HEDGES_SAVED_MAX)
        self._cut_short: set[asyncio.Task[Any]] = set()

    def among(self, members: Sequence[Member]) -> "ReplicaReads":
        """Return the same with some of the stores; hedges and counts are one for both."""
        view = copy(self)
        view._members = members  # noqa: SLF001 - of its own class
        return view

    async def close(self) -> None:
        """Wait for the end of what was cut short."""
        await asyncio.gather(*self._cut_short, return_exceptions=True)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range from the first store that has it."""
        return await self._first(key, lambda store: store.get(key, offset, size))

    async def stat(self, key: str) -> BlobInfo:
        """Return what the first store knows that has it."""
        return await self._first(key, lambda store: store.stat(key))

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges, each from a store whose bytes pass."""
        silent: list[Member] = []
        if len(ranges) > 1:
            asking = _Asking(self, lambda store: store.fetch(ranges, check, threads))
            try:
                return await asking.run(self._ranked(()), goes_on=(BackendUnavailable,))
            except (BlobCorrupt, BlobMissing):
                silent = [m for m, error in asking.errors if isinstance(error, BackendUnavailable)]

        async def one(at: int, wanted: Range) -> T:
            def check_it(_: int, data: bytes) -> T:
                return check(at, data)

            found = await self._first(
                wanted.key, lambda store: store.fetch([wanted], check_it, threads), silent
            )
            return found[0]

        # One range may be bad in one store, and another one in another.
        return [await one(at, wanted) for at, wanted in enumerate(ranges)]

    async def _first(self, key: str, ask: Ask[T], silent: Sequence[Member] = ()) -> T:
        """Ask one store after the other; tell of those that turned out to be bad."""
        asking = _Asking(self, ask)
        found = await asking.run(self._ranked(silent), goes_on=READ_ERRORS)
        for bad, error in asking.errors:
            if not isinstance(error, BackendUnavailable):
                self._on_bad(key, bad.name, type(error))
        return found

    def _ranked(self, silent: Sequence[Member]) -> Iterable[Member]:
        """Return whom to ask, in that order; those that were ``silent`` a moment ago last."""
        self.hedges.earn()
        number = next(self._numbers)
        ranked = sorted(
            self._members,
            key=lambda m: (m in silent, not m.reads.is_closed, not m.ready, m.latency.rank),
        )
        tried = self._to_be_tried(number)
        if tried is not None and tried not in silent:
            ranked.remove(tried)
            ranked.insert(0, tried)
        return ranked

    def _to_be_tried(self, number: int) -> Member | None:
        """Return a store that is not the best, as far as is known, and is to be asked first."""
        if not self.hedges.is_left:
            return None  # the read could not go on without it
        now = asyncio.get_running_loop().time()
        ready = [member for member in self._members if member.ready]
        closed = [member for member in ready if member.reads.is_closed]
        rested = [member for member in ready if member.reads.wants_probe(now)]
        if closed and rested:
            return rested[0]
        if closed and number % MEASURED_EVERY == 0:
            return min(closed, key=lambda member: member.latency.measured_at)
        return None

    def cut_short(self, task: "asyncio.Task[Any]") -> None:
        """End a read that nobody waits for any more; in a thread it goes on to its end."""
        task.cancel()
        self._cut_short.add(task)

        def end(_: object) -> None:
            self._cut_short.discard(task)
            if not task.cancelled():
                task.exception()  # looked at: else it would be told of as forgotten

        task.add_done_callback(end)


@dataclass(frozen=True, slots=True)
class _Attempt:
    member: Member
    began: float
    is_probe: bool


@dataclass(slots=True)
class _Asking(Generic[T]):
    """One read: asked of one store after the other, or of two at once."""

    reads: ReplicaReads
    ask: Ask[T]
    errors: list[tuple[Member, Exception]] = field(default_factory=list)
    _at_work: "dict[asyncio.Task[T], _Attempt]" = field(default_factory=dict)

    async def run(self, ranked: Iterable[Member], *, goes_on: tuple[type[Exception], ...]) -> T:
        """Return the first good answer; after the errors ``goes_on`` the next store is asked.

        Raises what tells most when none can serve.
        """
        waiting = deque(ranked)
        try:
            while self._at_work or waiting:
                if not self._at_work:
                    self._begin(waiting.popleft())
                done, _ = await asyncio.wait(
                    self._at_work,
                    timeout=self._patience_s(waiting),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done and self.reads.hedges.spend():
                    (slow,) = self._at_work.values()
                    slow.member.hedged += 1
                    self._begin(waiting.popleft())
                for task in [task for task in self._at_work if task in done]:
                    if self._is_good(task, goes_on):
                        return task.result()
        finally:
            self._cut_short()
        # Not lost as long as a store that may have it is merely out of reach.
        raise fresh(min((error for _, error in self.errors), key=_rank))

    def _begin(self, member: Member) -> None:
        now = asyncio.get_running_loop().time()
        task = asyncio.create_task(self.ask(member.store))
        self._at_work[task] = _Attempt(member, now, member.reads.enter(now))

    def _patience_s(self, waiting: Sequence[Member]) -> float | None:
        """Return how long to wait before the next store is asked too; None: to the end."""
        if len(self._at_work) > 1 or not waiting or not waiting[0].reads.is_closed:
            return None
        (attempt,) = self._at_work.values()
        return attempt.member.latency.patience_s

    def _is_good(self, task: "asyncio.Task[T]", goes_on: tuple[type[Exception], ...]) -> bool:
        """Count how an attempt ended. Raises an error after which no other store is asked."""
        attempt, now = self._at_work.pop(task), asyncio.get_running_loop().time()
        member = attempt.member
        error = None if task.cancelled() else task.exception()
        if isinstance(error, READ_ERRORS):
            if isinstance(error, BackendUnavailable):
                member.reads.fail(now, probe=attempt.is_probe)
            else:
                member.reads.succeed()
            logger.info(
                "replica not read", extra={"store": member.name, "kind": type(error).__name__}
            )
            self.errors.append((member, fresh(error) if member.ready else unseen(member)))
            if not isinstance(error, goes_on):
                raise fresh(error)  # not itself: this frame holds its task; see `raising`
            return False
        try:
            task.result()
        except BaseException:
            member.reads.drop(now, probe=attempt.is_probe)
            raise
        member.reads.succeed()
        member.latency.observe(now - attempt.began, now)
        return True

    def _cut_short(self) -> None:
        now = asyncio.get_running_loop().time()
        for task, attempt in self._at_work.items():
            attempt.member.latency.cut_short(now - attempt.began, now)
            attempt.member.reads.drop(now, probe=attempt.is_probe)
            self.reads.cut_short(task)


def unseen(member: Member) -> BackendUnavailable:
    """Return why what a store does not have is not missing."""
    return BackendUnavailable(f"store {member.name} was not seen to be ours since the start")


def _rank(failure: Exception) -> int:
    return next(at for at, kind in enumerate(READ_ERRORS) if isinstance(failure, kind))
