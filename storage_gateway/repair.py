"""Repair: copies that a store should have and has not, or has wrong, are made from right ones.

What is to be made is written down already: in a commit that some store did not come along with
(pending), or by a read that found a copy missing or corrupt (bad). Nothing is deleted before a
whole right copy was read from other stores, and nothing counts as placed before it was read back
from where it was put. Every step can be done again, also by another process at the same time.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from urn import mint

from .backends import Member, Range, Replicas
from .backends.ipfs import IPFSStore
from .backends.replica_reads import unseen
from .backends.s3 import S3Store
from .backends.spool import Spool
from .catalog import Catalog
from .catalog.copies import BAD, mark_bad, stores_of
from .catalog.repairs import BEFORE_ALL, CopyKey, CopyToMake, list_copies_to_make, mark_placed
from .catalog.roots import expect_roots
from .catalog.segments import load_segment_page
from .copies import check_copy, leaf_ranges, read_leaf
from .errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    CatalogUnavailable,
    GatewayError,
    StorageFull,
)
from .findings import TRIED_AGAIN, remedy_of_copy
from .passes import Turn, TurnLost, run_passes, turn_at
from .records import Segment
from .roots import ROOT

logger = logging.getLogger(__name__)

NAME = "repair"
PAGE = 100
WAIT_S_MIN, WAIT_S_MAX = 60.0, 3600.0
"""How long a copy waits that could not be made, the first time and at most."""
ILL_WAIT_S = 120.0
"""The most where its store failed."""
WAITING_MAX = 10_000
"""Copies that are remembered for that."""
SETTLED_S = 120.0
"""How long a copy that is pending may still come by itself."""


@dataclass(slots=True)
class RepairReport:
    """What one pass did. Counts are of copies, each of one segment in one store."""

    made: int = 0
    found: int = 0
    """It had come late, or was restored: it is right, and nothing was to be made."""
    bytes_copied: int = 0
    lost: int = 0
    """No other store has the segment whole: see the log for the object and what to do."""
    failed: int = 0
    """Could not be made now; tried again later."""
    waiting: int = 0
    """Could not be made lately, or the store has failed in this pass: not tried in it."""
    ended: bool = False
    """The pass came to the end of all there is; else it stopped at its limit, or lost its lease."""


class _Lost(Exception):
    """No other store has it whole."""


class _TargetFailed(Exception):
    """The store that lacks the copy does not do what it is asked; the cause says why."""


class _Backoff:
    """Copies that could not be made, and when each is tried again: later and later."""

    def __init__(self) -> None:
        self._later: OrderedDict[CopyKey, tuple[float, float]] = OrderedDict()

    def is_waiting(self, copy: CopyToMake, now_s: float) -> bool:
        return now_s < self._later.get(copy.key, (0.0, 0.0))[0]

    def fail(self, copy: CopyToMake, now_s: float, *, wait_s_max: float = WAIT_S_MAX) -> None:
        _, before_s = self._later.pop(copy.key, (0.0, WAIT_S_MIN / 2))
        wait_s = min(2 * before_s, wait_s_max)
        self._later[copy.key] = now_s + wait_s, wait_s
        if len(self._later) > WAITING_MAX:
            self._later.popitem(last=False)

    def succeed(self, copy: CopyToMake) -> None:
        self._later.pop(copy.key, None)


class Repair:
    """Repair passes of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: Replicas | None,
        threads: Executor,
        payloads: str,
        spool: Path,
        check_room: Callable[[str], None] = lambda _store: None,
        settled_s: float | None = None,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``, ``spool`` a folder for a
        segment on its way. With one store alone there is nothing to copy from, nor to.
        ``check_room`` raises StorageFull when no segment should come to a store; it may block.
        """
        self._catalog = catalog
        self._store = store
        self._members: Mapping[str, Member] = (
            {} if store is None else {member.name: member for member in store.members}
        )
        self._threads = threads
        self._payloads = payloads
        self._spool = spool
        self._settled_s = SETTLED_S if settled_s is None else settled_s
        self._check_room = check_room
        self._backoff = _Backoff()
        self.newest: RepairReport | None = None
        """Of the last pass that this process made."""

    async def run_forever(self, interval_s: float) -> None:
        """Run passes until cancelled; with one store alone, none.

        Of all processes together one begins a round in ``interval_s``.
        """
        if self._members:
            await run_passes(NAME, partial(self.run_once, pause_s=interval_s), interval_s)

    async def run_once(
        self,
        limit: int = 1000,
        *,
        pause_s: float = 0.0,
        within_s: float = math.inf,
        at_once: bool = False,
    ) -> RepairReport:
        """Look at ``limit`` copies at most, from where the pass before stopped; begin none after
        ``within_s``.

        A report that is all zeros, and not ended, says that another process is at work, or that a
        round ended less than ``pause_s`` ago. ``at_once`` tries also what is to wait: something was
        done about it.

        Raises:
            CatalogUnavailable

        """
        report = RepairReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None or turn.is_too_soon(pause_s):
                return report
            if at_once and not turn.position:
                self._backoff = _Backoff()
            turn.end_s = time.monotonic() + within_s
            report.ended = turn.ended = await self._go_through(turn, limit, report)
        self.newest = report
        if report != RepairReport(ended=report.ended):
            told = {"made": report.made, "found": report.found, "bytes": report.bytes_copied}
            logger.info("repair pass", extra=told | {"lost": report.lost, "failed": report.failed})
        return report

    async def _go_through(self, turn: Turn, limit: int, report: RepairReport) -> bool:
        """Return whether the end was reached."""
        after = _key_of(turn.position)
        ill: set[str] = set()
        while limit > 0:
            page = await self._catalog.read(
                partial(
                    list_copies_to_make,
                    after=after,
                    limit=min(limit, PAGE),
                    settled_s=self._settled_s,
                )
            )
            if not page:
                return True
            for copy in page:
                await turn.reach(_text_of(after))
                if turn.is_over:
                    return False
                if copy.backend in ill or self._backoff.is_waiting(copy, time.monotonic()):
                    report.waiting += 1
                elif not await self._try(copy, turn, report):
                    ill.add(copy.backend)
                after = copy.key
            limit -= len(page)
        await turn.reach(_text_of(after))
        return False

    async def _try(self, copy: CopyToMake, turn: Turn, report: RepairReport) -> bool:
        """Make a copy, if that can be; False when its store should be left alone for now."""
        told: dict[str, object] = {
            "urn": mint(copy.object_id).urn,
            "segment": copy.segment,
            "store": copy.backend,
        }
        try:
            await self._make(copy, turn, report)
        except (TurnLost, CatalogUnavailable):
            raise
        except _Lost:
            report.lost += 1
            told |= {"copies_left": 0, "remedy": remedy_of_copy(0)}
            logger.error("a segment is whole in no other store", extra=told)  # noqa: TRY400 - no fault of ours
        except _TargetFailed as error:
            report.failed += 1
            told |= await self._left(copy)
            logger.warning("copy not made", extra=told | {"kind": type(error.__cause__).__name__})
            # Soon again, but behind others: it may be this copy that the store cannot take.
            self._backoff.fail(copy, time.monotonic(), wait_s_max=ILL_WAIT_S)
            return False
        except GatewayError as error:
            report.failed += 1
            told |= await self._left(copy)
            logger.warning("copy not made", extra=told | {"code": error.code})
        except Exception:
            # One that nobody has thought of keeps no other from being made.
            report.failed += 1
            told |= await self._left(copy)
            logger.exception("copy not made, unexpectedly", extra=told)
        else:
            self._backoff.succeed(copy)
            return True
        self._backoff.fail(copy, time.monotonic())
        return True

    async def _left(self, copy: CopyToMake) -> dict[str, object]:
        """Return what is told of a copy that could not be made."""
        stores = partial(stores_of, payload_id=copy.payload_id, segment=copy.segment)
        return {"copies_left": len(await self._catalog.read(stores)), "remedy": TRIED_AGAIN}

    async def _make(self, copy: CopyToMake, turn: Turn, report: RepairReport) -> None:
        store, target = self._store, self._members.get(copy.backend)
        page = await self._catalog.read(
            partial(load_segment_page, payload_id=copy.payload_id, first=copy.segment, count=1)
        )
        if target is None or not page or store is None:
            return  # configured no more, or erased since the list was read
        order = _Order(copy, page[0], f"{self._payloads}{copy.payload_id}/{copy.segment}", target)
        with _of_target():
            if not target.ready:
                raise unseen(target)
            is_there = _is_durable(order) and await self._is_right(order)
        if is_there:
            report.found += 1
        else:
            await self._copy(store, order, turn)
            report.made += 1
            report.bytes_copied += order.segment.size
        if not await self._catalog.run(partial(mark_placed, copy=copy)):
            # Erased meanwhile: the list of what is to go may have been read before this came.
            await target.delete(order.key)

    async def _is_right(self, order: "_Order") -> bool:
        try:
            await check_copy(order.target.store, order.key, order.segment, self._threads)
        except (BlobMissing, BlobCorrupt):
            return False
        return True

    async def _copy(self, store: Replicas, order: "_Order", turn: Turn) -> None:
        """Fetch the segment from the other stores, then put it where it is wanted."""
        with _of_target():
            await asyncio.to_thread(self._check_room, order.target.name)
        names = [name for name in self._members if name != order.target.name]
        others = store.among(names, write_quorum=1)
        spool = Spool(self._spool, store=order.target.name)
        try:
            for wanted in leaf_ranges(order.key, order.segment):
                try:
                    leaf = await read_leaf(others, wanted, self._threads)
                except (BlobMissing, BlobCorrupt):
                    raise _Lost from None
                await asyncio.to_thread(spool.write, wanted.offset, memoryview(leaf))
                del leaf
                await turn.hold()
            await turn.keep(turn.position)  # nobody else is at it: it may be right by now
            await self._replace(order, spool)
        finally:
            await spool.close()

    async def _replace(self, order: "_Order", spool: Spool) -> None:
        """Remove what is there, put what is right, and look at it.

        What goes wrong from here on leaves nothing that counts as placed.
        """
        try:
            with _of_target():
                await self._remove(order)
                await self._put(order, spool)
                is_right = await self._is_right(order)
            if not is_right:
                # A node that has a block does not take it again: only what is not pinned goes.
                with _of_target():
                    await order.target.delete(order.key)
                raise BlobCorrupt(f"{order.key} is not what was just put into {order.target.name}")
        except BaseException:
            await asyncio.shield(self._catalog.run(order.mark_bad))
            raise

    async def _remove(self, order: "_Order") -> None:
        node = order.target.bare
        if isinstance(node, IPFSStore) and order.copy.state == BAD:
            # It is above the segment and keeps it, whatever is wrong with it; it comes again.
            copy = order.copy
            root_key = f"{self._payloads}{copy.payload_id}/{ROOT}"
            with suppress(BlobMissing):
                await node.stat(root_key)
                # Before it goes: nothing else says that it is to come.
                expect = partial(expect_roots, payload_id=copy.payload_id, backends=[node.name])
                await self._catalog.run(expect)
                await node.delete(root_key)
        await order.target.delete(order.key)

    async def _put(self, order: "_Order", spool: Spool) -> None:
        writer = order.target.store.create(order.key)
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            for wanted in leaf_ranges(order.key, order.segment):
                writing = loop.run_in_executor(None, _move, spool, writer.write, wanted)
                await asyncio.shield(writing)
            await writer.finish()
        finally:
            # A thread cannot be stopped: its file must not be closed under it.
            if writing is not None:
                await asyncio.wait([writing])
            await writer.abort()


@dataclass(frozen=True, slots=True)
class _Order:
    """A copy that is being made."""

    copy: CopyToMake
    segment: Segment
    key: str
    target: Member

    def mark_bad(self, connection: Connection) -> bool:
        copy = self.copy
        return mark_bad(connection, copy.payload_id, copy.segment, copy.backend)


def _is_durable(order: _Order) -> bool:
    """Tell whether what can be read in the store is there to stay.

    A file that a write left behind was perhaps never synced, and can be read all the same.
    """
    is_remote = isinstance(order.target.bare, S3Store | IPFSStore)
    return is_remote or order.copy.state == BAD


@contextmanager
def _of_target() -> Iterator[None]:
    try:
        yield
    except (BackendUnavailable, StorageFull) as error:
        raise _TargetFailed from error


def _move(spool: Spool, write: Callable[[int, memoryview], None], wanted: Range) -> None:
    if spool.memory is not None:
        data = bytes(spool.memory[wanted.offset : wanted.offset + wanted.size])
    else:
        data = spool.read(wanted.offset, wanted.size)
    write(wanted.offset, memoryview(data))


def _text_of(key: CopyKey) -> str:
    return "/".join(map(str, key))


def _key_of(position: str) -> CopyKey:
    if not position:
        return BEFORE_ALL
    payload_id, segment, backend = position.split("/")
    return payload_id, int(segment), backend
