"""Comparing the catalog with the manifest copies in the stores: `storage-gateway catalog verify`.

A copy of the same record is the same bytes each time, so each is compared with what it must be, and
the stores are gone through for copies of what the catalog does not have.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from crypto import CopyError, CopySealer, Identity, Recipient
from urn import mint

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.outbox import Due, expect_copy, is_due, load_copy
from .catalog.restoring import copied_records, known_generations, session_generations
from .errors import BlobCorrupt, BlobMissing
from .findings import REBUILD, SEE_OFF, Finding
from .manifest_copies import (
    FOLDERS,
    SESSION,
    Copy,
    CopyName,
    encode_copy,
    name_of,
    parse_copy_name,
)

PAGE = 200
AT_ONCE = 16
FINDINGS_MAX = 1000
WATCH_STORE = "find out who writes to that store; catalog verify --repair puts the right one there"
BRING = "run catalog verify --repair, or start the gateway: it brings what is written down"


@dataclass(slots=True)
class CompareReport:
    """What a comparison went through. Counts are of copies, each in one store."""

    right: int = 0
    due: int = 0
    """Still to come, as the catalog says."""
    missing: int = 0
    wrong: int = 0
    """Other bytes than the catalog's record makes."""
    unknown: int = 0
    """Of records, or generations, that the catalog does not have: it is an old one."""
    entered: int = 0
    """To be brought again, as they were missing or wrong."""
    findings: list[Finding] = field(default_factory=list)

    def find(self, kind: str, where: str, detail: str, remedy: str) -> None:
        """Note what is not as it should be."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, where, detail, remedy))


class Compare:
    """One comparison."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        stores: Sequence[KeyedStore],
        sealer: CopySealer,
        recipient: Recipient,
        recovery: Identity | None,
        prefix: str,
        repair: bool = False,
        on_copy: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """``stores`` are those that may hold heads; ``recipient`` is whom copies are sealed to,
        ``recovery`` the identity of it, to tell forged copies from others; ``prefix`` is the
        namespace's, ending in ``/``. With ``repair`` what is missing or wrong is written down as
        still to come. ``on_copy`` is told of copies as they are gone through.
        """
        self._catalog = catalog
        self._stores = tuple(stores)
        self._sealer = sealer
        self._recipient = recipient
        self._recovery = recovery
        self._prefix = prefix
        self._repair = repair
        self._on_copy = on_copy
        self._report = CompareReport()
        self._hidden: dict[str, tuple[str, int]] = {}

    async def run(self) -> CompareReport:
        """Compare everything.

        Raises:
            CatalogUnavailable, BackendUnavailable: it cannot be gone through.

        """
        for kind in FOLDERS:
            async for page in self._records(kind):
                for first in range(0, len(page), AT_ONCE):
                    batch = page[first : first + AT_ONCE]
                    await asyncio.gather(*(self._compare(kind, record) for record in batch))
        for store in self._stores:
            for kind in FOLDERS:
                await self._look_for_unknown(store, kind)
        return self._report

    async def _records(self, kind: str) -> AsyncIterator[list[str]]:
        after = ""
        read = partial(copied_records, kind=kind, limit=PAGE)
        while page := await self._catalog.read(partial(read, after=after)):
            yield page
            after = page[-1]

    async def _compare(self, kind: str, record_id: str) -> None:
        copy = await self._catalog.read(partial(load_copy, kind=kind, record_id=record_id))
        if copy is None:
            return
        name = name_of(copy, self._sealer)
        if kind == SESSION:
            self._hidden[name.name] = (record_id, copy.generation)
        key = name.below(self._prefix)
        expected = await asyncio.to_thread(
            self._sealer.seal, key, encode_copy(copy), self._recipient
        )
        for store in self._stores:
            wrong = await self._fault_of(store, key, expected)
            self._on_copy(1)
            if wrong is None:
                self._report.right += 1
            else:
                await self._tell(store, name, copy, wrong)

    async def _fault_of(self, store: KeyedStore, key: str, expected: bytes) -> str | None:
        """Return what is wrong with a copy; empty when it is missing."""
        try:
            size = (await store.stat(key)).size
            data = await store.get(key, 0, size) if size < 2 * len(expected) else b""
        except BlobMissing:
            return ""
        except BlobCorrupt as error:
            return str(error)
        if data == expected:
            return None
        if self._recovery is None:
            return "it is other bytes than the catalog's record makes"
        try:
            await asyncio.to_thread(self._sealer.open, key, data, self._recovery)
        except CopyError as error:
            return str(error)
        return "it is signed, and says something else than the catalog"

    async def _tell(self, store: KeyedStore, name: CopyName, copy: Copy, wrong: str) -> None:
        due = Due(name.kind, copy.record_id, name.generation)
        wanted = partial(is_due, kind=due.kind, record_id=due.record_id)
        if not wrong and await self._catalog.read(wanted):
            self._report.due += 1
            return
        now = await self._catalog.read(partial(load_copy, kind=due.kind, record_id=due.record_id))
        if now is None or now.generation != due.generation:
            return  # it has changed since
        if wrong:
            self._report.wrong += 1
        else:
            self._report.missing += 1
        where = f"{name.below(self._prefix)} in store {store.name}"
        self._report.find("copy", where, wrong or "it is missing", WATCH_STORE if wrong else BRING)
        if self._repair:
            await self._catalog.run(partial(expect_copy, due=due))
            self._report.entered += 1

    async def _look_for_unknown(self, store: KeyedStore, kind: str) -> None:
        page: list[CopyName] = []
        async for blob in store.list(f"{self._prefix}{FOLDERS[kind]}/"):
            name = parse_copy_name(self._prefix, blob.key)
            if name is None:
                self._report.wrong += 1
                where = f"{blob.key} in store {store.name}"
                self._report.find("copy", where, "its name is that of no copy", WATCH_STORE)
                continue
            page.append(name)
            if len(page) == PAGE:
                await self._check_known(page, kind, store)
                page = []
        await self._check_known(page, kind, store)

    async def _check_known(self, page: Sequence[CopyName], kind: str, store: KeyedStore) -> None:
        ids = {name.name for name in page if kind != SESSION}
        read = partial(known_generations, object_ids=ids, kind=kind)
        known = await self._catalog.read(read)
        if any(self._is_newer(name) for name in page):
            # A running gateway may have written it since: its record was there before its copy.
            now = await self._catalog.read(session_generations)
            hide = self._sealer.hidden_name
            self._hidden.update({hide(each): (each, n) for each, n in now.items()})
        for name in page:
            record_id, generation = name.name, known.get(name.name, 0)
            if name.kind == SESSION:
                record_id, generation = self._hidden.get(name.name, ("", 0))
            where = f"{name.below(self._prefix)} in store {store.name}"
            if name.generation > generation:
                self._report.unknown += 1
                detail = "the catalog does not have it, or in an older generation only"
                self._report.find("copy", where, detail, REBUILD)
            elif name.generation < generation:
                await self._check_old(Due(name.kind, record_id, generation), where)

    def _is_newer(self, name: CopyName) -> bool:
        return name.kind == SESSION and name.generation > self._hidden.get(name.name, ("", 0))[1]

    async def _check_old(self, due: Due, where: str) -> None:
        """An older generation goes when the newer one comes; one that stays is told."""
        if await self._catalog.read(partial(is_due, kind=due.kind, record_id=due.record_id)):
            return
        called = f"session {due.record_id}" if due.kind == SESSION else mint(due.record_id).urn
        self._report.find("copy", where, f"an older copy of {called}", SEE_OFF)
        if self._repair:
            await self._catalog.run(partial(expect_copy, due=due))
            self._report.entered += 1
