"""Units on copies that are to be made: which there are, and that one was made."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, literal_column, or_, select, tuple_, update

from storage_gateway.records import ObjectState

from .clock import now_ms
from .copies import BAD, PLACED
from .objects import is_committed
from .statements import Statement
from .tables import objects, placements

_TO_MAKE = Statement(
    select(objects.c.object_id, placements)
    .join(objects, objects.c.payload_id == placements.c.payload_id)
    .where(
        # As the index has it: of a parameter no database would see that it is the same.
        placements.c.state != literal_column("'placed'"),
        tuple_(placements.c.payload_id, placements.c.segment, placements.c.backend)
        > tuple_(
            bindparam("after_payload"), bindparam("after_segment"), bindparam("after_backend")
        ),
        objects.c.state == ObjectState.COMMITTED.value,
        or_(placements.c.state == BAD, objects.c.created_ms <= bindparam("settled_ms")),
    )
    .order_by(placements.c.payload_id, placements.c.segment, placements.c.backend)
    .limit(bindparam("count"))
)
_MARK_PLACED = Statement(
    update(placements)
    .where(
        placements.c.payload_id == bindparam("payload_id_is"),
        placements.c.segment == bindparam("segment_is"),
        placements.c.backend == bindparam("backend_is"),
        placements.c.state == bindparam("state_is"),
    )
    .values(state=PLACED)
)

CopyKey = tuple[str, int, str]
"""Payload, segment, store."""
BEFORE_ALL: CopyKey = ("", -1, "")


@dataclass(frozen=True, slots=True)
class CopyToMake:
    """A segment that a store should have; ``state`` is what is known of it, pending or bad."""

    object_id: str
    payload_id: str
    segment: int
    backend: str
    state: str

    @property
    def key(self) -> CopyKey:
        """Where it is in the order of all."""
        return self.payload_id, self.segment, self.backend


def list_copies_to_make(
    connection: Connection, after: CopyKey, limit: int, settled_s: float
) -> list[CopyToMake]:
    """Return a page of copies that are to be made, of objects that are not erased, in order.

    What is pending may still be on its way: it is left out for ``settled_s`` after the commit.
    """
    page = {
        "after_payload": after[0],
        "after_segment": after[1],
        "after_backend": after[2],
        "settled_ms": now_ms(connection) - int(settled_s * 1000),
        "count": limit,
    }
    return [
        CopyToMake(row.object_id, row.payload_id, row.segment, row.backend, row.state)
        for row in _TO_MAKE.run(connection, page)
    ]


def mark_placed(connection: Connection, copy: CopyToMake) -> bool:
    """Note that a copy is there and right. False when the payload was given up: it is to go."""
    wanted = {
        "payload_id_is": copy.payload_id,
        "segment_is": copy.segment,
        "backend_is": copy.backend,
        "state_is": copy.state,
    }
    _MARK_PLACED.run(connection, wanted)
    return is_committed(connection, copy.payload_id)
