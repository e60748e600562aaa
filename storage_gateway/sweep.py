"""Sweep: what nobody claims any more expires, and is erased when its grace is over.

One process at a time goes through what is due, and through what has expired, a page at a time. A
clock is believed as far as somebody attests it: where much would go by one that has leapt nothing
does, until an operator says so.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial

from retention import Action, Anchor, Clock, judge_clock, may_go

from .catalog import Catalog
from .catalog.sweeping import (
    Due,
    Phase,
    Place,
    Plan,
    Planned,
    count_due,
    count_living,
    count_revivable,
    expire,
    look_at_time,
    place_of,
    plan_page,
    revive,
    set_swept,
)
from .errors import BackendUnavailable, CatalogBehind, CatalogUnavailable, GatewayError
from .passes import Turn, run_passes, turn_at
from .records import Manifest

logger = logging.getLogger(__name__)

NAME = "sweep"
OBJECTS_MAX = 100_000
"""Looked at in one turn."""
PAGE = 1000
TOGETHER = 8
"""So many are erased at one time."""

EraseExpired = Callable[[str], Awaitable[Manifest | None]]


@dataclass(slots=True)
class SweepReport:
    """What one pass did. Counts are of objects."""

    looked: int = 0
    """Were gone through, those that are held among them."""
    expired: int = 0
    erased: int = 0
    revived: int = 0
    """Had expired by a clock that was ahead, and are readable again."""
    changed: int = 0
    """Were claimed, or erased, by somebody else meanwhile."""
    failed: int = 0
    """Could not be erased: the next round tries again."""
    braked: int = 0
    """Are due, and too many to go by a clock that nobody attests."""
    clock_behind: bool = False
    """The clock was set back: nothing expires, and nothing is erased, in this pass."""
    clock_leapt: bool = False
    """Much time has passed since the last sweep, and this process did not see it pass."""
    behind: bool = False
    """The catalog is older than what the stores have seen: nothing was done."""
    ended: bool = False
    """The pass came to the end of all there is."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The time at which a pass, or a look at what it would do, begins."""

    at_ms: int
    swept_ms: int | None
    clock: Clock
    is_behind: bool
    """The catalog is."""
    goes: bool
    """What is due expires, and is erased."""
    due: Due | None = None
    """How much that is, where it was asked."""
    living: int = 0

    @property
    def braked(self) -> int:
        """How many are due, and do not go without an operator's word."""
        if self.goes or self.is_behind or self.clock is not Clock.LEAPT or self.due is None:
            return 0
        return self.due.count


@dataclass(slots=True)
class _Round:
    """How far a round came."""

    began_ms: int
    whole: bool = True
    """Until now all that was due went."""
    place: Place = field(default_factory=Place)

    @property
    def text(self) -> str:
        return f"{self.began_ms}~{int(self.whole)}~{self.place.text}"


@dataclass(slots=True)
class _Work:
    """One turn."""

    turn: Turn
    round: _Round
    judged: Judged
    left: int
    report: SweepReport
    checked: bool = False
    """The stores were asked whether the catalog is the newest there is."""

    async def go_on(self, place: Place, count: int = 0) -> bool:
        """Note how far it came, with ``count`` entries more; False when the turn is over."""
        self.round.place = place
        self.left -= count
        self.report.looked += count
        await self.turn.reach(self.round.text)
        return self.left > 0 and not self.turn.is_over


