"""Scrub: every copy is read again and again, at a set rate, before anybody needs it.

Goes through all that is placed, compares each leaf with its digest and marks what is missing or
corrupt as bad, which repair makes again from another store. What a store does not answer is looked
at in the next round.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from urn import mint

from .backends import KeyedStore, Member
from .backends.replica_reads import unseen
from .catalog import Catalog
from .catalog.copies import note_bad
from .catalog.scrubs import BEFORE_ALL, PlacedSegment, SegmentKey, list_segments_to_scrub
from .catalog.segments import load_segment_page
from .copies import check_copy
from .errors import BackendUnavailable, BlobCorrupt, BlobMissing, CatalogUnavailable
from .findings import remedy_of_copy
from .passes import Turn, TurnLost, run_passes, turn_at

logger = logging.getLogger(__name__)

NAME = "scrub"
PAGE = 100
SILENCE_S_MAX = 120.0
"""How long a store is waited for, for one leaf: a disk that hangs would be waited for for ever."""
REST_S = 600.0
"""How long a store is left alone that did not answer: it must not hold up what is in others."""


@dataclass(slots=True)
class ScrubReport:
    """What one pass did. Counts are of copies, each of one segment in one store."""

    right: int = 0
    bad: int = 0
    """Missing or corrupt, and marked: the log has the object and the store."""
    unread: int = 0
    """The store did not answer, or is not configured, or something went wrong that the log has:
    looked at in the next round."""
    bytes_read: int = 0
    ended: bool = False
    """The pass came to the end of all there is."""


class Scrub:
    """Scrub passes of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        members: Sequence[Member],
        threads: Executor,
        payloads: str,
        bytes_per_s: float,
        round_s: float,
    ) -> None:
        """``members`` are the stores of the configuration; ``payloads`` is the key prefix of all
        payloads, ending in ``/``; ``bytes_per_s`` is how much is read at most, of all stores
        together; ``round_s`` how long after the end of a round none is begun.
        """
        self._catalog = catalog
        self._members: Mapping[str, Member] = {member.name: member for member in members}
        self._resting: dict[str, float] = {}
        """Stores that did not answer, and until when they are not asked."""
        self._threads = threads
        self._payloads = payloads
        self._bytes_per_s = bytes_per_s
        self._round_s = round_s
        self.newest: ScrubReport | None = None
        """Of the last pass that this process made."""
        self.round_ended_ms: int | None = None
        """When all had been gone through the last time, by the catalog's clock, as far as this
        process knows."""

    async def run_forever(self, interval_s: float) -> None:
        """Run passes until cancelled."""
        await run_passes(NAME, partial(self.run_once, pause_s=self._round_s), interval_s)

    async def run_once(
        self, limit: int = 1000, *, pause_s: float = 0.0, within_s: float = math.inf
    ) -> ScrubReport:
        """Look at ``limit`` segments at most, in each store that has them, from where the pass
        before stopped, and begin none after ``within_s``.

        A report that is all zeros, and not ended, says that another process is at work, or that the
        last round ended less than ``pause_s`` ago.

        Raises:
            CatalogUnavailable

        """
        report = ScrubReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None:
                return report
            self.round_ended_ms = turn.round_ended_ms
            if turn.is_too_soon(pause_s):
                return report
            turn.end_s = time.monotonic() + within_s
            report.ended = turn.ended = await self._go_through(turn, limit, report)
        self.newest = report
        if report.bad or report.unread:
            told = {"right": report.right, "bad": report.bad, "unread": report.unread}
            logger.warning("scrub pass", extra=told)
        return report

    async def _go_through(self, turn: Turn, limit: int, report: ScrubReport) -> bool:
        """Return whether the end was reached."""
        after = _key_of(turn.position)
        while limit > 0:
            page = await self._catalog.read(
                partial(list_segments_to_scrub, after=after, limit=min(limit, PAGE))
            )
            if not page:
                return True
            for placed in page:
                await turn.reach(_text_of(after))
                if turn.is_over:
                    return False
                await self._look_at(placed, turn, report)
                after = placed.key
            limit -= len(page)
        await turn.reach(_text_of(after))
        return False

    async def _look_at(self, placed: PlacedSegment, turn: Turn, report: ScrubReport) -> None:
        payload_id, index = placed.key
        page = await self._catalog.read(
            partial(load_segment_page, payload_id=payload_id, first=index, count=1)
        )
        for backend in placed.backends if page else ():
            told: dict[str, object] = {
                "urn": mint(placed.object_id).urn,
                "segment": index,
                "store": backend,
            }
            try:
                store = self._well(backend)
                key = f"{self._payloads}{payload_id}/{index}"
                async with asyncio.timeout(SILENCE_S_MAX) as patience:
                    pacing = self._pacing(turn, report, patience)
                    await check_copy(store, key, page[0], self._threads, pacing)
                report.right += 1
            except TimeoutError:
                self._rest(backend)
                report.unread += 1
                logger.warning("store does not answer a scrub", extra=told)
            except BackendUnavailable as error:
                self._rest(backend)
                report.unread += 1
                logger.info("copy not read", extra=told | {"code": error.code})
            except (TurnLost, CatalogUnavailable):
                raise
            except (BlobMissing, BlobCorrupt) as error:
                note = partial(note_bad, payload_id=payload_id, segment=index, backend=backend)
                bad = await self._catalog.run(note)
                if bad is not None:  # else it was erased meanwhile
                    report.bad += 1
                    told |= {"kind": type(error).__name__, "copies_left": bad.copies_left}
                    told["remedy"] = remedy_of_copy(bad.copies_left)
                    logger.warning("copy is bad", extra=told)
            except Exception:
                # One that nobody has thought of keeps no other from being read.
                report.unread += 1
                logger.exception("copy not read, unexpectedly", extra=told)

    def _well(self, backend: str) -> KeyedStore:
        """Return a store that is not known to be ill.

        Raises:
            BackendUnavailable

        """
        member = self._members.get(backend)
        if member is None:
            raise BackendUnavailable(f"store {backend} is not configured")
        if not member.ready:
            raise unseen(member)
        if time.monotonic() < self._resting.get(backend, 0.0):
            raise BackendUnavailable(f"store {backend} did not answer lately")
        return member.store

    def _rest(self, backend: str) -> None:
        if time.monotonic() >= self._resting.get(backend, 0.0):
            self._resting[backend] = time.monotonic() + REST_S

    def _pacing(
        self, turn: Turn, report: ScrubReport, patience: asyncio.Timeout
    ) -> Callable[[int], Awaitable[None]]:
        """Return what is called after each leaf, and waits until the next one may be read."""
        clock = asyncio.get_running_loop().time
        began_s = clock()

        async def pause(size: int) -> None:
            nonlocal began_s
            report.bytes_read += size
            await turn.hold()
            patience.reschedule(None)  # it is we who wait now
            await asyncio.sleep(size / self._bytes_per_s - (clock() - began_s))
            began_s = clock()
            patience.reschedule(began_s + SILENCE_S_MAX)

        return pause


def _text_of(key: SegmentKey) -> str:
    return f"{key[0]}/{key[1]}"


def _key_of(position: str) -> SegmentKey:
    payload_id, slash, segment = position.rpartition("/")
    return (payload_id, int(segment)) if slash else BEFORE_ALL
