"""Repair: copies that a store should have and has not, or has wrong, are made from right ones.

What is to be made is written down already: in a commit that some store did not come along with
(pending), or by a read that found a copy missing or corrupt (bad). Nothing is deleted before a
whole right copy was read from other stores, and nothing counts as placed before it was read back
from where it was put. Every step can be done again, also by another process at the same time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from urn import mint

from .backends import Member, Range, Replicas
from .backends.spool import Spool
from .catalog import Catalog
from .catalog.objects import load_segment_page
from .catalog.repairs import BEFORE_ALL, CopyKey, CopyToMake, list_copies_to_make, mark_placed
from .copies import check_copy, leaf_ranges, read_leaf
from .errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull
from .passes import Turn, run_passes, turn_at
from .records import Segment

logger = logging.getLogger(__name__)

NAME = "repair"
PAGE = 100
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
    """Could not be made now; tried again by the next pass."""
    ended: bool = False
    """The pass came to the end of all there is; else it stopped at its limit, or lost its lease."""


class _Lost(Exception):
    """No other store has it whole."""


class Repair:
    """Repair passes of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: Replicas | None,
        threads: Executor,
        instance_id: str,
        payloads: str,
        spool: Path,
        settled_s: float | None = None,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``, ``spool`` a folder for a
        segment on its way. With one store alone there is nothing to copy from, nor to.
        """
        self._catalog = catalog
        self._store = store
        self._members: Mapping[str, Member] = (
            {} if store is None else {member.name: member for member in store.members}
        )
        self._threads = threads
        self._instance_id = instance_id
        self._payloads = payloads
        self._spool = spool
        self._settled_s = SETTLED_S if settled_s is None else settled_s
        self.newest: RepairReport | None = None
        """Of the last pass that this process made."""

    async def run_forever(self, interval_s: float) -> None:
        """Run passes until cancelled; with one store alone, none."""
        if self._members:
            await run_passes(NAME, self.run_once, interval_s)

    async def run_once(self, limit: int = 1000) -> RepairReport:
        """Look at ``limit`` copies at most, from where the pass before stopped.

        A report that is all zeros, and not ended, says that another process is at work.

        Raises:
            CatalogUnavailable

        """
        report = RepairReport()
        async with turn_at(self._catalog, NAME, self._instance_id) as turn:
            if turn is None:
                return report
            report.ended = turn.ended = await self._go_through(turn, limit, report)
        self.newest = report
        if report != RepairReport(ended=report.ended):
            told = {"made": report.made, "found": report.found, "bytes": report.bytes_copied}
            logger.info("repair pass", extra=told | {"lost": report.lost, "failed": report.failed})
        return report

    async def _go_through(self, turn: Turn, limit: int, report: RepairReport) -> bool:
        """Return whether the end was reached."""
        after = _key_of(turn.position)
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
                await turn.keep(_text_of(after))
                await self._try(copy, turn, report)
                after = copy.key
            limit -= len(page)
        await turn.keep(_text_of(after))
        return False

    async def _try(self, copy: CopyToMake, turn: Turn, report: RepairReport) -> None:
        told = {"urn": mint(copy.object_id).urn, "segment": copy.segment, "store": copy.backend}
        try:
            await self._make(copy, turn, report)
        except _Lost:
            report.lost += 1
            logger.error(  # noqa: TRY400 - no fault of ours, and there is nothing else to be told
                "a segment is whole in no other store: restore the files of one of them from a"
                " backup, or erase the object",
                extra=told,
            )
        except (BackendUnavailable, StorageFull, BlobMissing, BlobCorrupt) as error:
            report.failed += 1
            logger.warning("copy not made", extra=told | {"code": error.code})

    async def _make(self, copy: CopyToMake, turn: Turn, report: RepairReport) -> None:
        store, target = self._store, self._members.get(copy.backend)
        page = await self._catalog.read(
            partial(load_segment_page, payload_id=copy.payload_id, first=copy.segment, count=1)
        )
        if target is None or not page or store is None:
            return  # configured no more, or erased since the list was read
        if not target.ready:
            raise BackendUnavailable(f"store {target.name} was not seen to be ours since the start")
        segment = page[0]
        key = f"{self._payloads}{copy.payload_id}/{copy.segment}"
        if await self._is_right(target, key, segment):
            report.found += 1
        else:
            names = [name for name in self._members if name != target.name]
            others = store.among(names, write_quorum=1)
            await turn.hold()
            await self._copy(others, target, key, segment, turn)
            if not await self._is_right(target, key, segment):
                raise BlobCorrupt(f"{key} in store {target.name} is not what was just put there")
            report.made += 1
            report.bytes_copied += segment.size
        if not await self._catalog.run(partial(mark_placed, copy=copy)):
            # Erased meanwhile: the list of what is to go may have been read before this came.
            await target.delete(key)

    async def _is_right(self, target: Member, key: str, segment: Segment) -> bool:
        try:
            await check_copy(target.store, key, segment, self._threads)
        except (BlobMissing, BlobCorrupt):
            return False
        return True

    async def _copy(
        self, others: Replicas, target: Member, key: str, segment: Segment, turn: Turn
    ) -> None:
        spool = Spool(self._spool, store=target.name)
        try:
            for wanted in leaf_ranges(key, segment):
                try:
                    leaf = await read_leaf(others, wanted, self._threads)
                except (BlobMissing, BlobCorrupt):
                    raise _Lost from None
                await asyncio.to_thread(spool.write, wanted.offset, memoryview(leaf))
                del leaf
            await turn.keep(turn.position)  # nobody else is at it: it may be right by now
            # Only now: all of it is at hand. What is written over in place may be read meanwhile.
            await target.delete(key)
            await self._put(target, key, segment, spool)
        finally:
            await spool.close()

    async def _put(self, target: Member, key: str, segment: Segment, spool: Spool) -> None:
        writer = target.store.create(key)
        try:
            for wanted in leaf_ranges(key, segment):
                await asyncio.to_thread(_move, spool, writer.write, wanted)
            await writer.finish()
        finally:
            await writer.abort()


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
