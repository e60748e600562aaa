"""Jobs: work over many objects that somebody asked for, watched and stopped from any process.

A job is written down before it begins, and by whom it is carried out. What it has done is told by
the objects: when its process dies another one claims it, and looks for what is still to do.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from .catalog import Catalog, now_ms
from .catalog.jobs import (
    FailureRow,
    JobRow,
    JobState,
    Scope,
    Step,
    ask_job_to_stop,
    begin_job,
    claim_job,
    end_job,
    find_job,
    list_abandoned,
    list_failures,
    list_jobs,
    list_own,
    tell_job,
)
from .errors import CatalogUnavailable, GatewayError, InvalidField, UnknownJob
from .ids import new_random_id

logger = logging.getLogger(__name__)

TOLD_S = 0.25
"""How often it is written down how far a job is, and asked whether it is to stop."""
AGAIN_S = 1.0
AGAIN_MAX = 30
"""How often in a row a job goes on after something that it needs was away."""
FAILURES_MAX = 1_000_000
"""Of those that a job has told of before it is taken up."""


class Work(Protocol):
    """A kind of job."""

    repeats: bool
    """Whether there may be more to do after its end, which it finds by itself."""

    async def count(self, scope: Scope) -> dict[str, int]:
        """Return how many objects there are to do, by the session."""
        ...

    def steps(self, scope: Scope) -> AsyncIterator[Step]:
        """Do them, some at a time."""
        ...


@dataclass(slots=True)
class _Counts:
    """How far a job is."""

    to_do: int = 0
    """When it was begun, or taken up."""
    done: int = 0
    changed: int = 0
    failed: int = 0
    seconds: float = 0.0
    position: str = ""
    seen: set[str] = field(default_factory=set)
    """Ids of objects that it could not do."""
    untold: list[FailureRow] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """How many it has gone through."""
        return self.done + self.changed + self.failed

    def take(self, step: Step) -> None:
        """Count what was done at once."""
        self.done += step.done
        self.changed += step.changed
        self.position = step.position
        self.untold += step.failures
        self.seen |= {failure.object_id for failure in step.failures}
        self.failed = len(self.seen)

    def as_json(self) -> dict[str, int | float | str | None]:
        """Return what is told of them."""
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        left = max(0, self.to_do - self.done - self.changed - self.failed)
        return {
            "to_do": self.to_do,
            "done": self.done,
            "changed": self.changed,
            "failed": self.failed,
            "per_s": round(rate, 1),
            "eta_s": round(left / rate, 1) if rate else None,
            "position": self.position,
        }


class Jobs:
    """Carries jobs out, for one gateway process."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        instance_id: str,
        kinds: dict[str, Work],
        hold_lease: Callable[[], Awaitable[None]],
        jobs_max: int,
    ) -> None:
        """``hold_lease`` is `Instance.hold`; ``jobs_max`` is of `Config`."""
        self._catalog = catalog
        self._instance_id = instance_id
        self._kinds = kinds
        self._hold_lease = hold_lease
        self._jobs_max = jobs_max
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beginning: set[str] = set()

    async def count(self, kind: str, session_id: str | None) -> dict[str, int]:
        """Return how many objects a job would have to do, by the session; nothing is begun.

        Raises:
            InvalidField: there is no such kind.

        """
        before_ms = await self._catalog.read(now_ms)
        return await self._work(kind).count(Scope(session_id, before_ms))

    async def start(self, kind: str, session_id: str | None, rate: float) -> JobRow:
        """Begin a job; ``rate`` is how many objects a second it does at most, 0: as many as go.

        Raises:
            InvalidField: there is no such kind, or it is not for all sessions.
            NoKeyOfClass: it cannot be begun yet.
            TooManyJobs: others must end first.

        """
        await self.count(kind, session_id)
        job_id = new_random_id()
        self._beginning.add(job_id)  # not to be taken for one that was lost hold of
        try:
            job = await self._catalog.run(
                partial(
                    begin_job,
                    job_id=job_id,
                    kind=kind,
                    parameters={"session_id": session_id, "rate": rate},
                    instance_id=self._instance_id,
                    jobs_max=self._jobs_max,
                )
            )
            self._carry_out(job)
        finally:
            self._beginning.discard(job_id)
        return job

    def _work(self, kind: str) -> Work:
        if kind not in self._kinds:
            raise InvalidField(f"kind must be one of: {', '.join(self._kinds)}", field="kind")
        return self._kinds[kind]

    async def get(self, job_id: str) -> JobRow:
        """Return a job as it is now.

        Raises:
            UnknownJob: there is none of that id.

        """
        asked = job_id if job_id.isalnum() else ""  # PostgreSQL takes no zero byte
        job = await self._catalog.read(lambda c: find_job(c, asked))
        if job is None:
            raise UnknownJob("no such job")
        return job

    async def all(self) -> list[JobRow]:
        """Return those that are known, the newest first."""
        return await self._catalog.read(list_jobs)

    async def failures(self, job_id: str, after: str, limit: int) -> list[FailureRow]:
        """Return a page of what a job could not do."""
        return await self._catalog.read(
            partial(list_failures, job_id=job_id, after=after, limit=limit)
        )

    async def watch(self, job_id: str) -> AsyncGenerator[JobRow]:
        """Yield the job whenever it has changed, until it has ended.

        Raises:
            UnknownJob

        """
        last = None
        while last is None or last.ended_ms is None:
            job = await self.get(job_id)
            if job != last:
                yield job
            last = job
            if job.ended_ms is None:
                await asyncio.sleep(TOLD_S)

    async def stop(self, job_id: str) -> JobRow:
        """Ask a job to stop; what it has done stays done.

        Raises:
            UnknownJob

        """
        await self.get(job_id)
        await self._catalog.run(partial(ask_job_to_stop, job_id=job_id))
        return await self.get(job_id)

    async def recover_forever(self, interval_s: float) -> None:
        """Take up what nobody carries out, until cancelled."""
        while True:
            try:
                await self.recover()
            except GatewayError as error:
                logger.warning("jobs not looked for", extra={"code": error.code})
            except Exception:
                logger.exception("jobs not looked for")
            await asyncio.sleep(interval_s)

    async def recover(self) -> int:
        """Take up jobs of dead processes, and those of this one that no task carries out: that they
        began, or ended, could not be written down. Return how many.
        """
        taken = 0
        abandoned, own = await self._catalog.read(
            lambda c: (list_abandoned(c), list_own(c, self._instance_id))
        )
        lost = [job for job in own if job.job_id not in {*self._tasks, *self._beginning}]
        for job in {each.job_id: each for each in (*abandoned, *lost)}.values():
            claimed = await self._catalog.run(
                partial(claim_job, job=job, claimer=self._instance_id)
            )
            if claimed is not None:
                logger.info("job taken up", extra={"job_id": job.job_id, "kind": job.kind})
                self._carry_out(claimed)
                taken += 1
        return taken

    async def close(self) -> None:
        """Leave what is under way: another process takes it up, or this one when it is back."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _carry_out(self, job: JobRow) -> None:
        task = asyncio.create_task(self._to_its_end(job))
        self._tasks[job.job_id] = task

        def forget(ended: "asyncio.Task[None]") -> None:
            if self._tasks.get(job.job_id) is ended:
                del self._tasks[job.job_id]

        task.add_done_callback(forget)

    async def _to_its_end(self, job: JobRow) -> None:
        counts = _Counts(
            done=int(job.counts.get("done") or 0),
            changed=int(job.counts.get("changed") or 0),
            position=str(job.counts.get("position") or ""),
        )
        state = JobState.FAILED
        try:
            known = partial(list_failures, job_id=job.job_id, after="", limit=FAILURES_MAX)
            counts.seen = {row.object_id for row in await self._catalog.read(known)}
            counts.failed = len(counts.seen)
            state = await self._try_again(job, counts)
        except _Lost:
            logger.warning("job claimed by another process", extra={"job_id": job.job_id})
            return
        except GatewayError as error:
            logger.warning("job failed", extra={"job_id": job.job_id, "code": error.code})
        except Exception:
            logger.exception("job failed unexpectedly", extra={"job_id": job.job_id})
        await self._end(job, state, counts)

    async def _end(self, job: JobRow, state: JobState, counts: _Counts) -> None:
        for _ in range(AGAIN_MAX):
            try:
                await self._catalog.run(
                    partial(end_job, job=job, state=state, counts=counts.as_json())
                )
            except CatalogUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                told = {"job_id": job.job_id, "state": state.value, "failed": counts.failed}
                logger.info("job ended", extra=told | {"done": counts.done})
                return

    async def _try_again(self, job: JobRow, counts: _Counts) -> JobState:
        """Go on when what was away is back; each time from what is still to do."""
        tried, before = 0, counts.objects
        while True:
            try:
                return await self._go_through(job, counts)
            except GatewayError as error:
                tried = tried + 1 if counts.objects == before else 0
                before = counts.objects
                if error.retry_after_s is None or tried == AGAIN_MAX:
                    raise
                logger.info("job waits", extra={"job_id": job.job_id, "code": error.code})
                await asyncio.sleep(AGAIN_S)

    async def _go_through(self, job: JobRow, counts: _Counts) -> JobState:
        work, loop = self._work(job.kind), asyncio.get_running_loop()
        scope = Scope(job.session_id, job.created_ms, counts.position)
        left = sum((await work.count(scope)).values())
        # What failed is still to do for a kind that goes by what it finds, and behind the others.
        counts.to_do = left + (counts.objects if scope.position else counts.done + counts.changed)
        began, rate = loop.time(), float(job.parameters.get("rate") or 0.0)
        before, told_s = counts.seconds, -TOLD_S
        did = 0
        while True:
            did_in_round = 0
            async for step in work.steps(scope):
                counts.take(step)
                did_in_round += step.done
                did += step.objects
                await self._hold_lease()
                while True:
                    counts.seconds = before + loop.time() - began
                    if loop.time() - told_s >= TOLD_S:
                        told_s = loop.time()
                        if await self._tell(job, counts) is JobState.STOPPING:
                            return JobState.STOPPED
                    left_s = began + did / rate - loop.time() if rate else 0.0
                    if left_s <= 0:
                        break
                    await asyncio.sleep(min(left_s, TOLD_S))
            await self._tell(job, counts)
            # A key may have been rotated meanwhile: until a round finds nothing that it can do.
            if not (work.repeats and did_in_round):
                return JobState.DONE

    async def _tell(self, job: JobRow, counts: _Counts) -> JobState:
        untold = list(counts.untold)
        state = await self._catalog.run(
            partial(tell_job, job=job, counts=counts.as_json(), failures=untold)
        )
        if state is None:
            raise _Lost
        del counts.untold[: len(untold)]
        return state


class _Lost(Exception):
    """Another process has the job."""
