"""Collect: what lies in a store and nothing names is found, marked, and deleted in a later round.

A store is listed first and the catalog read after, so that an upload which begins meanwhile is
named before it is seen. What is named by nothing is marked, and goes in a later round, when it was
seen to be so for as long as the dwell. Where much would go at once nothing does: that is a mistake,
of an operator or of ours, until somebody says that it is none.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial

from .backends import Member
from .backends.replica_reads import unseen
from .catalog import Catalog
from .catalog.high_water import is_behind
from .catalog.orphans import (
    OrphanSum,
    count_ripe,
    list_ripe,
    mark_orphans,
    may_go,
    sum_orphans,
    unmark,
    unmark_after,
)
from .errors import BackendUnavailable, BlobMissing, GatewayError
from .listing import Found, Page, holding_of
from .passes import Turn, run_passes, turn_at

logger = logging.getLogger(__name__)

NAME = "gc"
TICK_S = 60.0
"""So often a round goes on, until it has ended."""
PAYLOADS_MAX = 10_000
"""Looked at and deleted in one turn."""
PAGE = 100
SILENCE_S_MAX = 120.0
"""How long a store is waited for, for one page or deletion."""
BRAKE = 100
BRAKE_SHARE = 100
"""Of what a store has, so many payloads, or one in so many, may go in a round without a word."""
HALF = 2
"""But never more than one in so many: else a catalog that was emptied would empty a small store."""
TOLD_MAX = 200


@dataclass(slots=True)
class CollectReport:
    """What one pass did. Counts are of payloads, each in one store."""

    seen: int = 0
    orphans: int = 0
    """Named by nothing."""
    marked: int = 0
    """Those that were not known."""
    unmarked: int = 0
    """Were marked, and are named again or not there any more."""
    deleted: int = 0
    blobs_deleted: int = 0
    bytes_deleted: int = 0
    strange: int = 0
    """Keys among payloads that nothing of ours wrote: left alone."""
    skipped: int = 0
    """Stores that did not answer, or were not seen to be ours."""
    braked: int = 0
    """Would have been deleted, and are too many to go without an operator's word."""
    behind: bool = False
    """The catalog is older than what the stores have seen: nothing was done."""
    ended: bool = False
    """The pass came to the end of all there is."""


class _StoreFailed(Exception):
    """A store does not do what it is asked; the cause says why."""


@dataclass(slots=True)
class _Place:
    """How far a round came."""

    store: str = ""
    taking: bool = False
    """All that the store has was looked at: what is old enough goes."""
    seen: int = 0
    """Payloads that were seen in it in this round."""
    after: str = ""

    @property
    def text(self) -> str:
        return f"{self.store}/{int(self.taking)}/{self.seen}/{self.after}"


@dataclass(slots=True)
class _Work:
    """One turn."""

    turn: Turn
    place: _Place
    left: int
    confirm: int
    report: CollectReport

    async def go_on(self, count: int) -> bool:
        """Note how far it came, with ``count`` payloads more; False when the turn is over."""
        self.left -= count
        await self.turn.reach(self.place.text)
        return self.left > 0 and not self.turn.is_over


