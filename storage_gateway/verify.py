"""Checking everything that is there: `storage-gateway check`.

Reads every byte that the catalog names, and lists the store for bytes that it does not. Works on a
data folder at rest and beside a running gateway; changes nothing.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, text

from crypto import LEAF_CHUNKS, LEAF_SIZE, CryptoError, Identity, OpenedHead, open_head, opened_size
from urn import DAGBuilder, mint

from .backends.disk import Disk
from .catalog import Catalog
from .catalog.objects import is_committed, list_objects, load_manifest, load_segments
from .catalog.work import find_intent, list_graves, list_intents
from .errors import GatewayError, NotFound
from .records import Manifest, ObjectState, Segment

PAGE = 200

RESTORE = "restore the store's files from a backup; the catalog is right"
ERASE_AGAIN = "erase the object again, or start the gateway and let recovery finish"
RECOVER = "start the gateway: recovery removes what no manifest names; then check again"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    where: str
    detail: str
    remedy: str


@dataclass(slots=True)
class CheckReport:
    """What a check went through, and what it found."""

    objects: int = 0
    tombstones: int = 0
    bytes_verified: int = 0
    uploads_open: int = 0
    graves: int = 0
    findings: list[Finding] = field(default_factory=list)


class Checker:
    """One check of one data folder."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        disk: Disk,
        identity: Identity,
        payloads: str,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """``on_bytes`` is told of every leaf's size once it was verified."""
        self._catalog = catalog
        self._disk = disk
        self._identity = identity
        self._payloads = payloads
        self.on_bytes = on_bytes
        self._report = CheckReport()

    def expected_bytes(self) -> int:
        """Return how many payload bytes there are to verify."""
        return sum(
            manifest.payload_size
            for manifest in self._manifests()
            if manifest.state is ObjectState.COMMITTED
        )

    def run(self) -> CheckReport:
        """Check everything.

        Raises:
            CatalogUnavailable, BackendUnavailable: it cannot be read at all.

        """
        # The store is listed first: what is committed during the check is then no orphan.
        stored = self._stored_payloads()
        self._check_catalog_file()
        named: set[str] = set()
        for manifest in self._manifests():
            self._check_object(manifest)
            if manifest.state is ObjectState.COMMITTED:
                named.add(manifest.payload_id)
        named |= self._payloads_under_way()
        for payload_id in sorted(stored - named):
            if not self._named_by_now(payload_id):
                self._find("orphan", payload_id, "stored, but nothing names it", RECOVER)
        return self._report

    def _find(self, kind: str, where: str, detail: str, remedy: str) -> None:
        self._report.findings.append(Finding(kind, where, detail, remedy))

    def _stored_payloads(self) -> set[str]:
        skip = len(self._payloads)
        return {blob.key[skip:].partition("/")[0] for blob in self._disk.list(self._payloads)}

    def _check_catalog_file(self) -> None:
        outcome = self._catalog.read_blocking(
            lambda c: str(c.execute(text("PRAGMA integrity_check")).scalar_one())
        )
        if outcome != "ok":
            self._find("catalog", "catalog", outcome, "restore the catalog from a backup")

    def _manifests(self) -> Iterator[Manifest]:
        after: tuple[int, str] | None = None
        while page := self._catalog.read_blocking(
            partial(list_objects, session_id=None, after=after, limit=PAGE)
        ):
            yield from page
            after = (page[-1].created_ms, page[-1].object_id)

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
        """Look once more: an upload may have moved from intent to manifest between the reads."""

        def unit(connection: Connection) -> bool:
            committed = is_committed(connection, payload_id)
            return committed or find_intent(connection, payload_id) is not None

        blobs = list(self._disk.list(f"{self._payloads}{payload_id}/"))
        return not blobs or self._catalog.read_blocking(unit)

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
            opened = self._check_head(manifest)
            segments = self._catalog.read_blocking(lambda c: load_segments(c, manifest.payload_id))
            self._check_payload(urn, manifest, segments, opened)
        except (CryptoError, GatewayError) as error:
            if not self._erased_meanwhile(manifest.object_id):
                self._find("object", urn, f"{type(error).__name__}: {error}", RESTORE)
        if self._erased_meanwhile(manifest.object_id):
            del self._report.findings[found_before:]

    def _erased_meanwhile(self, object_id: str) -> bool:
        try:
            now = self._catalog.read_blocking(lambda c: load_manifest(c, object_id))
        except NotFound:
            return False
        return now.state is not ObjectState.COMMITTED

    def _check_head(self, manifest: Manifest) -> OpenedHead:
        opened = open_head(manifest.head or b"", [self._identity])
        opened.check_context(manifest.context())
        return opened

    def _check_payload(
        self, urn: str, manifest: Manifest, segments: tuple[Segment, ...], opened: OpenedHead
    ) -> None:
        opener = opened.opener()
        dag = DAGBuilder()
        done = 0
        count = 0
        for expected, segment in enumerate(segments):
            key = f"{self._payloads}{manifest.payload_id}/{segment.index}"
            if segment.index != expected:
                self._find("segment", urn, f"segment {expected} has no row", RESTORE)
                return
            if self._disk.stat(key).size != segment.size:
                self._find("segment", urn, f"{key} has another size", RESTORE)
            for at, digest in enumerate(segment.leaf_digests):
                size = min(LEAF_SIZE, segment.size - at * LEAF_SIZE)
                sealed = self._disk.read(key, at * LEAF_SIZE, size)
                if hashlib.sha256(sealed).digest() != digest:
                    self._find("leaf", urn, f"leaf {at} of {key} does not have its digest", RESTORE)
                    return
                done += size
                last = done == manifest.payload_size
                opener.open_run_into(
                    count * LEAF_CHUNKS, sealed, bytearray(opened_size(size)), last=last
                )
                dag.add_leaf(digest, size)
                count += 1
                self._report.bytes_verified += size
                self.on_bytes(size)
        if done != manifest.payload_size or opened_size(done) != manifest.size:
            self._find("size", urn, "the segments do not add up to the manifest's size", RESTORE)
        elif str(dag.finish()) != manifest.cid:
            self._find("cid", urn, "the payload has another CID than the manifest", RESTORE)
