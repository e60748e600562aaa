"""Units on jobs: work over many objects that somebody asked for; any process can take it up."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update

from storage_gateway.errors import TooManyJobs

from .clock import now_ms
from .sessions import lock_session
from .statements import insert_once
from .tables import deployment, instances, job_failures, jobs

_NOT_ENDED = select(jobs).where(jobs.c.ended_ms.is_(None)).order_by(jobs.c.created_ms)
JOBS_KEPT = 100
"""So many of the newest that have ended can be asked for."""
FAILURES_PAGE = 1000


class JobState(enum.StrEnum):
    """Where a job is."""

    RUNNING = "running"
    STOPPING = "stopping"
    """Somebody asked it to; what is under way ends."""
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not go on; some of it may be done."""


ENDED = (JobState.DONE, JobState.STOPPED, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the catalog knows it."""

    job_id: str
    kind: str
    parameters: dict[str, Any]
    state: JobState
    instance_id: str
    fence: int
    counts: dict[str, Any]
    created_ms: int
    ended_ms: int | None

    @property
    def session_id(self) -> str | None:
        """The one session that it is about; None: all of them."""
        return self.parameters.get("session_id")


@dataclass(frozen=True, slots=True)
class FailureRow:
    """An object that a job could not do."""

    object_id: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a job is about, and from where it goes on."""

    session_id: str | None
    """None: all sessions."""
    before_ms: int
    """What was committed later than that is new enough."""
    position: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What was done at once."""

    done: int
    changed: int = 0
    """Objects that had changed meanwhile, and stay as they are."""
    failures: tuple[FailureRow, ...] = ()
    position: str = ""
    """Where to go on, for jobs whose objects do not tell what is done."""

    @property
    def objects(self) -> int:
        """How many there were."""
        return self.done + self.changed + len(self.failures)


def _job_of(row: Any) -> JobRow:  # noqa: ANN401 - SQLAlchemy's row
    return JobRow(
        job_id=row.job_id,
        kind=row.kind,
        parameters=row.parameters,
        state=JobState(row.state),
        instance_id=row.instance_id,
        fence=row.fence,
        counts=row.counts,
        created_ms=row.created_ms,
        ended_ms=row.ended_ms,
    )


def begin_job(
    connection: Connection,
    *,
    job_id: str,
    kind: str,
    parameters: Mapping[str, Any],
    instance_id: str,
    jobs_max: int,
) -> JobRow:
    """Enter a job that this process carries out; forget the oldest that have ended.

    Raises:
        TooManyJobs: so many for the same session, or for all, have not ended.

    """
    _require_room(connection, parameters["session_id"], jobs_max)
    row = {
        "job_id": job_id,
        "kind": kind,
        "parameters": dict(parameters),
        "state": JobState.RUNNING.value,
        "instance_id": instance_id,
        "fence": 1,
        "counts": {},
        "created_ms": now_ms(connection),
        "ended_ms": None,
    }
    connection.execute(insert(jobs), row)
    _forget_old(connection)
    found = find_job(connection, job_id)
    assert found is not None, "it was just inserted"  # noqa: S101 - says what mypy cannot see
    return found


def _require_room(connection: Connection, session_id: str | None, jobs_max: int) -> None:
    # Of those that begin one at the same time the second counts the first's, too.
    if session_id is not None:
        lock_session(connection, session_id)
    else:
        connection.execute(select(deployment.c.singleton).with_for_update())
    running = [_job_of(row) for row in connection.execute(_NOT_ENDED)]
    there = [job.job_id for job in running if job.session_id == session_id]
    if len(there) >= jobs_max:
        about = "all sessions" if session_id is None else f"session {session_id}"
        raise TooManyJobs(f"{len(there)} jobs for {about} have not ended", running=there)


def _forget_old(connection: Connection) -> None:
    ended = select(jobs.c.job_id).where(jobs.c.ended_ms.is_not(None))
    newest = ended.order_by(jobs.c.created_ms.desc(), jobs.c.job_id).offset(JOBS_KEPT).limit(100)
    outdated = list(connection.execute(newest).scalars())
    for table in (job_failures, jobs):
        connection.execute(delete(table).where(table.c.job_id.in_(outdated)))


def find_job(connection: Connection, job_id: str) -> JobRow | None:
    """Return a job, or None when there is none of that id."""
    row = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    return None if row is None else _job_of(row)


def list_jobs(connection: Connection) -> list[JobRow]:
    """Return all that are known, the newest first."""
    query = select(jobs).order_by(jobs.c.created_ms.desc(), jobs.c.job_id)
    return [_job_of(row) for row in connection.execute(query)]


def list_abandoned(connection: Connection) -> list[JobRow]:
    """Return jobs that have not ended and whose process has lost its lease."""
    alive = exists().where(
        instances.c.instance_id == jobs.c.instance_id,
        instances.c.lease_until_ms > now_ms(connection),
    )
    query = select(jobs).where(jobs.c.ended_ms.is_(None), ~alive)
    return [_job_of(row) for row in connection.execute(query)]


def list_own(connection: Connection, instance_id: str) -> list[JobRow]:
    """Return the jobs of a process that have not ended."""
    query = select(jobs).where(jobs.c.ended_ms.is_(None), jobs.c.instance_id == instance_id)
    return [_job_of(row) for row in connection.execute(query)]


def claim_job(connection: Connection, job: JobRow, claimer: str) -> JobRow | None:
    """Take a job over from a dead process, or a process's own, which it lost hold of; None when
    somebody else was faster.
    """
    alive = exists().where(
        instances.c.instance_id == jobs.c.instance_id,
        instances.c.lease_until_ms > now_ms(connection),
    )
    seen = _mine(job)
    taken = {"instance_id": claimer, "fence": job.fence + 1}
    if job.instance_id != claimer:
        seen = (*seen, ~alive)
    if connection.execute(update(jobs).where(*seen).values(taken)).rowcount != 1:
        return None
    return find_job(connection, job.job_id)


def tell_job(
    connection: Connection,
    job: JobRow,
    *,
    counts: Mapping[str, Any],
    failures: Sequence[FailureRow] = (),
) -> JobState | None:
    """Write down how far a job is, and what it could not do; return its state, None when it was
    claimed by another process.
    """
    for failure in failures:
        row = {"job_id": job.job_id, "object_id": failure.object_id}
        insert_once(
            connection, job_failures, row | {"code": failure.code, "detail": failure.detail}
        )
    told = connection.execute(update(jobs).where(*_mine(job)).values(counts=dict(counts)))
    if told.rowcount != 1:
        return None
    state = select(jobs.c.state).where(jobs.c.job_id == job.job_id)
    return JobState(connection.execute(state).scalar_one())


def end_job(
    connection: Connection, job: JobRow, *, state: JobState, counts: Mapping[str, Any]
) -> bool:
    """End a job; False when it is not ours any more."""
    values = {"state": state.value, "counts": dict(counts), "ended_ms": now_ms(connection)}
    return connection.execute(update(jobs).where(*_mine(job)).values(values)).rowcount == 1


def ask_job_to_stop(connection: Connection, job_id: str) -> None:
    """Ask a job to stop; one that has ended stays as it is."""
    running = jobs.c.state == JobState.RUNNING.value
    asked = update(jobs).where(jobs.c.job_id == job_id, running)
    connection.execute(asked.values(state=JobState.STOPPING.value))


def list_failures(connection: Connection, job_id: str, after: str, limit: int) -> list[FailureRow]:
    """Return a page of what a job could not do, in the order of object ids."""
    query = (
        select(job_failures)
        .where(job_failures.c.job_id == job_id, job_failures.c.object_id > after)
        .order_by(job_failures.c.object_id)
        .limit(limit)
    )
    return [FailureRow(r.object_id, r.code, r.detail) for r in connection.execute(query)]


def _mine(job: JobRow) -> tuple[Any, ...]:
    return (
        jobs.c.job_id == job.job_id,
        jobs.c.instance_id == job.instance_id,
        jobs.c.fence == job.fence,
        jobs.c.ended_ms.is_(None),
    )
