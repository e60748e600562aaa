"""Units that bring a session from one class of keys to another."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from crypto import CLASSIC, HYBRID, parse_recipient
from storage_gateway.errors import InvalidField, NoKeyOfClass
from storage_gateway.key_states import KeyState
from storage_gateway.records import BLIND, Manifest, ObjectState

from .clock import now_ms
from .objects import MANIFESTS, manifest_of_row
from .registry import note_change
from .sessions import DEPLOYMENT_SCOPE, lock_session
from .tables import intents, key_versions, objects, parties, sessions, wraps

_FROM, _TO = CLASSIC, HYBRID
"""The one way that there is: what was once sealed by the weaker class is sealed anew."""


def check_migration(connection: Connection, session_id: str) -> None:
    """Make sure that every party of a session, and the router, has an active key of the new class.

    Raises:
        InvalidField: there is no such session, or only its parties can open its objects.
        NoKeyOfClass: somebody has none.

    """
    row = connection.execute(
        select(sessions).where(sessions.c.session_id == session_id)
    ).one_or_none()
    if row is None or row.custody == BLIND:
        raise InvalidField("name a session of router custody", field="session_id")
    lacking = _lacking(connection, session_id)
    if lacking:
        raise NoKeyOfClass(f"no active {_TO} key: {', '.join(lacking)}", parties=list(lacking))


def begin_migration(connection: Connection, session_id: str) -> None:
    """Let the session have the new class: what is sealed from now on is of it. Again is the same.

    Raises:
        InvalidField, NoKeyOfClass: as `check_migration`.

    """
    lock_session(connection, session_id)
    check_migration(connection, session_id)
    here = sessions.c.session_id == session_id
    changed = update(sessions).where(here, sessions.c.key_class == _FROM).values(key_class=_TO)
    if connection.execute(changed).rowcount == 1:
        note_change(connection, session_id)


def end_migration(connection: Connection, session_id: str) -> bool:
    """Retire the keys of the old class once nothing of it is left; tell whether that is so."""
    lock_session(connection, session_id)
    if count_to_migrate(connection, session_id) or _uploads(connection, session_id):
        return False
    retired = (
        update(key_versions)
        .where(key_versions.c.session_id == session_id, key_versions.c.key_class == _FROM)
        .where(key_versions.c.state == KeyState.ACTIVE.value)
        .values(state=KeyState.RETIRING.value, changed_ms=now_ms(connection))
    )
    if connection.execute(retired).rowcount:
        note_change(connection, session_id)
    return True


def count_to_migrate(connection: Connection, session_id: str) -> int:
    """Return how many objects of a session are of the old class."""
    query = select(func.count()).select_from(objects).where(*_of_old_class(session_id))
    return int(connection.execute(query).scalar_one())


def list_to_migrate(
    connection: Connection, session_id: str, *, after: int, limit: int
) -> Sequence[Manifest]:
    """Return a page of them, behind a sequence number, in the order of commits."""
    query = MANIFESTS.where(*_of_old_class(session_id), objects.c.sequence > after)
    rows = connection.execute(query.order_by(objects.c.sequence).limit(limit))
    return [manifest_of_row(row) for row in rows]


def _of_old_class(session_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        objects.c.session_id == session_id,
        objects.c.state == ObjectState.COMMITTED.value,
        objects.c.key_class == _FROM,
    )


def _uploads(connection: Connection, session_id: str) -> bool:
    """Tell whether an upload of the session is under way that is of the old class."""
    known = connection.execute(select(wraps).where(wraps.c.session_id == session_id))
    old = [row.wrap_id for row in known if _class_of(row.parties) == _FROM]
    query = select(intents.c.payload_id).where(intents.c.wrap_id.in_(old)).limit(1)
    return connection.execute(query).first() is not None


def _class_of(stored: Sequence[dict[str, str]]) -> str:
    return parse_recipient(stored[0]["recipient"]).key_class


def _lacking(connection: Connection, session_id: str) -> list[str]:
    query = select(key_versions).where(
        key_versions.c.state == KeyState.ACTIVE.value,
        key_versions.c.key_class == _TO,
        or_(
            key_versions.c.session_id == session_id,
            key_versions.c.session_id == DEPLOYMENT_SCOPE,
        ),
    )
    having = {(row.role, row.miner) for row in connection.execute(query)}
    wanted = select(parties).where(
        parties.c.session_id == session_id, parties.c.removed_ms.is_(None)
    )
    members = [(row.role, row.miner) for row in connection.execute(wanted)]
    return [
        f"{role} {miner}".strip()
        for role, miner in [("router", ""), *members]
        if (role, miner) not in having
    ]
