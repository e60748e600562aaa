"""Units on holds: an object, or a whole session, is kept whoever wants it gone.

They are counted where an erasure looks, in the row of the object or of its session; see `erasing`.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from storage_gateway.errors import Erased, NoSuchHold, UnknownSession
from storage_gateway.records import ObjectState

from .clock import now_ms
from .objects import load_manifest
from .outbox import expect_claims_copy
from .registry import note_change
from .retention_tables import holds
from .sessions import lock_session
from .statements import Statement
from .tables import objects, sessions

_HOLDS = Statement(
    select(holds)
    .where(
        holds.c.session_id == bindparam("session_id_is"),
        holds.c.object_id == bindparam("object_id_is"),
    )
    .order_by(holds.c.since_ms, holds.c.hold_id)
)
_RELEASE = Statement(
    update(holds)
    .where(
        holds.c.hold_id == bindparam("hold_id_is"),
        holds.c.session_id == bindparam("session_id_is"),
        holds.c.object_id == bindparam("object_id_is"),
        holds.c.released_ms.is_(None),
    )
    .values(
        released_ms=bindparam("now_ms"),
        released_by=bindparam("by"),
        release_why=bindparam("for_reason"),
    )
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a hold is on: an object, or all of its session where ``object_id`` is empty."""

    session_id: str
    object_id: str = ""

    def parameters(self) -> dict[str, str]:
        """Return what the statements on its holds compare."""
        return {"session_id_is": self.session_id, "object_id_is": self.object_id}


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold as the catalog has it, also one that was released."""

    hold_id: str
    who: str
    why: str
    since_ms: int
    released_ms: int | None = None
    released_by: str | None = None
    release_why: str | None = None


def scope_of_object(connection: Connection, object_id: str) -> Scope:
    """Return the scope of holds on an object.

    Raises:
        NotFound: no object of that id was ever committed.

    """
    return Scope(load_manifest(connection, object_id).slot.session_id, object_id)


def place_hold(
    connection: Connection, scope: Scope, *, hold_id: str, who: str, why: str
) -> HoldRow:
    """Hold an object or a session from now on.

    Raises:
        Erased: the object was; a hold brings nothing back.
        UnknownSession: there is no such session.

    """
    _count(connection, scope, 1)
    # After the waiting: whoever was first has done what it did before.
    placed = HoldRow(hold_id, who, why, now_ms(connection))
    row = {"session_id": scope.session_id, "object_id": scope.object_id}
    row |= {"hold_id": hold_id, "who": who, "why": why}
    connection.execute(insert(holds), row | {"since_ms": placed.since_ms})
    _note_change(connection, scope)
    return placed


def release_hold(
    connection: Connection, scope: Scope, hold_id: str, *, who: str, why: str
) -> HoldRow:
    """Release a hold; one that was released stays as it is.

    Raises:
        NoSuchHold: none of that id is, or was, on the object, or on the session as a whole.

    """
    if not scope.object_id:
        lock_session(connection, scope.session_id)
    released = {"hold_id_is": hold_id, "now_ms": now_ms(connection), "by": who, "for_reason": why}
    if _RELEASE.run(connection, scope.parameters() | released).changed == 1:
        _count(connection, scope, -1)
        _note_change(connection, scope)
    found = next((h for h in list_holds(connection, scope) if h.hold_id == hold_id), None)
    if found is None:
        raise NoSuchHold("no such hold on the object, or on the session")
    return found


def list_holds(connection: Connection, scope: Scope) -> list[HoldRow]:
    """Return all holds on an object, or on a session as a whole, in the order of their coming."""
    return [_hold_of(row) for row in _HOLDS.run(connection, scope.parameters())]


def _hold_of(row: Any) -> HoldRow:  # noqa: ANN401 - as `Found.first`
    return HoldRow(
        hold_id=row.hold_id,
        who=row.who,
        why=row.why,
        since_ms=row.since_ms,
        released_ms=row.released_ms,
        released_by=row.released_by,
        release_why=row.release_why,
    )


def _count(connection: Connection, scope: Scope, change: int) -> None:
    if scope.object_id:
        counted = connection.execute(
            update(objects)
            .where(
                objects.c.object_id == scope.object_id,
                objects.c.state == ObjectState.COMMITTED.value,
            )
            .values(
                holds=objects.c.holds + change,
                claims_generation=objects.c.claims_generation + 1,
            )
        )
        if counted.rowcount != 1:
            raise Erased("the object was erased: no hold brings it back")
        return
    lock_session(connection, scope.session_id)
    here = sessions.c.session_id == scope.session_id
    counted = connection.execute(
        update(sessions).where(here).values(holds=sessions.c.holds + change)
    )
    if counted.rowcount != 1:
        raise UnknownSession(f"no session {scope.session_id}")


def _note_change(connection: Connection, scope: Scope) -> None:
    if scope.object_id:
        expect_claims_copy(connection, scope.object_id)
    else:
        note_change(connection, scope.session_id)
