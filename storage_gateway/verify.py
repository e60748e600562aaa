"""Checking everything that is there: `storage-gateway check`.

Reads every byte that the catalog names, and lists the store for bytes that it does not. Works on a
data folder at rest and beside a running gateway; changes nothing.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from crypto import (
    LEAF_CHUNKS,
    LEAF_SIZE,
    CryptoError,
    Identity,
    LeafMismatch,
    OpenedHead,
    check_leaf,
    open_head,
    opened_size,
    stanza_class,
)
from urn import DAGBuilder, mint

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
from .catalog.copies import BAD, PENDING, PLACED, load_placements
from .catalog.objects import is_committed, list_objects, load_manifest, load_segments
from .catalog.stress_runs import find_running
from .catalog.work import find_intent, has_grave, list_graves, list_intents
from .errors import BlobMissing, GatewayError, NotFound
from .findings import (
    CLEAR,
    CONFIGURE,
    ERASE_AGAIN,
    MOVE_AWAY,
    RESTORE,
    RESTORE_CATALOG,
    Finding,
)
from .parts import STRESS
from .records import Manifest, ObjectState, Segment
from .stores import now_utc

PAGE = 200


@dataclass(slots=True)
class CheckReport:
    """What a check went through, and what it found."""

    objects: int = 0
    tombstones: int = 0
    bytes_verified: int = 0
    segments_pending: int = 0
    """Wanted in a store that did not take them in time, or where they are bad."""
    segments_bad: int = 0
    """Of these: those that a read found missing or corrupt, as the catalog says."""
    uploads_open: int = 0
    graves: int = 0
    findings: list[Finding] = field(default_factory=list)


class Checker:
    """One check of one data folder."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        shelves: Mapping[str, Shelf],
        identity: Identity,
        payloads: str,
        marker: str,
        scope: str = "",
        on_bytes: Callable[[int], None] = lambda _count: None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        """``shelves`` are the stores by name; ``on_bytes`` is told of every leaf that was verified;
        ``clock`` tells the time in UTC.

        ``scope`` is the folder below which the stores are looked through, all of them if empty.
        """
        self._catalog = catalog
        self._shelves = shelves
        self._identity = identity
        self._payloads = payloads
        self._marker = marker
        self._scope = scope
        self._of_runs: dict[str, list[str]] = {}
        """Blobs of stress runs, by run id."""
        self.on_bytes = on_bytes
        self._clock = clock
        self._report = CheckReport()

    def expected_bytes(self) -> int:
        """Return how many payload bytes there are to verify, when every store has them all."""
        return sum(
            len(manifest.backends or self._shelves) * manifest.payload_size
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
            if manifest.state is ObjectState.COMMITTED:
                named.add(manifest.payload_id)
        named |= self._payloads_under_way()
        for payload_id in sorted(stored - named):
            if not self._named_by_now(payload_id):
                self._find("orphan", payload_id, "stored, but nothing names it", MOVE_AWAY)
        self._check_runs()
        return self._report

    def _find(self, kind: str, where: str, detail: str, remedy: str) -> None:
        self._report.findings.append(Finding(kind, where, detail, remedy))

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
        try:
            opened = self._check_head(urn, manifest)
            segments = self._catalog.read_blocking(lambda c: load_segments(c, manifest.payload_id))
            placed, pending, bad = (
                self._catalog.read_blocking(
                    partial(load_placements, payload_id=manifest.payload_id, state=state)
                )
                for state in (PLACED, PENDING, BAD)
            )
            self._report.segments_bad += sum(map(len, bad.values()))
            self._report.segments_pending += sum(map(len, [*pending.values(), *bad.values()]))
            # Also what is known to be bad: it may have been restored since.
            stored = {
                name: placed.get(name, frozenset()) | bad.get(name, frozenset())
                for name in placed | bad
            }
            self._check_placed(urn, segments, stored)
            for name in self._shelves:
                try:
                    indexes = stored.get(name, frozenset())
                    self._check_payload(urn, manifest, segments, opened, (name, indexes))
                except (CryptoError, GatewayError) as error:
                    # The copies in the other stores may be damaged, too.
                    self._find("object", urn, f"{type(error).__name__}: {error}", RESTORE)
        except (CryptoError, GatewayError) as error:
            self._find("object", urn, f"{type(error).__name__}: {error}", RESTORE)
        if self._erased_meanwhile(manifest.object_id):
            del self._report.findings[found_before:]

    def _erased_meanwhile(self, object_id: str) -> bool:
        try:
            now = self._catalog.read_blocking(lambda c: load_manifest(c, object_id))
        except NotFound:
            return False
        return now.state is not ObjectState.COMMITTED

    def _check_head(self, urn: str, manifest: Manifest) -> OpenedHead:
        head = manifest.head or b""
        opened = open_head(head, [self._identity])
        opened.check_context(manifest.context())
        recipients = [s for s in opened.header.stanzas if stanza_class(s) is not None]
        if len(recipients) != len(manifest.wrapped_for):
            detail = "the head is not wrapped for as many parties as the manifest says"
            self._find("head", urn, detail, RESTORE_CATALOG)
        if opened.file_key_print != manifest.file_key_print:
            detail = "the head holds another file key than the manifest says"
            self._find("head", urn, detail, RESTORE_CATALOG)
        if len(head) + manifest.payload_size != manifest.sealed_size:
            detail = "head and payload do not add up to the sealed size"
            self._find("size", urn, detail, RESTORE_CATALOG)
        return opened

    def _check_placed(
        self, urn: str, segments: tuple[Segment, ...], placed: Mapping[str, Collection[int]]
    ) -> None:
        for segment in segments:
            stores = [name for name, indexes in placed.items() if segment.index in indexes]
            if not any(name in self._shelves for name in stores):
                where = ", ".join(stores) or "no store"
                detail = f"segment {segment.index} is in {where}, which is not configured"
                self._find("segment", urn, detail, CONFIGURE)

    def _check_payload(
        self,
        urn: str,
        manifest: Manifest,
        segments: tuple[Segment, ...],
        opened: OpenedHead,
        stored: tuple[str, Collection[int]],
    ) -> None:
        """Check the copy in one store: all of it, or the segments that came there."""
        store, indexes = stored
        shelf = self._shelves[store]
        prefix = f"{self._payloads}{manifest.payload_id}/"
        self._check_segments(urn, stored, prefix, segments)
        opener = opened.opener()
        dag = DAGBuilder()
        done = 0
        for index, (key, segment, at) in enumerate(_leaves(prefix, segments)):
            if segment.index not in indexes:
                continue
            offset, digest = at * LEAF_SIZE, segment.leaf_digests[at]
            size = min(LEAF_SIZE, segment.size - offset)
            sealed = shelf.read(key, offset, size)
            if hashlib.sha256(sealed).digest() != digest:
                detail = f"the leaf at byte {offset} of {key} in store {store} lacks its digest"
                self._find("leaf", urn, detail, RESTORE)
                return
            # What reads compare; the bytes are right, so a tag that differs is the catalog's fault.
            if at >= len(segment.leaf_tags) or not _has_tag(segment, at, sealed):
                detail = f"the leaf at byte {offset} of {key} does not have its tag"
                self._find("leaf", urn, detail, RESTORE_CATALOG)
                return
            done += size
            last = index * LEAF_SIZE + size == manifest.payload_size
            plaintext = bytearray(opened_size(size))
            opener.open_run_into(index * LEAF_CHUNKS, sealed, plaintext, last=last)
            dag.add_leaf(digest, size)
            self._report.bytes_verified += size
            self.on_bytes(size)
        if len(indexes) < len(segments):
            return
        if done != manifest.payload_size or opened_size(done) != manifest.size:
            detail = "the segments do not add up to the manifest's size"
            self._find("size", urn, detail, RESTORE_CATALOG)
        elif str(dag.finish()) != manifest.cid:
            detail = "the payload has another CID than the manifest"
            self._find("cid", urn, detail, RESTORE_CATALOG)

    def _check_segments(
        self,
        urn: str,
        stored: tuple[str, Collection[int]],
        prefix: str,
        segments: tuple[Segment, ...],
    ) -> None:
        store, indexes = stored
        sizes = {blob.key: blob.size for blob in self._shelves[store].list(prefix)}
        for expected, segment in enumerate(segments):
            key = f"{prefix}{segment.index}"
            if segment.index != expected:
                self._find("segment", urn, f"segment {expected} has no row", RESTORE_CATALOG)
            if len(segment.leaf_tags) > len(segment.leaf_digests):
                self._find("segment", urn, f"{key} has more tags than leaves", RESTORE_CATALOG)
            # What a store did not take in time may be there in part.
            if sizes.pop(key, segment.size) != segment.size and segment.index in indexes:
                self._find("segment", urn, f"{key} in store {store} has another size", RESTORE)
        for key in sorted(sizes):
            detail = f"stored in store {store}, but no segment names it"
            self._find("orphan", key, detail, MOVE_AWAY)


def _leaves(prefix: str, segments: tuple[Segment, ...]) -> Iterator[tuple[str, Segment, int]]:
    """Yield the key, the segment and the position in it of each leaf."""
    for segment in segments:
        for at in range(len(segment.leaf_digests)):
            yield f"{prefix}{segment.index}", segment, at


def _has_tag(segment: Segment, at: int, sealed: bytes) -> bool:
    try:
        check_leaf(segment.tag_key, at, sealed, segment.leaf_tags[at])
    except (LeafMismatch, ValueError):  # a key of another length is a damaged row, too
        return False
    return True
