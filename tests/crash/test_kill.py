"""Goal: whatever a gateway answered with 201 is there after it was killed, and of the rest nothing.

Method: a real process is killed again and again under several uploaders: at random moments, in the
midst of a large body, and around commits. Each time another process starts on the same folder. At
the end every answered URN is read back, every other slot is free or holds a whole object, and
`storage-gateway check` has nothing to say.
"""

import asyncio
import hashlib
import io
import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import pytest
from sqlalchemy import Connection, func, select

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES
from storage_gateway.catalog.tables import graves, intents
from storage_gateway.client import Client, ClientError
from tests.commands import command_beside
from tests.gateway import (
    GatewayProcess,
    OpenSession,
    eventually,
    gateway_process,
    open_catalog,
    open_session,
)

pytestmark = pytest.mark.both_databases

KILLS = 20
MOMENTS = ("any", "body", "commit", "answer")
KILLS_NIGHTLY = 400
UPLOADERS = 4
SEGMENT_PLAINTEXT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
SIZES = [0, 1, 1000, 65_536, 1_000_000, SEGMENT_PLAINTEXT, SEGMENT_PLAINTEXT + 1]
LARGE = 4 * SEGMENT_PLAINTEXT + 12_345
BASE = Random(5).randbytes(LARGE + 1024)

QUICK_CLAIMS = {
    "instance_lease_s": 0.5,
    "instance_renew_s": 0.1,
    "recovery_interval_s": 0.05,
    "late_write_horizon_s": 0.3,
}
DRAIN_S = 30.0


class Content(io.BytesIO):
    """A body that can be made again from its size and number, and that tells how far it got."""

    def __init__(
        self, size: int, number: int, on_read: Callable[[int], None] = lambda _at: None
    ) -> None:
        offset = number % 1024
        super().__init__(BASE[offset : offset + size])
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._on_read(self.tell() if piece else -1)
        return piece

    def digest(self) -> str:
        return hashlib.sha256(self.getbuffer()).hexdigest()


@dataclass(slots=True)
class Record:
    """What uploaders were told, over all processes."""

    answered: dict[str, str] = field(default_factory=dict)
    """Digest of the content, by URN."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """Digest of the content, by task."""
    started: int = 0

    async def upload(self, client: Client, session: OpenSession, content: Content) -> None:
        self.started += 1
        task_id = f"t{self.started}"
        self.unanswered[task_id] = content.digest()
        answer = await client.upload(session.session_id, task_id, "input", content)
        self.answered[answer["urn"]] = self.unanswered.pop(task_id)


@dataclass(slots=True)
class Round:
    """One process's life, until it is killed."""

    gateway: GatewayProcess
    session: OpenSession
    record: Record
    random: Random

    async def live_and_die(self, moment: str) -> None:
        async with Client(self.gateway.url, self.session.user_token) as client:
            uploads = [asyncio.create_task(self._upload_on(client)) for _ in range(UPLOADERS)]
            if moment == "any":
                await asyncio.sleep(self.random.uniform(0, 0.3))
            elif moment == "answer":
                await self._until_killed(client, Content(10, self.record.started))
            else:
                at = self.random.randrange(LARGE) if moment == "body" else -1
                reached, content = self._large(at)
                uploads.append(asyncio.create_task(self._until_killed(client, content)))
                await reached.wait()
                # By no event of ours: this is where chance comes in.
                await asyncio.sleep(self.random.uniform(0, 0.03))
            self.gateway.process.kill()
            await asyncio.gather(*uploads)
        assert -signal.SIGKILL == await self.gateway.wait()

    def _large(self, kill_at: int) -> tuple[asyncio.Event, Content]:
        """Return a large body, and what is set when so much of it was read (-1: all of it)."""
        reached, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_read(at: int) -> None:
            if at >= kill_at >= 0 or at == -1:
                loop.call_soon_threadsafe(reached.set)

        return reached, Content(LARGE, self.record.started, on_read)

    async def _upload_on(self, client: Client) -> None:
        while self.gateway.process.poll() is None:
            content = Content(self.random.choice(SIZES), self.record.started)
            await self._until_killed(client, content)

    async def _until_killed(self, client: Client, content: Content) -> None:
        with suppress(aiohttp.ClientError, ClientError, ConnectionError):
            await self.record.upload(client, self.session, content)


async def drained(data_dir: Path) -> None:
    """Wait until recovery has nothing to do any more."""
    catalog = await asyncio.to_thread(open_catalog, data_dir)

    def count(connection: Connection) -> int:
        tables = (intents, graves)
        queries = (select(func.count()).select_from(table) for table in tables)
        return sum(connection.execute(query).scalar_one() for query in queries)

    async def nothing_left() -> bool:
        return await catalog.read(count) == 0

    try:
        await eventually(nothing_left, within_s=DRAIN_S, what="recovery")
    finally:
        await asyncio.to_thread(catalog.close)


async def read_digest(client: Client, urn: str) -> str:
    digest = hashlib.sha256()

    class Target:
        def write(self, data: bytes, /) -> None:
            digest.update(data)

    await client.download(urn, Target(), plaintext=True, on_bytes=lambda _count: None)
    return digest.hexdigest()


async def check_slot(client: Client, session: OpenSession, task_id: str, digest: str) -> bool:
    """A slot whose upload got no answer is free, or holds exactly what was uploaded."""
    try:
        await client.upload(session.session_id, task_id, "input", io.BytesIO(b"again"))
    except ClientError as refusal:
        assert refusal.code == "slot_taken", refusal.problem
        assert digest == await read_digest(client, refusal.problem["urn"])
        return True
    return False


async def kill_many(tmp_path: Path, kills: int, seed: int) -> None:
    random, record, data_dir = Random(seed), Record(), tmp_path / "data"
    session: OpenSession | None = None
    for number in range(kills):
        async with gateway_process(data_dir, **QUICK_CLAIMS) as gateway:
            session = session or await open_session(gateway)
            moment = MOMENTS[number % len(MOMENTS)]
            await Round(gateway, session, record, random).live_and_die(moment)
    assert session is not None
    assert kills // len(MOMENTS) <= min(len(record.answered), len(record.unanswered))
    async with gateway_process(data_dir, **QUICK_CLAIMS) as gateway:
        await drained(data_dir)
        done = await command_beside("check", "--data-dir", data_dir, "--json")
        assert ([], 0) == (json.loads(done.out)["findings"], done.status)
        async with Client(gateway.url, session.user_token) as client:
            for urn, digest in record.answered.items():
                assert digest == await read_digest(client, urn), urn
            whole = [
                await check_slot(client, session, task_id, digest)
                for task_id, digest in record.unanswered.items()
            ]
    print(f"{len(record.answered)} answered, {len(whole)} not, {sum(whole)} of these whole")  # noqa: T201


@pytest.mark.timeout(300)
async def test_what_was_answered_survives_every_kill(tmp_path: Path, seed: int) -> None:
    await kill_many(tmp_path, KILLS, seed)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_what_was_answered_survives_many_kills(tmp_path: Path, seed: int) -> None:
    await kill_many(tmp_path, KILLS_NIGHTLY, seed)
