"""Units on what a scrub reads: the segments of all objects, and where copies of them are."""

from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, bindparam, select, tuple_

from storage_gateway.records import ObjectState

from .copies import PLACED
from .statements import Statement
from .tables import objects, placements, segments

_SEGMENTS = Statement(
    select(objects.c.object_id, segments.c.payload_id, segments.c.segment)
    .join(objects, objects.c.payload_id == segments.c.payload_id)
    .where(
        tuple_(segments.c.payload_id, segments.c.segment)
        > tuple_(bindparam("after_payload"), bindparam("after_segment")),
        objects.c.state == ObjectState.COMMITTED.value,
    )
    .order_by(segments.c.payload_id, segments.c.segment)
    .limit(bindparam("count"))
)
_PLACEMENTS = Statement(
    select(placements.c.payload_id, placements.c.segment, placements.c.backend)
    .where(
        tuple_(placements.c.payload_id, placements.c.segment)
        >= tuple_(bindparam("first_payload"), bindparam("first_segment")),
        tuple_(placements.c.payload_id, placements.c.segment)
        <= tuple_(bindparam("last_payload"), bindparam("last_segment")),
        placements.c.state == PLACED,
    )
    .order_by(placements.c.payload_id, placements.c.segment, placements.c.backend)
)

SegmentKey = tuple[str, int]
"""Payload, segment."""
BEFORE_ALL: SegmentKey = ("", -1)


@dataclass(frozen=True, slots=True)
class PlacedSegment:
    """A segment, and the stores that are taken to have it right."""

    object_id: str
    key: SegmentKey
    backends: tuple[str, ...]


def list_segments_to_scrub(
    connection: Connection, after: SegmentKey, limit: int
) -> list[PlacedSegment]:
    """Return a page of segments of objects that are not erased, in the order of their keys."""
    page = {"after_payload": after[0], "after_segment": after[1], "count": limit}
    found = [
        (row.object_id, (row.payload_id, row.segment)) for row in _SEGMENTS.run(connection, page)
    ]
    if not found:
        return []
    first, last = found[0][1], found[-1][1]
    bounds = {
        "first_payload": first[0],
        "first_segment": first[1],
        "last_payload": last[0],
        "last_segment": last[1],
    }
    rows = _PLACEMENTS.run(connection, bounds)
    stores = {
        key: tuple(row.backend for row in group)
        for key, group in groupby(rows, lambda row: (row.payload_id, row.segment))
    }
    return [PlacedSegment(object_id, key, stores.get(key, ())) for object_id, key in found]
