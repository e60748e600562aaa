"""Units on what ended runs leave in the serving catalog: their control sessions, and their rows.

The only place where a session or a tombstone is ever dropped: a session that is a run's alone, and
only once the run is over and all its objects are erased. Otherwise every run would leave some for
ever.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, literal, select

from storage_gateway.records import ObjectState

from .stress_runs import CONTROL_SESSIONS, control_session
from .tables import (
    intents,
    key_versions,
    objects,
    parties,
    sessions,
    slots,
    stress_runs,
    tokens,
    wraps,
)

RUNS_KEPT = 100
"""So many of the newest runs can be asked for their reports."""
BATCH = 100

_IS_OVER = stress_runs.c.running.is_(None)


@dataclass(frozen=True, slots=True)
class Remains:
    """What can be dropped now, by the ids of the runs: at most `BATCH` of each."""

    sessions: list[str]
    rows: list[str]


def find_remains(connection: Connection) -> Remains:
    """Return what can be dropped."""
    with_session = select(stress_runs.c.run_id).where(_IS_OVER, _has_session(), ~_is_in_use())
    return Remains(
        sessions=list(connection.execute(with_session.limit(BATCH)).scalars()),
        rows=list(connection.execute(_outdated().limit(BATCH)).scalars()),
    )


def drop_control_session(connection: Connection, run_id: str) -> bool:
    """Drop the control session of a run that is over, with its tombstones.

    False, and nothing is done, when an object of it is not erased yet or an upload is under way.
    """
    session_id = control_session(run_id)
    # A commit that is under way ends first; one that comes later finds no keys to be sealed for.
    locked = select(sessions.c.session_id).where(sessions.c.session_id == session_id)
    connection.execute(locked.with_for_update())
    droppable = select(stress_runs.c.run_id).where(
        stress_runs.c.run_id == run_id, _IS_OVER, ~_is_in_use()
    )
    if connection.execute(droppable).first() is None:
        return False
    for table in (objects, slots, tokens, key_versions, parties, wraps, sessions):
        connection.execute(delete(table).where(table.c.session_id == session_id))
    return True


def drop_outdated_run(connection: Connection, run_id: str) -> None:
    """Drop the row of a run that is over, when there are enough newer ones and no session of it."""
    outdated = connection.execute(_outdated().where(stress_runs.c.run_id == run_id)).first()
    if outdated is not None:
        connection.execute(delete(stress_runs).where(stress_runs.c.run_id == run_id))


def _session_id() -> ColumnElement[str]:
    return literal(CONTROL_SESSIONS) + stress_runs.c.run_id


def _has_session() -> ColumnElement[bool]:
    return exists().where(sessions.c.session_id == _session_id())


def _is_in_use() -> ColumnElement[bool]:
    unerased = and_(
        objects.c.session_id == _session_id(), objects.c.state != ObjectState.ERASED.value
    )
    uploading = and_(
        slots.c.session_id == _session_id(), slots.c.payload_id == intents.c.payload_id
    )
    return exists().where(unerased) | exists().where(uploading)


def _outdated() -> Select[str]:
    newest = (
        select(stress_runs.c.run_id)
        .order_by(stress_runs.c.created_ms.desc(), stress_runs.c.run_id)
        .limit(RUNS_KEPT)
    )
    return select(stress_runs.c.run_id).where(
        _IS_OVER, ~_has_session(), stress_runs.c.run_id.not_in(newest)
    )
