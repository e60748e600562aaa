"""Units that give an object a new payload: under a new file key, in the place of the old one.

The new one is an upload like any other, but for its slot, which the object has already. The old one
is doomed: who began to read it may go on for a while, then it is deleted as an aborted one is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, tuple_, update

from storage_gateway.errors import FileKeyReused, ObjectChanged, StaleParties
from storage_gateway.plan import IntentState
from storage_gateway.records import BLIND, Manifest, ObjectState, Party, Segment

from .clock import now_ms
from .graves import SUPERSEDED, dig_grave
from .objects import (
    MANIFESTS,
    Ownership,
    end_intent,
    expect_copy_of,
    manifest_of_row,
    record_placed,
)
from .objects import object_values as values_of
from .sessions import are_current
from .statements import Statement
from .tables import intents, objects, segments, sessions, slots
from .wraps import note_wrap

_INSERT_INTENT = Statement(insert(intents))
_INSERT_SEGMENT = Statement(insert(segments))
_MOVE_SLOT = Statement(
    update(slots)
    .where(slots.c.payload_id == bindparam("payload_id_is"))
    .values(payload_id=bindparam("new_payload_id"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is among the objects: behind the one with this sequence in this session."""

    session_id: str = ""
    sequence: int = 0


def list_to_reseal(
    connection: Connection, session_id: str | None, *, before_ms: int, after: Place, limit: int
) -> list[Manifest]:
    """Return a page of the objects that were committed before a time, in their order."""
    query = MANIFESTS.where(*_to_reseal(session_id, before_ms, after))
    query = query.order_by(objects.c.session_id, objects.c.sequence).limit(limit)
    return [manifest_of_row(row) for row in connection.execute(query)]


def count_to_reseal(
    connection: Connection, session_id: str | None, *, before_ms: int, after: Place
) -> dict[str, int]:
    """Return how many there are behind a place, by the session."""
    query = (
        select(objects.c.session_id, func.count())
        .where(*_to_reseal(session_id, before_ms, after))
        .group_by(objects.c.session_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _to_reseal(session_id: str | None, before_ms: int, after: Place) -> list[ColumnElement[bool]]:
    # Under blind custody only a party can open what is to be sealed anew.
    blind = select(sessions.c.session_id).where(sessions.c.custody == BLIND)
    where = [
        objects.c.state == ObjectState.COMMITTED.value,
        objects.c.created_ms <= before_ms,
        objects.c.session_id.not_in(blind),
        tuple_(objects.c.session_id, objects.c.sequence) > tuple_(after.session_id, after.sequence),
    ]
    if session_id is not None:
        where.append(objects.c.session_id == session_id)
    return where


def begin_reseal(
    connection: Connection, owner: Ownership, old: Manifest, wrapped_for: Sequence[Party]
) -> None:
    """Write the intent and the row of segment 0, before the first put."""
    intent = {
        "payload_id": owner.payload_id,
        "object_id": old.object_id,
        "instance_id": owner.instance_id,
        "fence": owner.fence,
        "state": IntentState.OPEN.value,
        "created_ms": now_ms(connection),
        "wrap_id": note_wrap(connection, old.slot.session_id, wrapped_for),
    }
    _INSERT_INTENT.run(connection, intent)
    _INSERT_SEGMENT.run(connection, {"payload_id": owner.payload_id, "segment": 0})


def commit_reseal(
    connection: Connection,
    owner: Ownership,
    new: Manifest,
    old: Manifest,
    *,
    placed: Sequence[Segment],
    wanted: Sequence[str],
    grace_s: float,
) -> Manifest:
    """Put the new payload and head in the place of the old, in one transaction; doom the old one.

    Raises:
        IntentLost: the intent was claimed, or this instance's lease has run out.
        StaleParties: a key that the head is wrapped for is not active any more.
        ObjectChanged: the object is not as it was when it was read.
        FileKeyReused: another object was sealed with this file key.

    """
    session_id = old.slot.session_id
    end_intent(connection, owner, session_id)
    if not are_current(connection, session_id, new.wrapped_for):
        raise StaleParties("a key of a party was retired while the object was resealed")
    taken = select(objects.c.object_id).where(objects.c.file_key_print == new.file_key_print)
    if connection.execute(taken).first() is not None:
        raise FileKeyReused("the file key was seen before")
    generation = old.generation + 1
    values = values_of(new) | {
        "generation": generation,
        "wrap_id": note_wrap(connection, session_id, new.wrapped_for),
    }
    here = (
        objects.c.object_id == old.object_id,
        objects.c.generation == old.generation,
        objects.c.state == ObjectState.COMMITTED.value,
    )
    if connection.execute(update(objects).where(*here).values(values)).rowcount != 1:
        raise ObjectChanged("the object changed while it was resealed")
    record_placed(connection, owner.payload_id, placed, wanted)
    moved = {"payload_id_is": old.payload_id, "new_payload_id": new.payload_id}
    _MOVE_SLOT.run(connection, moved)
    dig_grave(connection, old.payload_id, old.object_id, SUPERSEDED, doomed_s=grace_s)
    committed = replace(
        new,
        generation=generation,
        sequence=old.sequence,
        created_ms=old.created_ms,
        expires_ms=old.expires_ms,
        expired_ms=old.expired_ms,
        erase_after_ms=old.erase_after_ms,
    )
    expect_copy_of(connection, committed)
    return committed
