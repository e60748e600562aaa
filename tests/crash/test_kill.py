"""Goal: whatever a gateway answered with 201 is there after it was killed, and of the rest nothing.

Method: a real process is killed again and again under several uploaders: at random moments, in the
midst of a large body, around commits and answers, while it recovers what the one before left. Each
time another process starts on the same folder. With several workers one of them is killed, and its
parent replaces it. At the end every answered URN is read back, every other slot is free or holds a
whole object, and `storage-gateway check` has nothing to say. Where kills fell is read in the log.
"""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from storage_gateway.client import Client
from tests.crash.load import LARGE, Content, Record, check_all, committed_payloads, uploading
from tests.crash.trace import (
    CLAIM_BEGAN,
    COMMIT_BEGAN,
    COMMITTED,
    COUNTED,
    UPLOAD_BEGAN,
    WITHIN_S,
    Count,
    Trace,
)
from tests.gateway import (
    GatewayProcess,
    OpenSession,
    gateway_process,
    log_beside,
    open_session,
    starting_process,
)
from tests.processes import is_running, worker_process, workers_of

pytestmark = pytest.mark.both_databases(by_day=False)

KILLS = 15
MOMENTS = ("any", "commit", "body", "recovery", "answer")
AIMED = {"commit": COMMIT_BEGAN, "answer": COMMITTED}
KILLS_NIGHTLY = 100
WORKER_KILLS = 3
WORKER_MOMENTS = (UPLOAD_BEGAN, CLAIM_BEGAN, COMMIT_BEGAN)
WORKER_KILLS_NIGHTLY = 90
INSIDE_MIN = 1
INSIDE_NIGHTLY_MIN = 20
"""Kills that must fall into each window; there are more of them until they did."""
UPLOADERS = 4
AIM_S = 0.003
"""How long after the step that was waited for the kill comes, at most."""

QUICK_CLAIMS = {
    "instance_lease_s": 0.5,
    "instance_renew_s": 0.1,
    "recovery_interval_s": 0.05,
    "late_write_horizon_s": 0.3,
    "log_level": "debug",
}
Measured = Callable[[str], None]


@dataclass(slots=True)
class Round:
    """One process's life, until it is killed."""

    gateway: GatewayProcess
    session: OpenSession
    record: Record
    random: Random
    trace: Trace

    async def live_and_die(self, moment: str) -> None:
        record, session, random = self.record, self.session, self.random
        kill = self.gateway.process.kill
        async with (
            Client(self.gateway.url, session.user_token) as client,
            uploading(record, client, session, random, count=UPLOADERS),
        ):
            await asyncio.sleep(random.uniform(0, 0.3))
            if moment in AIMED:
                await asyncio.to_thread(aim, self.trace, AIMED[moment], random, kill)
            elif moment == "body":
                reached, content = self._large(random.randrange(LARGE))
                large = asyncio.create_task(record.try_upload(client, session, content))
                await reached.wait()
                # By no event of ours: this is where chance comes in.
                await asyncio.sleep(random.uniform(0, 0.03))
                kill()
                await large
            kill()
        assert -signal.SIGKILL == await self.gateway.wait()

    def _large(self, kill_at: int) -> tuple[asyncio.Event, Content]:
        """Return a large body, and what is set when so much of it was read."""
        reached, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_read(at: int) -> None:
            if at >= kill_at or at == -1:
                loop.call_soon_threadsafe(reached.set)

        return reached, Content(LARGE, self.record.started, on_read)


def aim(trace: Trace, event: str, random: Random, kill: Callable[[], None]) -> bool:
    """Kill shortly after a step was told of, in this thread: an event loop would come too late."""
    trace.read()
    if trace.wait_for(event) is None:
        return False
    time.sleep(a_moment(random))
    kill()
    return True


def a_moment(random: Random) -> float:
    """Mostly a very short one: where a sync takes no time, a commit takes none either."""
    return random.uniform(0, AIM_S) * random.random()


def numbers(count: Count, kills: int, inside_min: int) -> Iterator[int]:
    """Yield the number of each kill, as many as are asked for and needed."""
    for number in itertools.count():
        if number >= kills and all(count.windows[w] >= inside_min for w in COUNTED):
            return
        assert number < 3 * kills, count
        yield number


