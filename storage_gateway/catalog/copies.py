"""Units on the copies of segments: where they lie, and which of them turned out to be bad."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from storage_gateway.records import ObjectState

from .statements import Statement
from .tables import objects, placements

PLACED = "placed"
PENDING = "pending"
"""Wanted in a store that did not take it in time; to be copied there."""
BAD = "bad"
"""It was placed, and a read found it missing or corrupt while another store was right."""

_PLACEMENTS = Statement(
    select(placements.c.backend, placements.c.segment).where(
        placements.c.payload_id == bindparam("payload_id_is"),
        placements.c.state == bindparam("state_is"),
    )
)
# Only what was placed can turn out to be bad, and what is being erased is missing as it should be.
_MARK_BAD = Statement(
    update(placements)
    .where(
        placements.c.payload_id == bindparam("payload_id_is"),
        placements.c.segment == bindparam("segment_is"),
        placements.c.backend == bindparam("backend_is"),
        placements.c.state == PLACED,
        select(objects.c.object_id)
        .where(
            objects.c.payload_id == bindparam("payload_id_is"),
            objects.c.state == ObjectState.COMMITTED.value,
        )
        .exists(),
    )
    .values(state=BAD)
)

_STORES_OF = Statement(
    select(placements.c.backend).where(
        placements.c.payload_id == bindparam("payload_id_is"),
        placements.c.segment == bindparam("segment_is"),
        placements.c.state == PLACED,
    )
)
_OBJECT_OF = Statement(
    select(objects.c.object_id).where(objects.c.payload_id == bindparam("payload_id_is"))
)


@dataclass(frozen=True, slots=True)
class BadCopy:
    """A copy that was taken for right until now, and in how many stores its segment still is."""

    object_id: str
    copies_left: int


def load_placements(
    connection: Connection, payload_id: str, state: str = PLACED
) -> dict[str, frozenset[int]]:
    """Return which segments of a payload are in that state in which store, as far as is known."""
    found: dict[str, set[int]] = {}
    wanted = {"payload_id_is": payload_id, "state_is": state}
    for row in _PLACEMENTS.run(connection, wanted):
        found.setdefault(row.backend, set()).add(row.segment)
    return {backend: frozenset(indexes) for backend, indexes in found.items()}


def stores_of(connection: Connection, payload_id: str, segment: int) -> frozenset[str]:
    """Return the stores that have a segment right, as far as is known."""
    wanted = {"payload_id_is": payload_id, "segment_is": segment}
    return frozenset(row.backend for row in _STORES_OF.run(connection, wanted))


def note_bad(connection: Connection, payload_id: str, segment: int, backend: str) -> BadCopy | None:
    """As `mark_bad`, for who tells of it; None when the copy was not taken for right."""
    if not mark_bad(connection, payload_id, segment, backend):
        return None
    object_id = str(_OBJECT_OF.run(connection, {"payload_id_is": payload_id}).value())
    return BadCopy(object_id, len(stores_of(connection, payload_id, segment)))


def mark_bad(connection: Connection, payload_id: str, segment: int, backend: str) -> bool:
    """Note that a copy must be made again; False when it was not taken for right."""
    copy = {"payload_id_is": payload_id, "segment_is": segment, "backend_is": backend}
    return _MARK_BAD.run(connection, copy).changed == 1
