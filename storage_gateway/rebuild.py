"""Rebuild: a catalog that was lost, or that is an old one, is completed from the stores.

Goes through the manifest copies in every store and puts back what the catalog does not have, or has
in an older generation; what is claimed of objects comes last. A copy counts only if this deployment
signed it, for the very name under which it lies; all others are refused and told. Can be broken off
and run again at any time: until it came to its end the catalog counts as behind, and nothing is
destroyed on its word.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from crypto import CopyError, CopySealer, Identity
from urn import mint

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.high_water import clear_behind, set_behind
from .catalog.restoring import (
    Restored,
    known_generations,
    restore_object,
    restore_session,
    session_generations,
)
from .catalog.restoring_claims import restore_claims
from .errors import BackendUnavailable, BlobCorrupt, BlobMissing, GatewayError
from .findings import Finding
from .high_water import mark_in
from .manifest_copies import (
    COPY_BYTES_MAX,
    FOLDERS,
    OBJECT,
    RETENTION,
    SESSION,
    Copy,
    CopyName,
    CopyUnreadable,
    ObjectCopy,
    RetentionCopy,
    SessionCopy,
    decode_copy,
    name_of,
    parse_copy_name,
)
from .markers import marker_key

logger = logging.getLogger(__name__)

PAGE = 200
AT_ONCE = 32
"""Copies that are read, and put back, at once."""
FINDINGS_MAX = 1000
"""So many are kept with their words; of the others the number."""

LOST_FOR_GOOD = (
    "tokens: issue new ones (POST /v1/sessions/{session}/tokens)",
    "uploads that were under way, and what became of those answered with 202",
    "what was put into IPFS nodes: it is put there again",
    "reports of stress runs, and how far the passes had come",
)
"""What no copy holds."""

WATCH_STORE = "nothing of it was used; find out who writes to that store"
NEWER_PROGRAM = "run rebuild of the version that wrote it: until then the catalog counts as behind"
FIND_SESSION = "bring back the copy of its session, then rebuild again"
FIND_OBJECT = "bring back the copy of its manifest, then rebuild again"
READ_AGAIN = "see to the store's disk, then rebuild again: until then the catalog counts as behind"
LOOK = "the catalog's own stays; compare the two before you erase one"


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild did. Counts are of copies; of an object each store has one."""

    sessions: int = 0
    objects: int = 0
    tombstones: int = 0
    claims: int = 0
    """Of what is claimed of objects: lifetimes, leases, holds."""
    known: int = 0
    """Copies of what the catalog has already, in that generation or a newer one."""
    refused: int = 0
    """Copies that this deployment did not make, or not for that name."""
    conflicts: int = 0
    """What could not be put back, or not where it was."""
    without: int = 0
    """Records that the catalog does not have, and of which copies were found, but none that counts:
    as where the wrong identity was given."""
    ended: bool = False
    """All stores were gone through."""
    complete: bool = False
    """Nothing is known to be missing: the catalog is behind no more."""
    stores: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    """Stores that did not answer: what they alone have is not back. Run it again when they do."""
    findings: list[Finding] = field(default_factory=list)

    def find(self, kind: str, where: str, detail: str, remedy: str) -> None:
        """Note what was not as it should be."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, where, detail, remedy))


class Rebuild:
    """One rebuild of one catalog."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        stores: Sequence[KeyedStore],
        nodes: Sequence[str],
        sealer: CopySealer,
        recovery: Identity,
        prefix: str,
        away: Collection[str] = (),
        accept_refused: bool = False,
    ) -> None:
        """``stores`` are those with names, ``nodes`` the names of the others; ``recovery`` opens
        the copies; ``prefix`` is the namespace's, ending in ``/``; those ``away`` of the stores
        could not be seen to be ours; ``accept_refused`` says that records of which no copy counts
        are none of ours.
        """
        self._catalog = catalog
        self._stores = tuple(stores)
        self._nodes = tuple(nodes)
        self._sealer = sealer
        self._recovery = recovery
        self._prefix = prefix
        self.report = RebuildReport()
        """What was done so far."""
        for name in away:
            self._give_up(name, "it did not answer when it was asked for our marker")
        self._accept_refused = accept_refused
        self._unread = 0
        self._stray = 0
        """What could not be put back, as it has no session or object, or conflicts."""
        self._hidden: dict[str, int] = {}
        """What stands for the sessions that the catalog has, in the names of copies."""
        self._unreadable: set[str] = set()
        """Records, by the names of their copies, of which a newer program wrote one."""
        self._without: set[tuple[str, str]] = set()
        """Kinds and names of records of which copies were found, and none that counts."""

    async def run(self) -> RebuildReport:
        """Go through all stores.

        Raises:
            CatalogUnavailable

        """
        async for _ in self.steps():
            pass
        return self.report

    async def steps(self) -> AsyncIterator[int]:
        """Go through all stores, a page at a time: yield how many copies were gone through.

        What stops between two of them has lost nothing: what is back is known the next time.

        Raises:
            CatalogUnavailable

        """
        await self._catalog.run(set_behind)
        # What is listed from here on is on the disk, also where a crash left it unsynced.
        await asyncio.to_thread(os.sync)
        known = await self._catalog.read(session_generations)
        hide = self._sealer.hidden_name
        self._hidden.update({hide(name): generation for name, generation in known.items()})
        mark = 0
        # All sessions first: an object is put back into its session only, and its claims to it.
        for kind in (SESSION, OBJECT, RETENTION):
            for store in self._stores:
                if store.name in self.report.unreachable:
                    continue
                try:
                    async for count in self._go_through(store, kind):
                        yield count
                    mark = max(mark, await mark_in(store, self._sealer, self._prefix))
                except BackendUnavailable as error:
                    self._give_up(store.name, error.detail)
        await self._conclude(mark)

    async def _conclude(self, mark: int) -> None:
        report = self.report
        report.ended = True
        report.stores = [s.name for s in self._stores if s.name not in report.unreachable]
        report.without = await self._count_without()
        is_whole = not (report.unreachable or self._unreadable or self._unread or self._stray)
        report.complete = is_whole and (self._accept_refused or not report.without)
        if report.complete:
            await self._catalog.run(partial(clear_behind, seen=mark))

    async def _count_without(self) -> int:
        """Return of how many records the catalog has nothing, and no copy counts."""
        count = sum(kind == SESSION and name not in self._hidden for kind, name in self._without)
        for of in (OBJECT, RETENTION):
            ids = [name for kind, name in self._without if kind == of]
            for first in range(0, len(ids), PAGE):
                page = ids[first : first + PAGE]
                known = await self._known(page, of)
                count += sum(known.get(name, 0) == 0 for name in page)
        return count

    async def _known(self, object_ids: Collection[str], kind: str) -> dict[str, int]:
        read = partial(known_generations, object_ids=object_ids, kind=kind)
        return await self._catalog.read(read)

    def _give_up(self, name: str, why: str) -> None:
        if name not in self.report.unreachable:
            self.report.unreachable.append(name)
            remedy = "run it again when the store answers: until then the catalog counts as behind"
            self.report.find("store", name, why, remedy)

    async def _go_through(self, store: KeyedStore, kind: str) -> AsyncIterator[int]:
        async for page in self._pages(store, kind):
            new = await self._new_of(page, kind)
            self.report.known += len(page) - len(new)
            records: dict[str, list[CopyName]] = {}
            for name in new:
                records.setdefault(name.name, []).append(name)
            groups = list(records.values())
            for first in range(0, len(groups), AT_ONCE):
                batch = groups[first : first + AT_ONCE]
                await asyncio.gather(*(self._take(store, names) for names in batch))
            yield len(page)

    async def _pages(self, store: KeyedStore, kind: str) -> AsyncIterator[list[CopyName]]:
        page: list[CopyName] = []
        async for blob in store.list(f"{self._prefix}{FOLDERS[kind]}/"):
            name = parse_copy_name(self._prefix, blob.key)
            if name is None or blob.size > COPY_BYTES_MAX:
                self._refuse(store, blob.key, "its name or its size is that of no copy")
                continue
            page.append(name)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def _new_of(self, page: Sequence[CopyName], kind: str) -> list[CopyName]:
        """Return those of which the catalog has not that generation yet."""
        if kind == SESSION:
            return [name for name in page if self._hidden.get(name.name, 0) < name.generation]
        ids = {name.name for name in page}
        known = await self._known(ids, kind)
        return [name for name in page if known.get(name.name, 0) < name.generation]

    async def _take(self, store: KeyedStore, names: Sequence[CopyName]) -> None:
        """Put a record back from the newest of its copies that counts."""
        for name in sorted(names, key=lambda name: -name.generation):
            try:
                copy = await self._read(store, name)
            except CopyUnreadable as error:
                # It is ours, and may be a tombstone: what is older must not come back for it.
                self._unreadable.add(name.name)
                self.report.conflicts += 1
                where = f"{name.below(self._prefix)} in store {store.name}"
                self.report.find("copy", where, str(error), NEWER_PROGRAM)
                return
            if name.name in self._unreadable:
                return
            if copy is not None:
                await self._restore(store, name, copy)
                return
        self._without.add((names[0].kind, names[0].name))

    def _refuse(self, store: KeyedStore, key: str, why: str) -> None:
        self.report.refused += 1
        self.report.find("copy", f"{key} in store {store.name}", why, WATCH_STORE)
        logger.warning("copy refused", extra={"store": store.name, "key": key, "why": why})

    async def _read(self, store: KeyedStore, name: CopyName) -> Copy | None:
        """Return what a copy says, if this deployment says so.

        Raises:
            CopyUnreadable: it does, and a newer version of the program wrote it.
            BackendUnavailable: the store cannot be read at all.

        """
        key = name.below(self._prefix)
        try:
            size = (await store.stat(key)).size
            data = await store.get(key, 0, size)
            copy = await asyncio.to_thread(self._open, key, data)
        except (CopyError, BlobCorrupt) as error:
            self._refuse(store, key, str(error))
            return None
        except BackendUnavailable as error:
            await self._see_store(store)
            self._unread += 1
            where = f"{key} in store {store.name}"
            self.report.find("copy", where, error.detail, READ_AGAIN)
            return None
        except BlobMissing:
            return None  # a newer generation has taken its place since it was listed
        if name_of(copy, self._sealer) != name:
            self._refuse(store, key, "it says that it is another record's")
            return None
        return copy

    def _open(self, key: str, data: bytes) -> Copy:
        return decode_copy(self._sealer.open(key, data, self._recovery))

    async def _see_store(self, store: KeyedStore) -> None:
        """Raise BackendUnavailable unless the store answers: then it is the one copy."""
        with suppress(BlobMissing):
            await store.stat(marker_key(self._sealer.deployment))

    async def _restore(self, store: KeyedStore, name: CopyName, copy: Copy) -> None:
        everywhere = await self._is_everywhere(store, name)
        if isinstance(copy, SessionCopy):
            restore = partial(restore_session, copy=copy, everywhere=everywhere)
            done = await self._catalog.run(restore)
            self._hidden[name.name] = max(name.generation, self._hidden.get(name.name, 0))
            self.report.sessions += done is Restored.RESTORED
            return
        if not isinstance(copy, ObjectCopy):
            put_back = partial(restore_claims, copy=copy, everywhere=everywhere)
            self._count(copy, await self._catalog.run(put_back))
            return
        stored = {each.name: await self._stored_in(each, copy) for each in self._stores}
        done = await self._catalog.run(
            partial(
                restore_object,
                copy=copy,
                stored=stored,
                stores=[*(each.name for each in self._stores), *self._nodes],
                nodes=self._nodes,
                everywhere=everywhere,
            )
        )
        self._count(copy, done)

    def _count(self, copy: ObjectCopy | RetentionCopy, done: Restored) -> None:
        report, urn = self.report, mint(copy.object_id).urn
        if isinstance(copy, RetentionCopy):
            report.claims += done is Restored.RESTORED
        elif done in (Restored.RESTORED, Restored.SLOT_TAKEN):
            report.objects += copy.head is not None
            report.tombstones += copy.head is None
        self._stray += done in (Restored.NO_SESSION, Restored.NO_OBJECT, Restored.CONFLICT)
        if done is Restored.KNOWN:
            report.known += 1
        elif isinstance(copy, ObjectCopy) and done is Restored.NO_SESSION:
            report.conflicts += 1
            report.find("session", urn, f"no copy of its session {copy.session_id}", FIND_SESSION)
        elif done is Restored.NO_OBJECT:
            report.conflicts += 1
            report.find("object", urn, "no copy of the object of these claims", FIND_OBJECT)
        elif done is Restored.CONFLICT:
            report.conflicts += 1
            report.find("object", urn, "another object has its payload, or its file key", LOOK)
        elif done is Restored.SLOT_TAKEN:
            report.conflicts += 1
            detail = "it is back, and its slot belongs to an object that came since"
            report.find("slot", urn, detail, LOOK)

    async def _stored_in(self, store: KeyedStore, copy: ObjectCopy) -> dict[int, int]:
        """Return the sizes of what a store has of a payload, by the numbers of segments."""
        folder = f"{self._prefix}payloads/{copy.payload_id}/"
        found: dict[int, int] = {}
        if copy.head is None or store.name in self.report.unreachable:
            return found
        try:
            async for blob in store.list(folder):
                number = blob.key.removeprefix(folder)
                if number.isascii() and number.isdigit():
                    found[int(number)] = blob.size
        except BackendUnavailable as error:
            self._give_up(store.name, error.detail)
        return found

    async def _is_everywhere(self, found_in: KeyedStore, name: CopyName) -> bool:
        if self.report.unreachable:
            return False  # nor is it asked for each object again
        for store in self._stores:
            if store is found_in:
                continue
            try:
                await store.stat(name.below(self._prefix))
            except GatewayError:
                return False
        return True
