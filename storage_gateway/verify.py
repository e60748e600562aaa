"""Checking everything that is there: `storage-gateway check`.

Reads every byte that the catalog names, and lists the store for bytes that it does not. Works on a
data folder at rest and beside a running gateway; changes nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from crypto import Identity
from urn import mint

from .backends import Shelf
from .backends.scratch import abandoned, probes_prefix
from .catalog import Catalog
from .catalog.consistency import (
    BLOCKS,
    Key,
    Look,
    count_blocks,
    damage,
    objects_without_slot,
    read_blocks,
    slots_of_nothing,
)
from .catalog.high_water import high_water
from .catalog.objects import is_committed, list_objects, load_manifest
from .catalog.stress_runs import find_running
from .catalog.work import find_intent, has_grave, list_graves, list_intents
from .errors import BlobMissing, NotFound
from .findings import (
    CLEAR,
    COLLECT,
    ERASE_AGAIN,
    MOVE_AWAY,
    REBUILD,
    RESTORE,
    RESTORE_CATALOG,
    SEE_OFF,
    CheckReport,
)
from .high_water import parse_mark
from .manifest_copies import OBJECT, CopyName, parse_copy_name
from .parts import STRESS
from .records import Manifest, ObjectState
from .stores import now_utc
from .verify_object import ObjectChecker, OnBadCopy

PAGE = 200


_COLLECTED = re.compile("[a-z2-7]{32}", re.ASCII)
"""Payload ids as ours are: what else lies there the pass gc leaves alone."""


def _remedy_of(payload_id: str) -> str:
    return COLLECT if _COLLECTED.fullmatch(payload_id) else MOVE_AWAY


class Checker:
    """One check of one data folder."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        shelves: Mapping[str, Shelf],
        identities: Sequence[Identity],
        payloads: str,
        marker: str,
        scope: str = "",
        on_bytes: Callable[[int], None] = lambda _count: None,
        on_bad: OnBadCopy = lambda _payload_id, _segment, _store: None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        """``shelves`` are the stores by name; ``on_bytes`` is told of every leaf that was verified,
        ``on_bad`` of every copy that is wrong and can be made from others; ``clock`` tells the time
        in UTC.

        ``scope`` is the folder below which the stores are looked through, all of them if empty.
        """
        self._catalog = catalog
        self._shelves = shelves
        self._identities = identities
        self._payloads = payloads
        self._marker = marker
        self._scope = scope
        self._prefix = payloads.removesuffix("payloads/")
        self._copies: dict[str, set[int]] = {}
        """Generations of manifests that copies were found of, by object id."""
        self._mark = 0
        self._of_runs: dict[str, list[str]] = {}
        """Blobs of stress runs, by run id."""
        self.on_bytes = on_bytes
        self._clock = clock
        self._report = CheckReport()
        self._find = self._report.find
        self._objects = ObjectChecker(
            catalog=catalog,
            shelves=shelves,
            identities=identities,
            payloads=payloads,
            report=self._report,
            on_bytes=self._verified,
            on_bad=on_bad,
        )

    def expected_bytes(self) -> int:
        """Return how many payload bytes there are to verify, when every store has them all."""
        return sum(
            len(self._shelves.keys() & (manifest.backends or self._shelves)) * manifest.payload_size
            for manifest in self._manifests()
            if manifest.state is ObjectState.COMMITTED
        )

    def run(self) -> CheckReport:
        """Check everything.

        Raises:
            CatalogUnavailable, BackendUnavailable: it cannot be read at all.

        """
        # The stores are listed first: what is committed during the check is then no orphan.
        self._check_markers()
        stored = self._stored_payloads()
        self._check_catalog()
        named: set[str] = set()
        for manifest in self._manifests():
            self._check_object(manifest)
            self._check_copies(manifest)
            if manifest.state is ObjectState.COMMITTED:
                named.add(manifest.payload_id)
        named |= self._payloads_under_way()
        for payload_id in sorted(stored - named):
            if not self._named_by_now(payload_id):
                self._find(
                    "orphan", payload_id, "stored, but nothing names it", _remedy_of(payload_id)
                )
        if self._mark > self._catalog.read_blocking(high_water):
            detail = "the stores have seen a later state of this catalog"
            self._find("copy", "catalog", detail, REBUILD)
        for object_id in self._copies:
            detail = "a store has the copy of a manifest that the catalog does not have"
            self._find("copy", mint(object_id).urn, detail, REBUILD)
        self._check_runs()
        return self._report

    def _verified(self, count: int) -> None:
        self.on_bytes(count)  # whoever shows progress sets it once it is known how much there is

    def _check_markers(self) -> None:
        for name, shelf in self._shelves.items():
            try:
                shelf.stat(self._marker)
            except BlobMissing:
                detail = f"store {name} lacks the marker of this deployment: is it the right one?"
                self._find("marker", self._marker, detail, RESTORE)

    def _list(self, prefix: str) -> Iterator[str]:
        """Yield the key of each blob below a folder, for each store that has it."""
        for shelf in self._shelves.values():
            for blob in shelf.list(prefix):
                yield blob.key

    def _stored_payloads(self) -> set[str]:
        """Return the payload ids under which anything lies; all stores are looked through."""
        stored: set[str] = set()
        deployment_id = self._marker.rpartition("/")[0]
        runs, probes = f"{deployment_id}/{STRESS}", probes_prefix(deployment_id)
        of_probes: list[str] = []
        for key in self._list(self._scope):
            payload_id, slash, _ = key.removeprefix(self._payloads).partition("/")
            if key.startswith(self._payloads) and slash:
                stored.add(payload_id)
            elif (name := parse_copy_name(self._prefix, key)) is not None:
                if name.kind == OBJECT:
                    self._copies.setdefault(name.name, set()).add(name.generation)
            elif (mark := parse_mark(self._prefix, key)) is not None:
                self._mark = max(self._mark, mark)
            elif key.startswith(runs):
                run_id = key.removeprefix(runs).partition("/")[0]
                self._of_runs.setdefault(run_id, []).append(key)
            elif key.startswith(probes):
                of_probes.append(key.removeprefix(probes))
            elif key != self._marker:
                self._find("orphan", key, "stored where no payload is", MOVE_AWAY)
        for folder in abandoned(of_probes, self._clock()):
            self._find("left-over", f"{probes}{folder}/", "of a probe that was killed", CLEAR)
        return stored

    def _check_runs(self) -> None:
        """Look at what stress runs left; one that runs, or is to be recovered, may have blobs."""
        running = self._catalog.read_blocking(find_running)
        for run_id, keys in self._of_runs.items():
            folder = f"{keys[0].partition(run_id)[0]}{run_id}/"
            if (running is None or running.run_id != run_id) and any(self._list(folder)):
                self._find("orphan", folder, "stored by a stress run that has ended", MOVE_AWAY)

    def _check_catalog(self) -> None:
        fault = self._catalog.read_blocking(damage)
        if fault is not None:
            self._find("catalog", "catalog", fault, RESTORE_CATALOG)
        for table, blocks in self._catalog.read_blocking(count_blocks).items():
            for first in range(0, blocks, BLOCKS):
                self._catalog.read_blocking(partial(read_blocks, table=table, first=first))
        for payload_id in self._pages(slots_of_nothing):
            detail = "a slot is held by nothing, no upload can take it"
            self._find("slot", payload_id, detail, RESTORE_CATALOG)
        for object_id in self._pages(objects_without_slot):
            detail = "its slot is not its own, another upload could take it"
            self._find("slot", mint(object_id).urn, detail, RESTORE_CATALOG)

    def _pages(self, look: Look) -> Iterator[str]:
        after: Key | None = None
        while True:
            found, after = self._catalog.read_blocking(partial(look, after=after, limit=PAGE))
            yield from found
            if after is None:
                return

    def _manifests(self) -> Iterator[Manifest]:
        after: tuple[str, int] | None = None
        while page := self._catalog.read_blocking(
            partial(list_objects, session_id=None, after=after, limit=PAGE)
        ):
            yield from page
            after = (page[-1].slot.session_id, page[-1].sequence)

    def _payloads_under_way(self) -> set[str]:
        named: set[str] = set()
        after = ""
        while intents := self._catalog.read_blocking(
            partial(list_intents, after=after, limit=PAGE)
        ):
            named.update(intent.payload_id for intent in intents)
            after = intents[-1].payload_id
        self._report.uploads_open = len(named)
        after = ""
        while graves := self._catalog.read_blocking(partial(list_graves, after=after, limit=PAGE)):
            named.update(grave.payload_id for grave in graves)
            self._report.graves += len(graves)
            after = graves[-1].payload_id
        return named

    def _named_by_now(self, payload_id: str) -> bool:
        """Look once more: an upload may have moved on between the reads."""

        def unit(connection: Connection) -> bool:
            return (
                is_committed(connection, payload_id)
                or find_intent(connection, payload_id) is not None
                or has_grave(connection, payload_id)
            )

        stored = any(self._list(f"{self._payloads}{payload_id}/"))
        return not stored or self._catalog.read_blocking(unit)

    def _check_object(self, manifest: Manifest) -> None:
        urn = mint(manifest.object_id).urn
        if manifest.state is not ObjectState.COMMITTED:
            self._report.tombstones += 1
            if manifest.head is not None:
                self._find("erased", urn, "its head is still in the catalog", ERASE_AGAIN)
            return
        self._report.objects += 1
        found_before = len(self._report.findings)
        self._objects.check(urn, manifest)
        if self._erased_meanwhile(manifest.object_id):
            del self._report.findings[found_before:]

    def _check_copies(self, manifest: Manifest) -> None:
        """Look at the generations that were listed: what is left over then has no manifest."""
        found = self._copies.pop(manifest.object_id, set())
        urn = mint(manifest.object_id).urn
        if found and max(found) > manifest.generation:
            detail = f"a store has a copy of generation {max(found)}, newer than the catalog's"
            self._find("copy", urn, detail, REBUILD)
        if manifest.state is not ObjectState.ERASED:
            return
        for generation in sorted(found):
            name = CopyName(OBJECT, manifest.object_id, generation).below(self._prefix)
            # Looked at once more: it may have been on its way out when the stores were listed.
            if generation < manifest.generation and self._is_stored(name):
                self._find("erased", urn, "a store has a copy of its head", SEE_OFF)

    def _is_stored(self, key: str) -> bool:
        for shelf in self._shelves.values():
            with suppress(BlobMissing):
                shelf.stat(key)
                return True
        return False

    def _erased_meanwhile(self, object_id: str) -> bool:
        try:
            now = self._catalog.read_blocking(lambda c: load_manifest(c, object_id))
        except NotFound:
            return False
        return now.state is not ObjectState.COMMITTED
