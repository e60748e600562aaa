"""Goal: a worker that was paused anywhere, under load, commits nothing that was claimed meanwhile.

Method: one of two workers is stopped (SIGSTOP) when it has told of a step, until the other has
claimed its uploads, then goes on: again and again under several uploaders. A worker that was
stopped within a write transaction goes on at once: on SQLite it keeps all others from claiming.
Then one commit is stopped for certain: its process waits for the database's lock, which this test
holds, when it is stopped.
"""

import asyncio
import io
import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, select, text

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.tables import intents, objects
from storage_gateway.client import Client
from tests.crash.load import Record, check_all, committed_payloads, uploading
from tests.crash.trace import COMMIT_BEGAN, UPLOAD_BEGAN, WITHIN_S, Count, Trace, Window
from tests.databases import databases
from tests.gateway import (
    GatewayProcess,
    eventually,
    gateway_process,
    open_catalog,
    open_session,
)
from tests.http.raw import EXPECT, connected, request
from tests.http.steps import LEAF, made_bytes
from tests.processes import is_stopped, worker_process, workers_of

pytestmark = pytest.mark.both_databases

PAUSES = 4
PAUSES_NIGHTLY = 80
INSIDE_MIN = 1
INSIDE_NIGHTLY_MIN = 20
PAUSE_S_MAX = 5.0
TRIES = 12
"""How often more, at most: where a commit takes most of an upload's time, most pauses fall in a
transaction, and nothing can be claimed from those.
"""
UPLOADERS = 4
AIM_S = {UPLOAD_BEGAN: 0.05, COMMIT_BEGAN: 0.003}
"""How long after the step that was waited for a worker is stopped, at most."""
SETTINGS = {
    "workers": 2,
    "instance_lease_s": 1,
    "instance_renew_s": 0.1,
    "recovery_interval_s": 0.05,
    "late_write_horizon_s": 0.3,
    "log_level": "debug",
}
Measured = Callable[[str], None]


def stop_one(gateway: GatewayProcess, trace: Trace, event: str, random: Random) -> tuple[int, int]:
    """Stop the worker that tells of a step; return its number and its process."""
    trace.read()
    step = trace.wait_for(event)
    assert step is not None, event
    assert step.worker is not None
    pid = worker_process(gateway, step.worker)
    time.sleep(random.uniform(0, AIM_S[event]) * random.random())
    stop(pid)
    return step.worker, pid


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + WITHIN_S
    while not is_stopped(pid):
        assert time.monotonic() < until
        time.sleep(0.001)


def is_unlocked(data_dir: Path) -> bool:
    """Tell whether others can write; that one of them does, for a moment, is no obstacle."""
    return any(databases.is_unlocked(data_dir) for _ in range(10))


@asynccontextmanager
async def opened_catalog(data_dir: Path) -> AsyncIterator[Catalog]:
    catalog = await asyncio.to_thread(open_catalog, data_dir)
    try:
        yield catalog
    finally:
        await asyncio.to_thread(catalog.close)


async def given_up(catalog: Catalog, payload_ids: set[str]) -> set[str]:
    """Return those that another process ends while their own is stopped; wait for it."""

    def count(connection: Connection) -> tuple[int, set[str]]:
        under_way = select(intents.c.payload_id).where(intents.c.payload_id.in_(payload_ids))
        committed = select(objects.c.payload_id).where(objects.c.payload_id.in_(payload_ids))
        rows = connection.execute(committed)
        return len(connection.execute(under_way).all()), {row.payload_id for row in rows}

    until = time.monotonic() + PAUSE_S_MAX
    while time.monotonic() < until:
        left, committed = await catalog.read(count)
        if left == 0:
            return payload_ids - committed
        await asyncio.sleep(0.05)
    return set()


