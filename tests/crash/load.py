"""Uploaders that remember what they were told, and what must be true of it in the end."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
from sqlalchemy import Connection, func, select

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES
from storage_gateway.catalog.tables import graves, intents, objects
from storage_gateway.client import Client, ClientError
from tests.commands import command_beside
from tests.gateway import OpenSession, eventually, open_catalog

SEGMENT_PLAINTEXT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
SIZES = [0, 1, 1000, 65_536, 1_000_000, SEGMENT_PLAINTEXT, SEGMENT_PLAINTEXT + 1]
CHECK_S_MAX = 300.0
"""A night leaves thousands of objects."""
LARGE = 4 * SEGMENT_PLAINTEXT + 12_345
BASE = Random(5).randbytes(LARGE + 1024)
DRAIN_S = 60.0


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
        """Upload under a task of its own; raises what the client raises."""
        self.started += 1
        task_id = f"t{self.started}"
        self.unanswered[task_id] = content.digest()
        answer = await client.upload(session.session_id, task_id, "input", content)
        self.answered[answer["urn"]] = self.unanswered.pop(task_id)

    async def try_upload(self, client: Client, session: OpenSession, content: Content) -> None:
        """As `upload`; what is refused or breaks off is no failure of the test."""
        with suppress(aiohttp.ClientError, ClientError, ConnectionError, TimeoutError):
            await self.upload(client, session, content)


@asynccontextmanager
async def uploading(
    record: Record, client: Client, session: OpenSession, random: Random, *, count: int
) -> AsyncIterator[None]:
    """Upload one body after the other, several at a time, until left; wait for what is begun."""
    ended = asyncio.Event()

    async def upload_on() -> None:
        while not ended.is_set():
            content = Content(random.choice(SIZES), record.started)
            await record.try_upload(client, session, content)
            await asyncio.sleep(0)  # also when every connection is refused at once

    uploads = [asyncio.create_task(upload_on()) for _ in range(count)]
    try:
        yield
    finally:
        ended.set()
        await asyncio.gather(*uploads)


async def wait_drained(data_dir: Path) -> None:
    """Wait until recovery has nothing to do any more."""
    catalog = await asyncio.to_thread(open_catalog, data_dir)

    def count(connection: Connection) -> int:
        queries = (select(func.count()).select_from(table) for table in (intents, graves))
        return sum(connection.execute(query).scalar_one() for query in queries)

    async def nothing_left() -> bool:
        return await catalog.read(count) == 0

    try:
        await eventually(nothing_left, within_s=DRAIN_S, what="recovery")
    finally:
        await asyncio.to_thread(catalog.close)


async def committed_payloads(data_dir: Path) -> set[str]:
    """Return the payload ids of everything that was ever committed."""
    catalog = await asyncio.to_thread(open_catalog, data_dir)
    try:
        rows = await catalog.read(lambda c: c.execute(select(objects.c.payload_id)).all())
    finally:
        await asyncio.to_thread(catalog.close)
    return {str(row.payload_id) for row in rows}


async def check_all(data_dir: Path, client: Client, session: OpenSession, record: Record) -> int:
    """Check that nothing answered is lost and nothing half written stays.

    Returns how many uploads without an answer are there all the same, whole.
    """
    await wait_drained(data_dir)
    done = await command_beside("check", "--data-dir", data_dir, "--json", timeout_s=CHECK_S_MAX)
    assert 0 == done.status, done
    assert [] == json.loads(done.out)["findings"]
    for urn, digest in record.answered.items():
        assert digest == await _read_digest(client, urn), urn
    whole = [
        await _check_slot(client, session, task_id, digest)
        for task_id, digest in record.unanswered.items()
    ]
    return sum(whole)


async def _read_digest(client: Client, urn: str) -> str:
    digest = hashlib.sha256()

    class Target:
        def write(self, data: bytes, /) -> None:
            digest.update(data)

    await client.download(urn, Target(), plaintext=True, on_bytes=lambda _count: None)
    return digest.hexdigest()


async def _check_slot(client: Client, session: OpenSession, task_id: str, digest: str) -> bool:
    """A slot whose upload got no answer is free, or holds exactly what was uploaded."""
    try:
        await client.upload(session.session_id, task_id, "input", io.BytesIO(b"again"))
    except ClientError as refusal:
        assert refusal.code == "slot_taken", refusal.problem
        assert digest == await _read_digest(client, refusal.problem["urn"])
        return True
    return False
