"""Units that read the segments of payloads."""

from sqlalchemy import Connection, bindparam, select

from crypto import LEAF_TAG_SIZE, Secret
from storage_gateway.records import Segment

from .statements import Found, Statement
from .tables import segments

DIGEST_SIZE = 32

_IN_ORDER = (
    select(segments)
    .where(segments.c.payload_id == bindparam("payload_id_is"))
    .order_by(segments.c.segment)
)
_SEGMENTS = Statement(_IN_ORDER)
_SEGMENT_PAGE = Statement(
    _IN_ORDER.where(segments.c.segment >= bindparam("first"), segments.c.segment < bindparam("end"))
)


def load_segments(connection: Connection, payload_id: str) -> tuple[Segment, ...]:
    """Return a payload's segments in order."""
    return _segments_of(_SEGMENTS.run(connection, {"payload_id_is": payload_id}))


def load_segment_page(
    connection: Connection, payload_id: str, *, first: int, count: int
) -> tuple[Segment, ...]:
    """Return so many segments from a number on, or fewer where there are no more, in order."""
    bounds = {"payload_id_is": payload_id, "first": first, "end": first + count}
    return _segments_of(_SEGMENT_PAGE.run(connection, bounds))


def _segments_of(rows: Found) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            index=row.segment,
            size=row.size or 0,
            leaf_digests=_pieces(row.leaf_digests, DIGEST_SIZE),
            tag_key=Secret(row.tag_key or b""),
            leaf_tags=_pieces(row.leaf_tags, LEAF_TAG_SIZE),
        )
        for row in rows
    )


def _pieces(joined: bytes | None, size: int) -> tuple[bytes, ...]:
    return tuple((joined or b"")[at : at + size] for at in range(0, len(joined or b""), size))
