"""What must hold of every history. Pure: from what clients saw, and from what is left at rest.

The model is small. A slot takes at most one object, ever. An object has the content of one upload
to its slot; it can be read until somebody asks for its erasure, and never once that was answered.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage_gateway.manifest_copies import OBJECT, parse_copy_name
from storage_gateway.records import TokenKind

from .database import Database
from .deeds import Deed, Kind, SlotKey
from .deployment import PAYLOADS
from .faults import Faults
from .store import Shelf

FAILURES = frozenset({500, 503, 507})
NEVER = frozenset({"internal_error", "blob_missing", "blob_corrupt", "payload_invalid"})
"""Codes that no fault of these histories excuses."""
REQUEST_S_MAX = 30.0
"""A request ends this long after its beginning, while nobody is paused."""


def check_deeds(deeds: Sequence[Deed], faults: Faults, held_up_s: float) -> list[str]:
    """Return what is wrong with what the clients saw; ``held_up_s`` is what all pauses took."""
    return [
        *_answers(deeds, held_up_s),
        *_failures(deeds, faults),
        *_slots(deeds),
        *_contents(deeds),
        *_life(deeds),
        *_listings(deeds),
    ]


def _answers(deeds: Sequence[Deed], held_up_s: float) -> Iterable[str]:
    for deed in deeds:
        if deed.code in NEVER or deed.code.startswith(("answer to", "does not open")):
            yield f"{deed} was answered {deed.outcome()}"
        if deed.status >= 500 and deed.status not in FAILURES:
            yield f"{deed} was answered {deed.outcome()}"
        if deed.after_heal and deed.status in (0, *FAILURES):
            yield f"{deed} after all was healed was answered {deed.outcome()}"
        if deed.ended - deed.began > REQUEST_S_MAX + held_up_s:
            yield f"{deed} took {deed.ended - deed.began:.0f} s"
        if deed.answered_slot and deed.slot and deed.answered_slot != deed.slot:
            yield f"{deed} was answered with an object of {deed.answered_slot}"
        if deed.urn and deed.answered_urn and deed.urn != deed.answered_urn:
            yield f"{deed} was answered with another object"


def _failures(deeds: Sequence[Deed], faults: Faults) -> Iterable[str]:
    """No failure without a fault that explains it."""
    lease_at_risk = faults.pause or faults.pause_at_step or faults.stalls_catalog
    anything = lease_at_risk or faults.kills or faults.store_error or faults.store_slow
    for deed in deeds:
        if deed.code == "intent_lost" and not lease_at_risk:
            yield f"{deed} lost its upload though every lease could be renewed"
        elif deed.status >= 500 and not anything:
            yield f"{deed} was answered {deed.outcome()} though nothing failed"


def _slots(deeds: Sequence[Deed]) -> Iterable[str]:
    """At most one object in a slot."""
    seen: dict[SlotKey, set[str]] = defaultdict(set)
    created: dict[SlotKey, list[Deed]] = defaultdict(list)
    for deed in deeds:
        slot = deed.answered_slot or (deed.slot if deed.is_upload else None)
        if slot is not None and deed.answered_urn is not None:
            seen[slot].add(deed.answered_urn)
        if deed.is_upload and deed.status == 201 and deed.slot is not None:
            created[deed.slot].append(deed)
    for slot, urns in seen.items():
        if len(urns) > 1:
            yield f"slot {slot} holds {len(urns)} objects"
    for slot, many in created.items():
        if len(many) > 1:
            yield f"slot {slot} was taken {len(many)} times: {', '.join(map(str, many))}"


def _slot_of(deeds: Sequence[Deed]) -> dict[str, SlotKey]:
    found: dict[str, SlotKey] = {}
    for deed in deeds:
        slot = deed.answered_slot or (deed.slot if deed.is_upload else None)
        if deed.answered_urn is not None and slot is not None:
            found.setdefault(deed.answered_urn, slot)
    return found


def _contents(deeds: Sequence[Deed]) -> Iterable[str]:
    """What is read is what one upload sent, and the same every time."""
    slot_of = _slot_of(deeds)
    acknowledged = {
        deed.answered_urn: deed.content for deed in deeds if deed.is_upload and deed.status == 201
    }
    first_read: dict[str, bytes] = {}
    for deed in deeds:
        if not (deed.is_fetch and deed.status == 200 and deed.urn is not None):
            continue
        if deed.code:
            continue  # told already
        if deed.urn in acknowledged and deed.content != acknowledged[deed.urn]:
            yield f"{deed} read {len(deed.content)} bytes that are not those acknowledged"
        elif deed.urn not in acknowledged and deed.urn in slot_of:
            sent = {
                other.content
                for other in deeds
                if other.is_upload and other.unclear and other.slot == slot_of[deed.urn]
            }
            if deed.content not in sent:
                yield f"{deed} read what nobody sent, or was told to be refused"
        if first_read.setdefault(deed.urn, deed.content) != deed.content:
            yield f"{deed} read something else than the one before"


@dataclass(slots=True)
class _Erasures:
    """Since when an object may be gone, because that was asked for; since when it is, for sure."""

    asked: dict[str, float]
    known: dict[str, float]

    @classmethod
    def seen_in(cls, deeds: Sequence[Deed]) -> "_Erasures":
        found = cls({}, {})
        for deed in deeds:
            if deed.urn is None:
                continue
            if deed.kind is Kind.ERASE and deed.status not in (403, 404):
                found.asked[deed.urn] = min(found.asked.get(deed.urn, deed.began), deed.began)
            if deed.tells_gone:
                found.known[deed.urn] = min(found.known.get(deed.urn, deed.ended), deed.ended)
        return found


def _life(deeds: Sequence[Deed]) -> Iterable[str]:
    """Readable until an erasure is asked for, gone once it is answered, whoever asks."""
    slot_of = _slot_of(deeds)
    erasures = _Erasures.seen_in(deeds)
    for deed in deeds:
        if deed.urn is None or deed.urn not in slot_of or deed.status == 0:
            continue
        slot = slot_of[deed.urn]
        operator = deed.member.kind is TokenKind.OPERATOR
        if operator or deed.member.may_read(slot.session_id, slot.miner or None):
            yield from _entitled(deed, deed.urn, erasures)
        elif deed.status < 400:
            yield f"{deed} of {deed.member.name} was answered {deed.outcome()}"


def _entitled(deed: Deed, urn: str, erasures: _Erasures) -> Iterable[str]:
    """Judge one answer to somebody who may know of the object."""
    if deed.status in (401, 403, 404):
        yield f"{deed} of {deed.member.name} was answered {deed.outcome()}"
    gone_before = erasures.known.get(urn, math.inf) < deed.began
    if deed.is_fetch and deed.status == 200 and gone_before:
        yield f"{deed} read what was erased"
    if deed.state == "committed" and gone_before:
        yield f"{deed} found committed what was erased"
    if deed.tells_gone and erasures.asked.get(urn, math.inf) >= deed.ended:
        yield f"{deed} found gone what nobody erased"
    if deed.after_heal and deed.kind is Kind.MANIFEST and deed.state == "erasing":
        yield f"{deed} is still erasing when all is at rest"


def _listings(deeds: Sequence[Deed]) -> Iterable[str]:
    """What was listed from the beginning is the beginning of what is listed later."""
    slot_of = _slot_of(deeds)
    by_view: dict[tuple[str, str], list[Deed]] = defaultdict(list)
    for deed in deeds:
        if deed.kind is Kind.LIST and deed.slot is not None:
            by_view[deed.slot.session_id, deed.member.miner or ""].append(deed)
    for listings in by_view.values():
        longest = max((deed.listing for deed in listings), key=len)
        for deed in listings:
            if deed.listing != longest[: len(deed.listing)]:
                yield f"{deed} shows another order than a longer one, or has a gap"
            if deed.whole_listing:
                yield from _lacks(deed, deeds)
            miner = deed.member.miner
            for slot in (slot_of[urn] for urn in deed.listing if urn in slot_of):
                if miner and slot.miner not in ("", miner):
                    yield f"{deed} shows another miner's output"


def _lacks(listing: Deed, deeds: Sequence[Deed]) -> Iterable[str]:
    """Return the acknowledged objects that a listing ought to show."""
    for upload in deeds:
        if not (upload.is_upload and upload.status == 201 and upload.slot and listing.slot):
            continue
        miner = listing.member.miner
        visible = miner is None or upload.slot.miner in ("", miner)
        here = upload.slot.session_id == listing.slot.session_id
        due = here and visible and upload.ended < listing.began
        if due and upload.answered_urn not in listing.listing:
            yield f"{listing} lacks the object of {upload}"


def is_busy(database: Database) -> bool:
    """Tell whether recovery has something left to do, or a manifest's copy is still to come."""
    ((intents, graves, copies),) = database.memory.rows(
        "SELECT (SELECT count(*) FROM intents), (SELECT count(*) FROM graves),"
        " (SELECT count(*) FROM outbox)"
    )
    return bool(intents or graves or copies)


