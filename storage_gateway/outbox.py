"""Outbox: manifest copies are brought to the stores, each record's by a lane of its own.

That a copy is to come is written down with its record, in one transaction; what it says is read
from the catalog when it is made. Who wrote the record waits until enough failure domains have the
copy; the rest, and what nobody could wait for, is brought by passes. A head goes only where it can
be deleted again: never to a node of IPFS.
"""

import asyncio
import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

from crypto import CopySealer, Recipient

from .backends import LocalStore, Member
from .backends.replica_reads import unseen
from .catalog import Catalog
from .catalog.outbox import BEFORE_ALL, Due, LaneKey, copy_came, count_due, list_due, load_copy
from .errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    CatalogUnavailable,
    CopiesLate,
    GatewayError,
)
from .manifest_copies import (
    RETENTION,
    Copy,
    CopyName,
    encode_copy,
    folder_of,
    name_of,
    parse_copy_name,
)
from .passes import Turn, run_passes, turn_at

logger = logging.getLogger(__name__)

NAME = "copies"
PAGE = 100
WAIT_S_MAX = 30.0
"""How long who wrote a record waits for its copy."""
PUT_S_MAX = 20.0
"""How long a store is waited for, for one copy."""
LEASE_S = 45.0
"""How long a process that died keeps others from it: what is erased waits for its tombstone."""
AT_ONCE_MAX = 4
"""Copies that are brought at once where nobody waits for them."""
BACKLOG_MAX = 256
"""Of those; what is more is left to the passes."""
KNOWN_MAX = 10_000
"""Copies of which it is remembered that a store has them, while another one does not."""


@dataclass(slots=True)
class OutboxReport:
    """What one pass did. Counts are of records."""

    brought: int = 0
    """Every store has the copy now."""
    failed: int = 0
    """Some store has not: tried again by the next pass."""
    ended: bool = False
    """The pass came to the end of all there is."""


