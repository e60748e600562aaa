"""Units on orphans: payloads that lie in a store and that nothing in the catalog names.

An upload is named before its first byte leaves the process, and a payload id is never used twice:
what was seen in a store and is named by nothing afterwards will never be named again, as long as
the catalog is the newest there is.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, select, union, update

from storage_gateway.records import ObjectState

from .clock import now_ms
from .high_water import is_behind
from .statements import Statement, insert_once
from .tables import graves, intents, objects, orphans, pins, placements, segments

_MINE = (
    orphans.c.backend == bindparam("backend_is"),
    orphans.c.payload_id == bindparam("payload_id_is"),
)
_LOOK_AGAIN = Statement(
    update(orphans)
    # As it was read: who was paused and looks twice must not count a time twice.
    .where(*_MINE, orphans.c.seen_ms == bindparam("seen_ms_is"))
    .values(
        blobs=bindparam("new_blobs"),
        bytes=bindparam("new_bytes"),
        seen_ms=bindparam("now_ms"),
        waited_ms=bindparam("new_waited_ms"),
    )
)
_FORGET = Statement(delete(orphans).where(*_MINE))
_FORGET_RANGE = Statement(
    delete(orphans).where(
        orphans.c.backend == bindparam("backend_is"), orphans.c.payload_id > bindparam("after")
    )
)
_RIPE = Statement(
    select(orphans.c.payload_id)
    .where(
        orphans.c.backend == bindparam("backend_is"),
        orphans.c.payload_id > bindparam("after"),
        orphans.c.waited_ms >= bindparam("dwell_ms"),
    )
    .order_by(orphans.c.payload_id)
    .limit(bindparam("count"))
)
_COUNT_RIPE = Statement(
    select(func.count()).where(
        orphans.c.backend == bindparam("backend_is"), orphans.c.waited_ms >= bindparam("dwell_ms")
    )
)
_IS_RIPE = Statement(
    select(orphans.c.payload_id).where(*_MINE, orphans.c.waited_ms >= bindparam("dwell_ms"))
)
_SUMS = Statement(
    select(
        orphans.c.backend,
        func.count().label("payloads"),
        # Sums of big integers are of another type in PostgreSQL.
        func.sum(orphans.c.blobs).label("blobs"),
        func.sum(orphans.c.bytes).label("bytes"),
    ).group_by(orphans.c.backend)
)


@dataclass(frozen=True, slots=True)
class SeenPayload:
    """What a store was seen to have of a payload."""

    payload_id: str
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found of a page of payloads that a store has."""

    marked: int = 0
    """Orphans that were not known."""
    orphans: int = 0
    """Those, and those that were."""
    unmarked: int = 0
    """Were orphans, and are named again or not in the store any more."""


@dataclass(frozen=True, slots=True)
class OrphanSum:
    """How much of a store nothing names."""

    payloads: int
    blobs: int
    bytes: int


def mark_orphans(
    connection: Connection,
    backend: str,
    seen: Sequence[SeenPayload],
    *,
    after: str,
    last: str,
    longest_ms: int,
) -> Looked:
    """Mark what nothing names of a page of a store's payloads, and unmark what is none any more.

    ``seen`` is all that was listed behind the payload id ``after``, up to ``last``, *before* this
    is called. Between two looks at most ``longest_ms`` are counted: a clock that was set forward
    makes nothing old, and one that was set back loses nothing.
    """
    unnamed = {payload.payload_id: payload for payload in _unnamed(connection, seen)}
    now = now_ms(connection)
    between = (
        orphans.c.backend == backend,
        orphans.c.payload_id > after,
        orphans.c.payload_id <= last,
    )
    gone = delete(orphans).where(*between, orphans.c.payload_id.not_in(unnamed))
    unmarked = connection.execute(gone).rowcount
    known = connection.execute(select(orphans).where(*between)).all()
    for mark in known:
        mine = {"backend_is": backend, "payload_id_is": mark.payload_id}
        payload = unnamed.pop(mark.payload_id)
        waited_ms = mark.waited_ms + min(max(0, now - mark.seen_ms), longest_ms)
        found = {"new_blobs": payload.blobs, "new_bytes": payload.bytes}
        times = {"seen_ms_is": mark.seen_ms, "now_ms": now, "new_waited_ms": waited_ms}
        _LOOK_AGAIN.run(connection, mine | found | times)
    for payload in unnamed.values():
        row = {"backend": backend, "payload_id": payload.payload_id, "blobs": payload.blobs}
        times = {"seen_ms": now, "waited_ms": 0}
        insert_once(connection, orphans, row | {"bytes": payload.bytes} | times)
    return Looked(len(unnamed), len(unnamed) + len(known), unmarked)


def _unnamed(connection: Connection, seen: Sequence[SeenPayload]) -> Iterable[SeenPayload]:
    named = named_among(connection, [payload.payload_id for payload in seen])
    return (payload for payload in seen if payload.payload_id not in named)


def named_among(connection: Connection, payload_ids: Collection[str]) -> set[str]:
    """Return those of the payloads that anything names."""
    if not payload_ids:
        return set()
    # One statement sees one state: between two an intent could become an object, or a grave.
    names = [
        select(table.c.payload_id).where(table.c.payload_id.in_(payload_ids))
        for table in (intents, graves, segments, placements, pins)
    ]
    erased = objects.c.state == ObjectState.ERASED.value
    names.append(select(objects.c.payload_id).where(objects.c.payload_id.in_(payload_ids), ~erased))
    return {row.payload_id for row in connection.execute(union(*names))}


def unmark_after(connection: Connection, backend: str, after: str) -> int:
    """Unmark all behind a payload id: a store was listed to its end, and it was not there."""
    return _FORGET_RANGE.run(connection, {"backend_is": backend, "after": after}).changed


def count_ripe(connection: Connection, backend: str, dwell_ms: int) -> int:
    """Return how many orphans of a store have waited long enough."""
    return int(_COUNT_RIPE.run(connection, {"backend_is": backend, "dwell_ms": dwell_ms}).value())


def list_ripe(
    connection: Connection, backend: str, dwell_ms: int, after: str, limit: int
) -> list[str]:
    """Return a page of them, by payload id."""
    page = {"backend_is": backend, "dwell_ms": dwell_ms, "after": after, "count": limit}
    return [row.payload_id for row in _RIPE.run(connection, page)]


def may_go(connection: Connection, backend: str, payload_id: str, dwell_ms: int) -> bool:
    """Tell whether a payload is to be deleted from a store: nothing names it, its mark is still
    there and old enough, and the catalog is not behind. A mark that is named goes.
    """
    mine = {"backend_is": backend, "payload_id_is": payload_id}
    if is_behind(connection):
        return False
    if named_among(connection, [payload_id]):
        _FORGET.run(connection, mine)
        return False
    return _IS_RIPE.run(connection, mine | {"dwell_ms": dwell_ms}).first() is not None


def unmark(connection: Connection, backend: str, payload_id: str) -> None:
    """Forget an orphan: nothing of it is left in the store."""
    _FORGET.run(connection, {"backend_is": backend, "payload_id_is": payload_id})


def sum_orphans(connection: Connection) -> dict[str, OrphanSum]:
    """Return how much of each store nothing names, as far as it was seen."""
    return {
        row.backend: OrphanSum(int(row.payloads), int(row.blobs), int(row.bytes))
        for row in _SUMS.run(connection)
    }
