"""Goal: a process that was paused cannot commit what was claimed from it, and works on afterwards.

Method: two real processes on one data folder. The first is stopped in the midst of an upload until
the second has claimed it, then goes on: its upload is refused, its slot is for others to take.
"""

import asyncio
import io
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES
from storage_gateway.catalog.work import list_graves, list_intents
from storage_gateway.client import Client, ClientError
from tests.commands import command_beside
from tests.databases import databases
from tests.gateway import (
    GatewayProcess,
    OpenSession,
    eventually,
    gateway_process,
    open_catalog,
    open_session,
)

pytestmark = pytest.mark.both_databases

SEGMENT_PLAINTEXT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
SETTINGS = {
    "instance_lease_s": 0.6,
    "instance_renew_s": 0.1,
    "recovery_interval_s": 0.05,
    "late_write_horizon_s": 0.3,
}


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[list[GatewayProcess]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(gateway_process(tmp_path / "data", **SETTINGS))
            for _ in range(2)
        ]


class SlowBody:
    """A body that stops after a while until it may go on."""

    def __init__(self, stop_at: int, size: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._stop_at = stop_at
        self._size = size
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    def read(self, size: int, /) -> bytes:
        if self._sent >= self._stop_at and not self.go_on.is_set():
            self._loop.call_soon_threadsafe(self.stopped.set)
            asyncio.run_coroutine_threadsafe(self.go_on.wait(), self._loop).result(60)
        piece = bytes(min(size, self._size - self._sent))
        self._sent += len(piece)
        return piece


@pytest.mark.parametrize(
    ("stop_at", "size"),
    [
        (2 * SEGMENT_PLAINTEXT, 4 * SEGMENT_PLAINTEXT),  # in its midst
        (SEGMENT_PLAINTEXT + 5, SEGMENT_PLAINTEXT + 5),  # nothing but the end is missing
    ],
)
async def test_a_paused_process_cannot_commit_what_was_claimed(
    processes: list[GatewayProcess], stop_at: int, size: int
) -> None:
    paused, other = processes
    session = await open_session(paused)
    catalog = await asyncio.to_thread(open_catalog, paused.data_dir)

    async def began() -> bool:
        return bool(await catalog.read(lambda c: list_intents(c, "", 9)))

    async def claimed_and_buried() -> bool:
        # Who is stopped cannot commit: an intent that is gone was buried. (Its grave may be closed
        # again before anybody looks.)
        return not await began()

    async def drained() -> bool:
        return not await began() and not await catalog.read(lambda c: list_graves(c, "", 9))

    async with (
        Client(paused.url, session.user_token) as client,
        Client(other.url, session.user_token) as other_client,
    ):
        body = SlowBody(stop_at, size)
        upload = asyncio.create_task(client.upload(session.session_id, "1", "input", body))
        await body.stopped.wait()
        await eventually(began)

        await eventually(lambda: _paused(paused), what="a pause outside of a transaction")
        await eventually(claimed_and_buried, what="the claim")
        taken = await _put(other_client, session, "1")
        paused.send_signal(signal.SIGCONT)
        body.go_on.set()
        with pytest.raises(ClientError) as refused:
            await upload

        assert refused.value.code in ("intent_lost", "backend_unavailable")
        assert "503" == str(refused.value.problem["status"])
        await eventually(drained, what="recovery")
        assert b"whole" == await _get(client, taken)
        # The paused one is as good as the other afterwards.
        assert b"whole" == await _get(other_client, await _put(client, session, "2"))
    await asyncio.to_thread(catalog.close)
    done = await command_beside("check", "--data-dir", paused.data_dir)
    assert 0 == done.status, done.out
    assert b"2 objects" in done.out


async def test_a_process_that_is_stopped_for_a_moment_keeps_its_upload(
    processes: list[GatewayProcess],
) -> None:
    paused, other = processes
    session = await open_session(other)
    async with Client(paused.url, session.user_token) as client:
        body = SlowBody(SEGMENT_PLAINTEXT, 2 * SEGMENT_PLAINTEXT)
        upload = asyncio.create_task(client.upload(session.session_id, "1", "input", body))
        await body.stopped.wait()
        paused.send_signal(signal.SIGSTOP)
        paused.send_signal(signal.SIGCONT)
        body.go_on.set()

        assert 2 * SEGMENT_PLAINTEXT == (await upload)["size"]


async def _paused(process: GatewayProcess) -> bool:
    """Stop a process; let it go on again when it was stopped within a write transaction.

    With SQLite such a process keeps every other one from writing for as long as it is stopped, with
    PostgreSQL only from the rows it wrote, and not for longer than the server bears with it.
    """
    process.send_signal(signal.SIGSTOP)
    if await asyncio.to_thread(databases.is_unlocked, process.data_dir):
        return True
    process.send_signal(signal.SIGCONT)
    return False


async def _put(client: Client, session: OpenSession, task_id: str) -> str:
    answer = await client.upload(session.session_id, task_id, "input", io.BytesIO(b"whole"))
    return str(answer["urn"])


async def _get(client: Client, urn: str) -> bytes:
    target = io.BytesIO()
    await client.download(urn, target, plaintext=True, on_bytes=lambda _count: None)
    return target.getvalue()