class Collect:
    """Collecting passes of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        members: Sequence[Member],
        payloads: str,
        marker: str,
        dwell_s: float,
        interval_s: float,
        check_current: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``members`` are the stores of the configuration; ``payloads`` is the key prefix of all
        payloads, ending in ``/``, ``marker`` the key of the deployment's marker; ``dwell_s`` is how
        long an orphan is kept, ``interval_s`` how long after the end of a round none is begun.

        ``check_current`` is called before anything is deleted, and raises GatewayError when the
        catalog is not the newest there is.
        """
        self._catalog = catalog
        self._members: Mapping[str, Member] = {member.name: member for member in members}
        self._payloads = payloads
        self._marker = marker
        self._dwell_ms = max(1, int(dwell_s * 1000))
        self._longest_ms = int(2 * interval_s * 1000)
        self._interval_s = interval_s
        self.check_current = check_current
        self.newest: CollectReport | None = None
        """Of the last pass that this process made."""
        self.round_ended_ms: int | None = None
        """When all had been gone through the last time, by the catalog's clock, as far as this
        process knows."""
        self.orphans: Mapping[str, OrphanSum] = {}
        """How much of each store nothing names, when this process looked last."""
        self.braked: dict[str, int] = {}
        """How many payloads would have gone from a store, and were too many."""

    async def run_forever(self) -> None:
        """Run passes until cancelled."""
        run = partial(self.run_once, pause_s=self._interval_s)
        await run_passes(NAME, run, min(TICK_S, self._interval_s))

    async def run_once(
        self,
        limit: int = PAYLOADS_MAX,
        *,
        pause_s: float = 0.0,
        within_s: float = math.inf,
        confirm: int = 0,
    ) -> CollectReport:
        """Look at ``limit`` payloads, about, from where the pass before stopped, and begin nothing
        after ``within_s``. Where no more than ``confirm`` would go from a store they go.

        A report that is all zeros, and not ended, says that another process is at work, or that the
        last round ended less than ``pause_s`` ago.

        Raises:
            CatalogUnavailable
            GatewayError: what ``check_current`` raises.

        """
        report = CollectReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None:
                return report
            self.round_ended_ms = turn.round_ended_ms
            if turn.is_too_soon(pause_s):
                return report
            if await self._catalog.read(is_behind):
                report.behind = report.ended = True
                await turn.keep("")  # what was seen until now is to be seen again
                if self.newest is None or not self.newest.behind:  # it is asked every minute
                    logger.error("nothing is collected: the catalog is older than the stores")
            else:
                turn.end_s = time.monotonic() + within_s
                work = _Work(turn, _place_of(turn.position), limit, confirm, report)
                report.ended = turn.ended = await self._go_through(work)
            self.orphans = await self._catalog.read(sum_orphans)
        self.newest = report
        if report.marked or report.unmarked or report.deleted or report.strange:
            logger.info("gc pass", extra=asdict(report))
        return report

    async def _go_through(self, work: _Work) -> bool:
        """Return whether the end was reached."""
        for name in sorted(self._members):
            if name < work.place.store:
                continue
            if name != work.place.store:
                work.place = _Place(name)
            try:
                if not await self._go_through_store(self._members[name], work):
                    return False
            except _StoreFailed as failed:
                # It may have anything: neither are its marks gone, nor do they grow old.
                work.report.skipped += 1
                kind = type(failed.__cause__).__name__
                logger.warning("store not collected", extra={"store": name, "kind": kind})
        return True

    async def _go_through_store(self, member: Member, work: _Work) -> bool:
        async with self._asking():
            if not member.ready:
                raise unseen(member)
            try:
                await member.store.stat(self._marker)
            except BlobMissing:
                raise BackendUnavailable(f"store {member.name} lacks our marker") from None
        return await self._look(member, work) and await self._take(member, work)

    async def _look(self, member: Member, work: _Work) -> bool:
        """Look at all that is in the store, and mark; False when the turn is over before."""
        place = work.place
        if place.taking:
            return True
        holding = holding_of(member, self._payloads)
        async with aclosing(holding.pages(place.after)) as pages:
            while not place.taking:
                async with self._asking():
                    page = await anext(pages)
                await self._mark(member, page, work)
                if not page.seen and not page.ended:
                    await work.turn.hold()
                    continue
                place.after, place.taking = ("", True) if page.ended else (page.last, False)
                if not await work.go_on(len(page.seen)):
                    return False
        return True

    async def _mark(self, member: Member, page: Page, work: _Work) -> None:
        """Mark what nothing names of a page that was listed."""
        after, report = work.place.after, work.report
        work.place.seen += len(page.seen) + page.others
        report.seen += len(page.seen) + page.others
        if page.seen:
            mark = partial(
                mark_orphans,
                backend=member.name,
                seen=page.seen,
                after=after,
                last=page.last,
                longest_ms=self._longest_ms,
            )
            looked = await self._catalog.run(mark)
            report.orphans += looked.orphans
            report.marked += looked.marked
            report.unmarked += looked.unmarked
        if page.ended:
            rest = partial(unmark_after, backend=member.name, after=page.last or after)
            report.unmarked += await self._catalog.run(rest)
        if page.strange:
            report.strange += page.strange
            told = {"store": member.name, "keys": page.strange, "one": page.example[:TOLD_MAX]}
            logger.warning("strange keys among payloads, left alone", extra=told)

    async def _take(self, member: Member, work: _Work) -> bool:
        """Delete what is old enough, unless it is too much; False when the turn is over before."""
        if not await self._is_let_go(member.name, work):
            return True
        place = work.place
        while work.left > 0:
            list_page = partial(
                list_ripe,
                backend=member.name,
                dwell_ms=self._dwell_ms,
                after=place.after,
                limit=min(work.left, PAGE),
            )
            page = await self._catalog.read(list_page)
            if not page:
                return True
            if self.check_current is not None:
                await self.check_current()
            await work.turn.keep(place.text)  # nobody else is at it
            if not await self._take_page(member, page, work):
                return False
        return False

    async def _take_page(self, member: Member, page: Sequence[str], work: _Work) -> bool:
        holding = holding_of(member, self._payloads)
        async with aclosing(holding.find(page)) as everything:
            while work.place.after != page[-1]:
                async with self._asking():
                    found = await anext(everything)
                if found is None:
                    await work.turn.hold()
                    continue
                await self._delete(member.name, found, work.report)
                work.place.after = found.payload_id
                if not await work.go_on(1):
                    return False
        return True

    async def _is_let_go(self, store: str, work: _Work) -> bool:
        count = partial(count_ripe, backend=store, dwell_ms=self._dwell_ms)
        ripe = await self._catalog.read(count)
        is_braked = ripe > max(work.confirm, may_go_at_once(work.place.seen))
        self.braked[store] = ripe if is_braked else 0
        if is_braked:
            work.report.braked += ripe
            logger.error(
                "nothing is deleted: too much of a store is named by nothing. Is this the newest"
                " catalog, and is the store this deployment's alone? If all that is to go: passes"
                " run gc --confirm NUMBER",
                extra={"store": store, "payloads": ripe, "seen": work.place.seen},
            )
        return not is_braked

    async def _delete(self, store: str, found: Found, report: CollectReport) -> None:
        payload_id, dwell_ms = found.payload_id, self._dwell_ms
        # After it was found, as ever: what is named by now was not when it was marked.
        if not await self._catalog.run(lambda c: may_go(c, store, payload_id, dwell_ms)):
            return
        for remove in found.removals:
            async with self._asking():
                await remove()
        await self._catalog.run(lambda c: unmark(c, store, payload_id))
        report.deleted += 1
        report.blobs_deleted += len(found.removals)
        report.bytes_deleted += sum(found.sizes)
        told = {"store": store, "payload_id": payload_id, "blobs": len(found.removals)}
        logger.info("orphan deleted", extra=told)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Ask a store, and wait no longer than for ever.

        Raises:
            _StoreFailed

        """
        try:
            async with asyncio.timeout(SILENCE_S_MAX):
                yield
        except (GatewayError, TimeoutError) as error:
            raise _StoreFailed from error
        except Exception as error:
            # One that nobody has thought of keeps no other store from being looked at.
            logger.exception("store not collected, unexpectedly")
            raise _StoreFailed from error


def may_go_at_once(seen: int) -> int:
    """Return how many of so many payloads may go in one round without anybody's word."""
    return min(max(BRAKE, seen // BRAKE_SHARE), seen // HALF)


def _place_of(position: str) -> _Place:
    if not position:
        return _Place()
    store, taking, seen, after = position.split("/", 3)
    return _Place(store, taking == "1", int(seen), after)
