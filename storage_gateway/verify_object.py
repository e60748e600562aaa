"""Checking one object: its head, its segments, and each copy of its payload, byte for byte."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from crypto import (
    LEAF_CHUNKS,
    LEAF_SIZE,
    CryptoError,
    Identity,
    LeafMismatch,
    OpenedHead,
    Opener,
    check_leaf,
    open_head,
    opened_size,
    stanza_class,
)
from urn import DAGBuilder

from .backends import Shelf
from .blind_heads import check_head
from .catalog import Catalog
from .catalog.copies import BAD, PENDING, PLACED, load_placements
from .catalog.segments import load_segments
from .errors import BlobCorrupt, BlobMissing, GatewayError
from .findings import CONFIGURE, MOVE_AWAY, RESTORE_CATALOG, CheckReport
from .records import BLIND, Manifest, Segment
from .roots import ROOT
from .verify_copies import CopiesSeen

OnBadCopy = Callable[[str, int, str], None]
"""Told of payload, segment and store of a copy that is wrong, and can be made from others."""


class ObjectChecker:
    """Checks committed objects for `verify.Checker`; what it finds goes into the report."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        shelves: Mapping[str, Shelf],
        identities: Sequence[Identity],
        payloads: str,
        report: CheckReport,
        on_bytes: Callable[[int], None],
        on_bad: OnBadCopy,
    ) -> None:
        """Arguments are those of `verify.Checker`."""
        self._catalog = catalog
        self._shelves = shelves
        self._identities = identities
        self._payloads = payloads
        self._report = report
        self._find = report.find
        self._on_bytes = on_bytes
        self._on_bad = on_bad

    def check(self, urn: str, manifest: Manifest) -> None:
        """Check an object in all stores that should have it.

        Raises:
            CatalogUnavailable: it cannot be read at all.

        """
        try:
            opened = self._check_head(urn, manifest)
            segments = self._catalog.read_blocking(lambda c: load_segments(c, manifest.payload_id))
            stored = self._stored(manifest)
            self._check_placed(urn, segments, stored)
            copies = CopiesSeen(urn, segments)
            for name in self._shelves:
                indexes = stored.get(name, frozenset())
                try:
                    self._check_payload(manifest, segments, opened, (name, indexes), copies)
                except CryptoError as error:  # the bytes are those that the catalog names
                    self._find("object", urn, _said(error), RESTORE_CATALOG)
                except GatewayError as error:
                    # The copies in the other stores may be damaged, too.
                    copies.see_unread(name, sorted(indexes), _said(error))
            copies.tell(self._report)
            for segment, store in copies.bad():
                self._on_bad(manifest.payload_id, segment, store)
        except (CryptoError, GatewayError) as error:
            self._find("object", urn, _said(error), RESTORE_CATALOG)

    def _stored(self, manifest: Manifest) -> dict[str, frozenset[int]]:
        """Return which segments each store should have, or had."""
        placed, pending, bad = (
            self._catalog.read_blocking(
                partial(load_placements, payload_id=manifest.payload_id, state=state)
            )
            for state in (PLACED, PENDING, BAD)
        )
        self._report.segments_bad += sum(map(len, bad.values()))
        self._report.segments_pending += sum(map(len, [*pending.values(), *bad.values()]))
        # Also what is known to be bad: it may have been restored since.
        return {
            name: placed.get(name, frozenset()) | bad.get(name, frozenset())
            for name in placed | bad
        }

    def _check_head(self, urn: str, manifest: Manifest) -> OpenedHead | None:
        """Check the head; return it opened, None where no identity here opens it."""
        head = manifest.head or b""
        if manifest.custody == BLIND:
            check_head(head, manifest.wrapped_for, manifest.key_class)
            self._check_sizes(urn, manifest)
            return None
        opened = open_head(head, self._identities)
        opened.check_context(manifest.context())
        recipients = [s for s in opened.header.stanzas if stanza_class(s) is not None]
        if len(recipients) != len(manifest.wrapped_for):
            detail = "the head is not wrapped for as many parties as the manifest says"
            self._find("head", urn, detail, RESTORE_CATALOG)
        if opened.file_key_print != manifest.file_key_print:
            detail = "the head holds another file key than the manifest says"
            self._find("head", urn, detail, RESTORE_CATALOG)
        self._check_sizes(urn, manifest)
        return opened

    def _check_sizes(self, urn: str, manifest: Manifest) -> None:
        if len(manifest.head or b"") + manifest.payload_size != manifest.sealed_size:
            detail = "head and payload do not add up to the sealed size"
            self._find("size", urn, detail, RESTORE_CATALOG)

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
        manifest: Manifest,
        segments: tuple[Segment, ...],
        opened: OpenedHead | None,
        stored: tuple[str, Collection[int]],
        copies: CopiesSeen,
    ) -> None:
        """Check the copy in one store: all of it, or the segments that came there."""
        store, indexes = stored
        shelf = self._shelves[store]
        prefix = f"{self._payloads}{manifest.payload_id}/"
        unlisted = self._check_segments(copies, stored, prefix, segments)
        opener = None if opened is None else opened.opener()
        dag = DAGBuilder()
        done = 0
        are_tagged = True
        for index, (key, segment, at) in enumerate(_leaves(prefix, segments)):
            if segment.index not in indexes:
                continue
            offset = at * LEAF_SIZE
            size = min(LEAF_SIZE, segment.size - offset)
            sealed = _read_leaf(shelf, (store, key), segment, at, copies)
            if sealed is None:
                continue
            # What reads compare; the bytes are right, so a tag that differs is the catalog's fault.
            if are_tagged and (at >= len(segment.leaf_tags) or not _has_tag(segment, at, sealed)):
                detail = f"the leaf at byte {offset} of {key} does not have its tag"
                self._find("leaf", copies.urn, detail, RESTORE_CATALOG)
                are_tagged = False
            done += size
            last = index * LEAF_SIZE + size == manifest.payload_size
            _open(opener, index, sealed, last=last)
            dag.add_leaf(segment.leaf_digests[at], size)
            self._report.bytes_verified += size
            self._on_bytes(size)
        for segment_index, key in unlisted.items():
            if not copies.is_wrong(store, segment_index):  # it was read, as all others
                detail = f"{key} is not kept any more in store {store}, and may soon be gone"
                copies.see_wrong(store, segment_index, "segment", detail)
        if len(indexes) < len(segments) or copies.is_any_wrong(store):
            return
        if done != manifest.payload_size or opened_size(done) != manifest.size:
            detail = "the segments do not add up to the manifest's size"
            self._find("size", copies.urn, detail, RESTORE_CATALOG)
        elif are_tagged and str(dag.finish()) != manifest.cid:
            detail = "the payload has another CID than the manifest"
            self._find("cid", copies.urn, detail, RESTORE_CATALOG)

    def _check_segments(
        self,
        copies: CopiesSeen,
        stored: tuple[str, Collection[int]],
        prefix: str,
        segments: tuple[Segment, ...],
    ) -> dict[int, str]:
        """Look at what the store lists; return the keys that it should and does not."""
        store, indexes = stored
        unlisted: dict[int, str] = {}
        sizes = {blob.key: blob.size for blob in self._shelves[store].list(prefix)}
        for expected, segment in enumerate(segments):
            key = f"{prefix}{segment.index}"
            if segment.index != expected:
                self._find("segment", copies.urn, f"segment {expected} has no row", RESTORE_CATALOG)
            if len(segment.leaf_tags) > len(segment.leaf_digests):
                detail = f"{key} has more tags than leaves"
                self._find("segment", copies.urn, detail, RESTORE_CATALOG)
            if segment.index in indexes and key not in sizes:
                unlisted[segment.index] = key
            # What a store did not take in time may be there in part.
            if sizes.pop(key, segment.size) != segment.size and segment.index in indexes:
                detail = f"{key} in store {store} has another size"
                copies.see_wrong(store, segment.index, "segment", detail)
        if len(segments) > 1 and sizes.get(f"{prefix}{ROOT}") == 0:
            del sizes[f"{prefix}{ROOT}"]  # of a node: it is above the segments, and holds no bytes
        for key in sorted(sizes):
            detail = f"stored in store {store}, but no segment names it"
            self._find("orphan", key, detail, MOVE_AWAY)
        return unlisted


def _open(opener: Opener | None, index: int, sealed: bytes, *, last: bool) -> None:
    """Open a leaf, if there is what opens it. Raises PayloadError."""
    if opener is not None:
        plaintext = bytearray(opened_size(len(sealed)))
        opener.open_run_into(index * LEAF_CHUNKS, sealed, plaintext, last=last)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _read_leaf(
    shelf: Shelf, where: tuple[str, str], segment: Segment, at: int, copies: CopiesSeen
) -> bytes | None:
    """Return a leaf that has its digest; None if the store has it not, or wrong.

    ``where`` is the store's name and the segment's key.

    Raises:
        BackendUnavailable

    """
    store, key = where
    offset = at * LEAF_SIZE
    try:
        sealed = shelf.read(key, offset, min(LEAF_SIZE, segment.size - offset))
    except (BlobMissing, BlobCorrupt) as error:
        copies.see_wrong(store, segment.index, "object", _said(error))
        return None
    if hashlib.sha256(sealed).digest() != segment.leaf_digests[at]:
        detail = f"the leaf at byte {offset} of {key} in store {store} lacks its digest"
        copies.see_wrong(store, segment.index, "leaf", detail)
        return None
    copies.see_right(store, segment.index, at)
    return sealed


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