class Sweep:
    """Sweeps of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        erase_expired: EraseExpired,
        share: float,
        leap_s: float,
        interval_s: float,
        check_current: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``share`` of what lives may go by a clock that has leapt by more than ``leap_s``;
        ``erase_expired`` is `Erasure.erase_expired`; ``clock`` is one that nobody sets.

        ``check_current`` is called before anything goes, and raises CatalogBehind when the catalog
        is not the newest there is, BackendUnavailable when nobody tells.
        """
        self._catalog = catalog
        self._erase_expired = erase_expired
        self._share = share
        self._leap_s = leap_s
        self._interval_s = interval_s
        self._check_current = check_current
        self._clock = clock
        self._anchor: Anchor | None = None
        """The oldest moment that this process can attest."""
        self.newest: SweepReport | None = None
        """Of the last pass that this process made."""
        self.round_ended_ms: int | None = None
        """When all had been gone through the last time, by the catalog's clock, as far as this
        process knows."""
        self.due: tuple[Due, float] | None = None
        """What was due, and was not done, when this process looked last; and for how many seconds
        the oldest of it had been due."""
        self.counts = {"expired": 0, "erased": 0, "revived": 0}
        """What this process did since it began."""

    async def run_forever(self) -> None:
        """Run rounds until cancelled, the first one at once: so the time is attested early."""
        await run_passes(NAME, self._run_round, self._interval_s, at_once=True)

    async def _run_round(self) -> None:
        """Go on until there is nothing more to do."""
        while True:
            report = await self.run_once(pause_s=self._interval_s)
            if report.ended or not report.looked:
                return

    async def run_once(
        self,
        limit: int = OBJECTS_MAX,
        *,
        pause_s: float = 0.0,
        within_s: float = math.inf,
        confirm: int = 0,
    ) -> SweepReport:
        """Look at ``limit`` objects, about, from where the pass before stopped, and begin nothing
        after ``within_s``. Where no more than ``confirm`` would go they go, if the clock has leapt.

        A report that is all zeros, and not ended, says that another process is at work, or that the
        last round ended less than ``pause_s`` ago.

        Raises:
            CatalogUnavailable

        """
        report = SweepReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None:
                return report
            self.round_ended_ms = turn.round_ended_ms
            if turn.is_too_soon(pause_s):
                return report
            turn.end_s = time.monotonic() + within_s
            judged = await self.judge(confirm=confirm)
            report.clock_behind = judged.clock is Clock.BEHIND
            report.clock_leapt = judged.clock is Clock.LEAPT
            report.braked = judged.braked
            work = _Work(turn, _round_of(turn.position, judged), judged, limit, report)
            try:
                report.ended = turn.ended = await self._go_through(work)
            except CatalogBehind:
                report.behind = report.ended = True
                await turn.keep("")
            self._tell(report, judged)
            self.due = await self._left(judged.at_ms)
        self.newest = report
        if report.expired or report.erased or report.revived or report.failed:
            logger.info("sweep pass", extra=asdict(report))
        return report

    async def judge(self, *, confirm: int = 0, count: bool = False) -> Judged:
        """Judge the time, and whether what is due may go; ``count``: and how much that is, which is
        counted in any case where it matters.

        Raises:
            CatalogUnavailable

        """
        found = await self._catalog.read(look_at_time)
        now = Anchor(found.now_ms, int(self._clock() * 1000))
        anchor = self._anchor = self._anchor or now
        clock = judge_clock(now, anchor=anchor, swept_ms=found.swept_ms, leap_s=self._leap_s)
        if clock is Clock.STEADY and not anchor.attests(now):
            # It was set by a little, or was believed by an operator: from now on this is seen.
            self._anchor = now
        due, living = None, 0
        if count or clock is Clock.LEAPT:
            due = await self._catalog.read(partial(count_due, at_ms=now.wall_ms))
            living = await self._catalog.read(count_living)
        ripe = 0 if due is None else due.count
        goes = may_go(ripe, living=living, clock=clock, share=self._share, confirmed=confirm)
        goes = goes and not found.is_behind
        return Judged(now.wall_ms, found.swept_ms, clock, found.is_behind, goes, due, living)

    async def verdicts(self, judged: Judged, place: Place, limit: int) -> Plan:
        """Return a page of what a pass would do now, and of what it would leave as it is.

        Raises:
            CatalogUnavailable

        """
        page = await self._plan(judged, place, limit, with_kept=True)
        room = limit - len(page.planned)
        if page.next is None or not room:
            return page
        more = await self._plan(judged, page.next, room, with_kept=True)
        return Plan([*page.planned, *more.planned], page.walked + more.walked, more.next)

    async def count_revivable(self, judged: Judged) -> int:
        """Return how many a pass would have readable again.

        Raises:
            CatalogUnavailable

        """
        return await self._catalog.read(partial(count_revivable, at_ms=judged.at_ms))

    def _tell(self, report: SweepReport, judged: Judged) -> None:
        """Log what keeps a pass from doing what is due, once: it is asked every minute."""
        before = self.newest or SweepReport()
        if report.behind and not before.behind:
            logger.error("nothing expires or is erased: the catalog is older than the stores")
        if report.clock_behind and not before.clock_behind:
            told = {"behind_s": ((judged.swept_ms or 0) - judged.at_ms) / 1000}
            logger.warning("the catalog's clock was set back: nothing expires now", extra=told)
        if report.braked and not before.braked:
            logger.error(
                "nothing expires or is erased: much would go by a clock that nobody has seen run"
                " since the last sweep. Is the time right? If all that is to go: passes run sweep"
                " --confirm NUMBER; passes run sweep --dry-run shows it",
                extra={"objects": report.braked, "living": judged.living},
            )

    async def _left(self, at_ms: int) -> tuple[Due, float]:
        due = await self._catalog.read(partial(count_due, at_ms=at_ms))
        return due, 0.0 if due.oldest_ms is None else (at_ms - due.oldest_ms) / 1000

    async def _plan(self, judged: Judged, place: Place, limit: int, *, with_kept: bool) -> Plan:
        plan = partial(plan_page, place=place, at_ms=judged.at_ms, limit=limit, with_kept=with_kept)
        return await self._catalog.read(plan)

    async def _go_through(self, work: _Work) -> bool:
        """Return whether the end was reached.

        Raises:
            CatalogBehind, CatalogUnavailable

        """
        judged = work.judged
        if judged.is_behind:
            raise CatalogBehind("nothing is swept by an old catalog")
        if not judged.goes and work.round.place.phase is Phase.DUE:
            work.round.place = Place(Phase.EXPIRED)
        while True:
            page = await self._plan(judged, work.round.place, PAGE, with_kept=False)
            if not await self._apply(page.planned, work):
                return False
            if page.next is None:
                work.report.looked += page.walked
                break
            if not await work.go_on(page.next, page.walked):
                return False
        if work.round.whole or judged.clock is Clock.BEHIND:
            # Set back where the clock was: else a leap that was mended would end all sweeps.
            began_ms = min(work.round.began_ms, judged.at_ms)
            await self._catalog.run(partial(set_swept, seen_ms=judged.swept_ms, new_ms=began_ms))
        return True

    async def _apply(self, planned: Sequence[Planned], work: _Work) -> bool:
        """Do what was planned; False when the turn is over before."""
        by_action: dict[Action, list[Planned]] = {action: [] for action in Action}
        for each in planned:
            by_action[each.verdict.action].append(each)
        at_ms, report = work.judged.at_ms, work.report
        if again := by_action[Action.REVIVE]:
            count = await self._catalog.run(partial(revive, planned=again, at_ms=at_ms))
            report.revived += count
            self._count("revived", count, again, report)
        if not work.judged.goes or not (by_action[Action.EXPIRE] or by_action[Action.ERASE]):
            return True
        await self._check(work)
        if over := by_action[Action.EXPIRE]:
            count = await self._catalog.run(partial(expire, planned=over, at_ms=at_ms))
            report.expired += count
            self._count("expired", count, over, report)
        erasable = by_action[Action.ERASE]
        for first in range(0, len(erasable), TOGETHER):
            some = erasable[first : first + TOGETHER]
            await asyncio.gather(*(self._erase(each, work) for each in some))
            await work.turn.hold()
            if not await work.go_on(some[-1].place):
                return False
        return True

    async def _check(self, work: _Work) -> None:
        if self._check_current is not None and not work.checked:
            with suppress(BackendUnavailable):  # what was found at the start, and since, counts
                await self._check_current()
            work.checked = True

    def _count(self, what: str, count: int, wanted: Sequence[Planned], report: SweepReport) -> None:
        self.counts[what] += count
        report.changed += len(wanted) - count

    async def _erase(self, planned: Planned, work: _Work) -> None:
        try:
            manifest = await self._erase_expired(planned.object_id)
        except CatalogUnavailable:
            raise
        except GatewayError as error:
            work.report.failed += 1
            work.round.whole = False
            told = {"object_id": planned.object_id, "code": error.code}
            logger.warning("object not erased", extra=told)
            return
        erased = int(manifest is not None)
        work.report.erased += erased
        self._count("erased", erased, [planned], work.report)


def _round_of(position: str, judged: Judged) -> _Round:
    """Return the round that is under way, or a new one: what was kept from going is begun again."""
    new = _Round(judged.at_ms, whole=judged.goes)
    if not position:
        return new
    began_ms, whole, text = position.split("~", 2)
    place = place_of(text)
    if place is None or (judged.goes and whole == "0"):
        return new
    return _Round(int(began_ms), whole == "1" and judged.goes, place)