async def pause_many(tmp_path: Path, pauses: int, inside_min: int, seed: int) -> str:
    random, record, data_dir, count = Random(seed), Record(), tmp_path / "data", Count()
    lost: set[str] = set()
    let_go = 0
    async with gateway_process(data_dir, **SETTINGS) as gateway:
        session, trace = await open_session(gateway), Trace(gateway.log)
        token = session.user_token
        async with opened_catalog(data_dir) as catalog, Client(gateway.url, token) as client:
            async with uploading(record, client, session, random, count=UPLOADERS):
                for number in itertools.count():
                    enough = min(count.windows[w] for w in (Window.UPLOAD, Window.COMMIT))
                    if number >= pauses and enough >= inside_min and lost:
                        break
                    assert number < TRIES * pauses, count
                    event = (UPLOAD_BEGAN, COMMIT_BEGAN)[number % 2]
                    worker, pid = await asyncio.to_thread(stop_one, gateway, trace, event, random)
                    try:
                        windows = trace.windows(worker)
                        count.add(windows)
                        if await asyncio.to_thread(is_unlocked, data_dir):
                            lost |= await given_up(catalog, set(windows))
                        else:
                            let_go += 1
                    finally:
                        os.kill(pid, signal.SIGCONT)
                assert len(await workers_of(gateway, 2)) == 2
            whole = await check_all(data_dir, client, session, record)
    committed = await committed_payloads(data_dir)
    assert not lost & committed
    inside = count.windows
    return (
        f"{count.total} pauses of a worker: {inside[Window.UPLOAD]} inside an upload,"
        f" {inside[Window.COMMIT]} inside a commit, {let_go} inside a transaction;"
        f" {len(lost)} uploads were claimed meanwhile, none was committed;"
        f" {len(record.answered)} answered, {len(record.unanswered)} not, {whole} of these whole"
    )


@pytest.mark.timeout(600)
async def test_what_was_claimed_from_a_paused_worker_is_not_committed(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await pause_many(tmp_path, PAUSES, INSIDE_MIN, seed))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_what_was_claimed_from_many_paused_workers_is_not_committed(
    tmp_path: Path, seed: int, measured: Measured
) -> None:
    measured(await pause_many(tmp_path, PAUSES_NIGHTLY, INSIDE_NIGHTLY_MIN, seed))


# A commit that is stopped for certain.


@asynccontextmanager
async def writes_held(data_dir: Path) -> AsyncIterator[None]:
    """Keep every other process from committing."""
    entered, leave = threading.Event(), threading.Event()

    def unit(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE intents IN EXCLUSIVE MODE"))
        entered.set()  # SQLite has its one lock since BEGIN
        assert leave.wait(WITHIN_S)

    async with opened_catalog(data_dir) as catalog:
        held = asyncio.create_task(asyncio.to_thread(catalog.run_blocking, unit))
        assert await asyncio.to_thread(entered.wait, WITHIN_S)
        try:
            yield
        finally:
            leave.set()
            await held


async def pause_in_commit(gateway: GatewayProcess, path: str, token: str) -> int:
    """Have a worker stopped with a commit in its hands until it is claimed; return the status."""
    body, trace = made_bytes(2 * LEAF), Trace(gateway.log)
    async with (
        opened_catalog(gateway.data_dir) as catalog,
        connected(gateway.address) as connection,
    ):
        headers = [EXPECT, ("Content-Length", str(len(body)))]
        await connection.send(request("POST", path, token, headers=headers))
        assert 100 == (await connection.answer()).status
        await connection.send(body[:-1])
        began = await asyncio.to_thread(trace.wait_for, UPLOAD_BEGAN)
        assert began is not None
        assert began.worker is not None
        pid = worker_process(gateway, began.worker)
        try:
            async with writes_held(gateway.data_dir):
                await connection.send(body[-1:])
                assert await asyncio.to_thread(trace.wait_for, COMMIT_BEGAN)
                await asyncio.to_thread(stop, pid)
            await eventually(
                lambda: _gone(catalog, began.payload_id), what="the claim", within_s=60
            )
        finally:
            os.kill(pid, signal.SIGCONT)
        answer = await connection.answer()
    assert began.payload_id not in await committed_payloads(gateway.data_dir)
    assert answer.json()["code"] in {"intent_lost", "catalog_unavailable", "backend_unavailable"}
    return answer.status


async def _gone(catalog: Catalog, payload_id: str) -> bool:
    query = select(intents.c.payload_id).where(intents.c.payload_id == payload_id)
    return await catalog.read(lambda c: c.execute(query).first() is None)


@pytest.mark.timeout(600)
async def test_a_commit_that_was_paused_and_claimed_is_refused(
    tmp_path: Path, nightly: bool, database: str
) -> None:
    # PostgreSQL ends the transaction of who is stopped within one, after 15 seconds.
    times = (20 if nightly else 2) if database == "sqlite" else (3 if nightly else 1)
    async with gateway_process(tmp_path / "data", **SETTINGS) as gateway:
        session, record = await open_session(gateway), Record()
        for number in range(times):
            path = session.path(f"t{number}")
            assert 503 == await pause_in_commit(gateway, path, session.user_token)
        async with Client(gateway.url, session.user_token) as client:
            await check_all(gateway.data_dir, client, session, record)
            for number in range(times):  # nothing of it stayed: the slot is free
                again = io.BytesIO(made_bytes(1000, seed=number))
                await client.upload(session.session_id, f"t{number}", "input", again)