async def kill_in_recovery(data_dir: Path, trace: Trace, random: Random) -> None:
    """Start a process and kill it when it claims; that may be before it is ready."""
    async with starting_process(data_dir, **QUICK_CLAIMS) as process:
        await asyncio.to_thread(aim, trace, CLAIM_BEGAN, random, process.kill)
        process.kill()
        await asyncio.to_thread(process.wait)


async def kill_many(tmp_path: Path, kills: int, inside_min: int, seed: int) -> str:
    random, record, data_dir, count = Random(seed), Record(), tmp_path / "data", Count()
    session: OpenSession | None = None
    for number in numbers(count, kills, inside_min):
        moment = MOMENTS[number % len(MOMENTS)]
        trace = Trace(log_beside(data_dir))
        if moment == "recovery":
            await kill_in_recovery(data_dir, trace, random)
        else:
            async with gateway_process(data_dir, **QUICK_CLAIMS) as gateway:
                session = session or await open_session(gateway)
                await Round(gateway, session, record, random, trace).live_and_die(moment)
        count.add(trace.take_windows())
    assert session is not None
    assert kills // len(MOMENTS) <= min(len(record.answered), len(record.unanswered))
    async with (
        gateway_process(data_dir, **QUICK_CLAIMS) as gateway,
        Client(gateway.url, session.user_token) as client,
    ):
        whole = await check_all(data_dir, client, session, record)
    return await told(count, "kills", data_dir, record, whole)


async def told(count: Count, what: str, data_dir: Path, record: Record, whole: int) -> str:
    """Check the trace against the catalog, and return the line to be shown."""
    committed = await committed_payloads(data_dir)
    # What was not handed to the catalog, or was claimed, cannot be there.
    assert not count.others & committed
    answers = (
        f"{len(record.answered)} answered, {len(record.unanswered)} not, {whole} of these whole"
    )
    return f"{count.said(committed, what)}; {answers}"


@pytest.mark.timeout(600)
async def test_what_was_answered_survives_every_kill(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await kill_many(tmp_path, KILLS, INSIDE_MIN, seed))


@pytest.mark.nightly
@pytest.mark.timeout(7200)
async def test_what_was_answered_survives_many_kills(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await kill_many(tmp_path, KILLS_NIGHTLY, INSIDE_NIGHTLY_MIN, seed))


# Workers.


async def kill_workers(tmp_path: Path, kills: int, inside_min: int, seed: int) -> str:
    random, record, data_dir, count = Random(seed), Record(), tmp_path / "data", Count()
    settings = QUICK_CLAIMS | {"instance_lease_s": 1, "workers": 2}
    async with gateway_process(data_dir, **settings) as gateway:
        session, trace = await open_session(gateway), Trace(gateway.log)
        async with Client(gateway.url, session.user_token) as client:
            async with uploading(record, client, session, random, count=UPLOADERS):
                for number in numbers(count, kills, inside_min):
                    event = WORKER_MOMENTS[number % len(WORKER_MOMENTS)]
                    if event != CLAIM_BEGAN:  # which comes soon after the kill before
                        await workers_of(gateway, 2)
                    worker = await asyncio.to_thread(kill_one, gateway, trace, event, random)
                    count.add(trace.take_windows(worker))
                await workers_of(gateway, 2)
            whole = await check_all(data_dir, client, session, record)
    return await told(count, "kills of a worker", data_dir, record, whole)


def kill_one(gateway: GatewayProcess, trace: Trace, event: str, random: Random) -> int:
    """Kill the worker that tells of a step; return its number when it is gone."""
    trace.read()
    step = trace.wait_for(event)
    if step is None and event == CLAIM_BEGAN:
        # Who was killed before had just committed all it had begun: there is nothing to claim.
        step = trace.wait_for(UPLOAD_BEGAN)
    assert step is not None, event
    assert step.worker is not None
    pid = worker_process(gateway, step.worker)
    time.sleep(a_moment(random))
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + WITHIN_S
    while is_running(pid):
        assert time.monotonic() < until
        time.sleep(0.001)
    return step.worker


@pytest.mark.timeout(600)
async def test_what_was_answered_survives_the_death_of_workers(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await kill_workers(tmp_path, WORKER_KILLS, INSIDE_MIN, seed))


@pytest.mark.nightly
@pytest.mark.timeout(7200)
async def test_what_was_answered_survives_the_death_of_many_workers(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await kill_workers(tmp_path, WORKER_KILLS_NIGHTLY, INSIDE_NIGHTLY_MIN, seed))
