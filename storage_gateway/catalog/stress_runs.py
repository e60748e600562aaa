"""Units on stress runs: who runs what, how far it is, what it found, and what must be cleared."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update

from .clock import now_ms
from .statements import insert_once
from .tables import instances, stress_runs, tokens

RUNNING = 1
CONTROL_SESSIONS = "stress."
"""What the ids of the runs' own sessions in the serving catalog begin with, and no others."""


class RunState(enum.StrEnum):
    """How far a run is. Both ends mean: everything of it was cleared away."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the catalog knows it; ``children`` are the process ids and start times of its own
    processes.
    """

    run_id: str
    case_name: str
    seed: int
    parameters: dict[str, Any]
    state: RunState
    stop_asked: bool
    instance_id: str
    children: list[list[int]]
    progress: dict[str, Any]
    report: dict[str, Any] | None
    created_ms: int
    ended_ms: int | None


def _run_of(row: Row[Any]) -> RunRow:
    known = {field.name: getattr(row, field.name) for field in fields(RunRow)}
    return RunRow(**known | {"state": RunState(row.state), "stop_asked": bool(row.stop_asked)})


def control_session(run_id: str) -> str:
    """Return the id of a run's session in the serving catalog, that of its control group."""
    return f"{CONTROL_SESSIONS}{run_id}"


def begin_run(
    connection: Connection,
    *,
    run_id: str,
    case_name: str,
    seed: int,
    parameters: Mapping[str, Any],
    instance_id: str,
) -> str | None:
    """Enter a run unless one is running; return the id of the one that is, or None when entered."""
    row = {
        "run_id": run_id,
        "case_name": case_name,
        "seed": seed,
        "parameters": dict(parameters),
        "state": RunState.RUNNING.value,
        "running": RUNNING,
        "stop_asked": 0,
        "instance_id": instance_id,
        "children": [],
        "progress": {},
        "created_ms": now_ms(connection),
    }
    if insert_once(connection, stress_runs, row):
        return None
    found = find_running(connection)
    return found.run_id if found else ""


def find_run(connection: Connection, run_id: str) -> RunRow | None:
    """Return a run, or None."""
    row = connection.execute(select(stress_runs).where(stress_runs.c.run_id == run_id)).first()
    return None if row is None else _run_of(row)


def find_running(connection: Connection) -> RunRow | None:
    """Return the run of which anything may still be there, or None."""
    row = connection.execute(select(stress_runs).where(stress_runs.c.running == RUNNING)).first()
    return None if row is None else _run_of(row)


def tell_progress(
    connection: Connection, run_id: str, instance_id: str, progress: Mapping[str, Any]
) -> bool:
    """Record how far the owner is; True when the run was asked to stop, or is no more its own."""
    connection.execute(
        update(stress_runs)
        .where(stress_runs.c.run_id == run_id, stress_runs.c.instance_id == instance_id)
        .values(progress=dict(progress))
    )
    row = find_run(connection, run_id)
    return row is None or row.stop_asked or row.instance_id != instance_id


def record_children(connection: Connection, run_id: str, children: list[list[int]]) -> None:
    """Record the processes of a run, so that they can be ended when their parent is dead."""
    connection.execute(
        update(stress_runs).where(stress_runs.c.run_id == run_id).values(children=children)
    )


def ask_to_stop(connection: Connection, run_id: str) -> None:
    """Have the owner, or who recovers the run, end it."""
    connection.execute(
        update(stress_runs).where(stress_runs.c.run_id == run_id).values(stop_asked=1)
    )


def claim_run(connection: Connection, run: RunRow, claimer: str) -> bool:
    """Take a run over from an owner whose lease has run out; False when someone else was faster."""
    owner_alive = exists().where(
        instances.c.instance_id == stress_runs.c.instance_id,
        instances.c.lease_until_ms > now_ms(connection),
    )
    changed = connection.execute(
        update(stress_runs)
        .where(
            stress_runs.c.run_id == run.run_id,
            stress_runs.c.instance_id == run.instance_id,
            stress_runs.c.running == RUNNING,
            ~owner_alive,
        )
        .values(instance_id=claimer)
    )
    return changed.rowcount == 1


def end_run(
    connection: Connection,
    run_id: str,
    instance_id: str,
    state: RunState,
    report: Any,  # noqa: ANN401 - a JSON document
) -> bool:
    """Close a run of which nothing is left; False when it is not this instance's any more."""
    changed = connection.execute(
        update(stress_runs)
        .where(
            stress_runs.c.run_id == run_id,
            stress_runs.c.instance_id == instance_id,
            stress_runs.c.running == RUNNING,
        )
        .values(
            state=state.value,
            running=None,
            report=report,
            children=[],
            ended_ms=now_ms(connection),
        )
    )
    return changed.rowcount == 1


def revoke_tokens_of(connection: Connection, session_id: str) -> None:
    """Revoke every token of a session: nobody is left who should use one."""
    connection.execute(
        update(tokens)
        .where(tokens.c.session_id == session_id, tokens.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms(connection))
    )