class Outbox:
    """Brings manifest copies, for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        members: Sequence[Member],
        nodes: Collection[str] = (),
        sealer: CopySealer,
        recipient: Recipient,
        prefix: str,
        threads: Executor,
        domains: int,
        hold_lease: Callable[[], Awaitable[None]],
        settled_s: float,
    ) -> None:
        """``members`` are the stores that may hold heads, ``nodes`` the names of the others;
        ``prefix`` is the namespace's, ending in ``/``; ``domains`` in how many failure domains a
        copy is before its record is told to be stored; ``hold_lease`` is `Instance.hold`. Who wrote
        a record is left to bring its copy for ``settled_s``, before a pass does.
        """
        self._catalog = catalog
        self._members = tuple(members)
        self._names = [member.name for member in self._members] + list(nodes)
        self._sealer = sealer
        self._recipient = recipient
        self._prefix = prefix
        self._threads = threads
        self._domains = domains
        self._hold_lease = hold_lease
        self._settled_s = settled_s
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[bool]] = set()
        self._known: OrderedDict[Due, set[str]] = OrderedDict()
        self.newest: OutboxReport | None = None
        """Of the last pass that this process made."""
        self.due: tuple[int, float] | None = None
        """How many copies were to come when that was looked at last, and the age of the oldest in
        seconds."""

    async def acknowledge(self, due: Due, *, again: bool = False) -> None:
        """Bring a copy whose record was just written; return when enough domains have it.

        ``again`` where it may have been brought before.

        Raises:
            CopiesLate: they have not, in time. The record stands, and the copy will come.

        """
        if not self._members:
            return
        enough = asyncio.Event()
        if not self._domains:
            if len(self._tasks) < BACKLOG_MAX:
                self._start(self._bring_beside(due, enough, again=again))
            return
        task = self._start(self._bring_quietly(due, enough, again=again))
        waiting = asyncio.create_task(enough.wait())
        try:
            await asyncio.wait(
                [task, waiting], timeout=WAIT_S_MAX, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
        if not enough.is_set():
            raise CopiesLate("too few stores took the copy of its manifest in time")

    async def run_forever(self, interval_s: float) -> None:
        """Run passes until cancelled; without a store that may hold heads, none."""
        if self._members:
            await run_passes(NAME, self.run_once, interval_s)

    async def run_once(
        self, limit: int = 1000, *, at_once: bool = False, within_s: float = math.inf
    ) -> OutboxReport:
        """Bring what is to come, ``limit`` copies at most, from where the pass before stopped, and
        begin none after ``within_s``.

        ``at_once`` takes also what was written just now. A report that is all zeros, and not
        ended, says that another process is at work.

        Raises:
            CatalogUnavailable

        """
        report = OutboxReport()
        self.due = await self._catalog.read(count_due)
        async with turn_at(self._catalog, NAME, LEASE_S) as turn:
            if turn is None:
                return report
            turn.end_s = time.monotonic() + within_s
            settled_s = 0.0 if at_once else self._settled_s
            report.ended = turn.ended = await self._go_through(turn, limit, settled_s, report)
        self.newest = report
        if report.brought or report.failed:
            told = {"brought": report.brought, "failed": report.failed}
            logger.info("manifest copies brought", extra=told)
        return report

    async def wait(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up what is under way: it is written down, and will be brought."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, bringing: "Awaitable[bool]") -> "asyncio.Task[bool]":
        task = asyncio.ensure_future(bringing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _bring_beside(self, due: Due, enough: asyncio.Event, *, again: bool) -> bool:
        async with self._at_once:
            return await self._bring_quietly(due, enough, again=again)

    async def _bring_quietly(self, due: Due, enough: asyncio.Event, *, again: bool) -> bool:
        try:
            return await self._bring(due, enough, set(), again=again)
        except GatewayError as error:
            logger.info("copy left for later", extra={"of": due.record_id, "code": error.code})
        except Exception:
            logger.exception("copy not brought, unexpectedly", extra={"of": due.record_id})
        return False

    async def _go_through(
        self, turn: Turn, limit: int, settled_s: float, report: OutboxReport
    ) -> bool:
        """Return whether the end was reached."""
        after, ill = _key_of(turn.position), set[str]()
        synced = not any(isinstance(member.bare, LocalStore) for member in self._members)
        while limit > 0:
            page = await self._catalog.read(
                partial(list_due, after=after, limit=min(limit, PAGE), settled_s=settled_s)
            )
            if not page:
                return True
            if not synced:
                # What a crash left in a folder can be read, and was perhaps never synced.
                await asyncio.to_thread(os.sync)
                synced = True
            for due in page:
                await turn.reach("/".join(after))
                if turn.is_over:
                    return False
                if self._is_in_vain(due, ill):
                    report.failed += 1
                elif await self._tried(due, ill):
                    report.brought += 1
                else:
                    report.failed += 1
                after = due.key
            limit -= len(page)
        await turn.reach("/".join(after))
        return False

    def _is_in_vain(self, due: Due, ill: set[str]) -> bool:
        """Tell whether each store has it, as far as is known, or takes nothing in this pass."""
        known = self._known.get(due, set[str]())
        return bool(known) and all(
            member.name in known or member.name in ill or not member.ready
            for member in self._members
        )

    async def _tried(self, due: Due, ill: set[str]) -> bool:
        try:
            return await self._bring(due, asyncio.Event(), ill, again=True)
        except CatalogUnavailable:
            raise
        except Exception:
            logger.exception("copy not brought, unexpectedly", extra={"of": due.record_id})
            return False

    async def _bring(
        self, due: Due, enough: asyncio.Event, ill: set[str], *, again: bool = False
    ) -> bool:
        """Bring a copy to every store; tell whether all have it. ``ill`` ones are not asked."""
        await self._hold_lease()
        copy = await self._catalog.read(partial(load_copy, kind=due.kind, record_id=due.record_id))
        if copy is None:  # a session that was dropped again, or claims that nobody changed
            enough.set()
            return await self._catalog.run(partial(copy_came, due=due, stores=self._names))
        due = Due(due.kind, due.record_id, copy.generation)
        name = name_of(copy, self._sealer)
        key = name.below(self._prefix)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, self._seal, key, copy)
        known = self._known.pop(due, set[str]())
        domains = {member.domain for member in self._members if member.name in known}

        async def bring_to(member: Member) -> None:
            if member.name in known:
                return
            try:
                await self._put(member, name, data, again=again, ill=ill)
            except GatewayError as error:
                ill.add(member.name)
                told = {"store": member.name, "of": due.record_id, "code": error.code}
                logger.info("copy not taken", extra=told)
                return
            known.add(member.name)
            domains.add(member.domain)
            if len(domains) >= self._domains:
                enough.set()

        try:
            await asyncio.gather(*map(bring_to, self._members))
        finally:
            everywhere = len(known) == len(self._members)
            if not everywhere:
                self._remember(due, known)
        # Before anybody is told that it is there, and also of what a store took alone.
        if await self._catalog.run(
            partial(copy_came, due=due, stores=self._names if everywhere else ())
        ):
            return everywhere
        logger.info("copy came late", extra={"of": due.record_id})
        for member in self._members:
            await member.store.delete(key)
        return True

    def _seal(self, key: str, copy: Copy) -> bytes:
        return self._sealer.seal(key, encode_copy(copy), self._recipient)

    async def _put(
        self, member: Member, name: CopyName, data: bytes, *, again: bool, ill: set[str]
    ) -> None:
        if not member.ready:
            raise unseen(member)
        if member.name in ill or not (again or member.writes.is_closed):
            raise BackendUnavailable(f"store {member.name} did not take what came before")
        key = name.below(self._prefix)
        try:
            async with asyncio.timeout(PUT_S_MAX):
                if not (again and await self._has(member, key, data)):
                    await member.store.put(key, data)
                for older in await self._older(member, name):
                    await member.store.delete(older.below(self._prefix))
        except TimeoutError:
            raise BackendUnavailable(f"store {member.name} does not answer") from None

    async def _older(self, member: Member, name: CopyName) -> list[CopyName]:
        """Return the generations before, as far as a store may have them."""
        if name.kind != RETENTION:
            return [replace(name, generation=number) for number in range(1, name.generation)]
        # A lease is renewed a thousand times, and holds no head: what the store shows is enough.
        folder = folder_of(self._prefix, name.kind, name.name)
        found = [parse_copy_name(self._prefix, b.key) async for b in member.store.list(folder)]
        return [one for one in found if one is not None and one.generation < name.generation]

    async def _has(self, member: Member, key: str, data: bytes) -> bool:
        """Tell whether a store has the copy, which is the same bytes each time; what else there is
        goes: a crash may have left a part of it.
        """
        try:
            if (await member.store.stat(key)).size == len(data):
                found = await member.store.get(key, 0, len(data))
                if found == data:
                    return True
        except BlobMissing:
            return False
        except BlobCorrupt:
            pass
        await member.store.delete(key)
        return False

    def _remember(self, due: Due, known: set[str]) -> None:
        self._known[due] = known
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


def _key_of(position: str) -> LaneKey:
    kind, slash, record_id = position.partition("/")
    return (kind, record_id) if slash else BEFORE_ALL