_LEFT = {
    "intent {} is left": "SELECT payload_id FROM intents",
    "grave {} is left": "SELECT payload_id FROM graves",
    "segments of {}, which no object names": (
        "SELECT DISTINCT payload_id FROM segments WHERE payload_id NOT IN ({committed})"
    ),
    "placements of {}, which no object names": (
        "SELECT DISTINCT payload_id FROM placements WHERE payload_id NOT IN ({committed})"
    ),
    "blocks of {}, which no object names": (
        "SELECT DISTINCT payload_id FROM blocks WHERE payload_id NOT IN ({committed})"
    ),
    "a slot for {}, which no object names": (
        "SELECT payload_id FROM slots WHERE object_id NOT IN (SELECT object_id FROM objects)"
    ),
    "object {} without its slot": (
        "SELECT object_id FROM objects WHERE NOT EXISTS (SELECT 1 FROM slots WHERE"
        " slots.object_id = objects.object_id AND slots.payload_id = objects.payload_id)"
    ),
    "object {} is not erased, or its head is there": (
        "SELECT object_id FROM objects WHERE state != 'committed'"
        " AND (state != 'erased' OR head IS NOT NULL)"
    ),
}
"""What must find nothing; plain SQL, so that no unit of ours judges itself."""


def check_rest(database: Database, shelf: Shelf) -> list[str]:
    """Return what is left over, or missing, once nothing is under way any more."""
    committed_query = "SELECT payload_id FROM objects WHERE state = 'committed'"
    found = [
        told.format(key[:6])
        for told, query in _LEFT.items()
        for (key,) in database.memory.rows(query.replace("{committed}", committed_query))
    ]
    committed = {key for (key,) in database.memory.rows(committed_query)}
    payloads = [key for key in shelf.blobs if key.startswith(PAYLOADS)]
    kept = {key.removeprefix(PAYLOADS).split("/")[0] for key in payloads}
    found += [f"a blob of {key[:6]} is left in the store" for key in sorted(kept - committed)]
    found += [f"the blobs of {key[:6]} are missing" for key in sorted(committed - kept)]
    return found + _check_copies(database, shelf)


def _check_copies(database: Database, shelf: Shelf) -> list[str]:
    """Each object has one copy of its manifest: that of its generation."""
    prefix = PAYLOADS.removesuffix("payloads/")
    names = [parse_copy_name(prefix, key) for key in shelf.blobs]
    copied = {(n.name, n.generation) for n in names if n is not None and n.kind == OBJECT}
    objects = set(database.memory.rows("SELECT object_id, generation FROM objects"))
    return [
        *(f"the copy of {key[0][:6]} is missing" for key in sorted(objects - copied)),
        *(f"a copy of {key[0][:6]} is left in the store" for key in sorted(copied - objects)),
    ]
