"""A gateway with a collector whose clock a test sets, over two folders or a bucket of a real
server, into which blobs are put behind its back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from storage_gateway.backends import KeyedStore
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.tables import (
    orphans,
)
from storage_gateway.collect import Collect, CollectReport
from storage_gateway.ids import new_random_id
from tests.databases import databases
from tests.gateway import OpenSession, RunningGateway
from tests.http.passes import collect_of
from tests.http.steps import PLAINTEXT, fetch, made_bytes, uploaded
from tests.http.test_replicas import Folders, folders, running
from tests.http.test_s3 import PATIENT, bucket, s3_backend
from tests.http.test_s3 import running as running_over
from tests.servers.seaweedfs import SeaweedFS

__all__ = ["bucket", "folders"]

HOUR_MS = 3600 * 1000
YEAR_MS = 365 * 24 * HOUR_MS
INTERVAL_S = 3600.0
DWELL_S = 4 * INTERVAL_S


@dataclass(slots=True)
class World:
    """A gateway with two objects, a clock, and a collector that goes by it."""

    gateway: RunningGateway
    session: OpenSession
    catalog: Catalog
    collect: Collect
    ahead: list[int]
    urns: list[str] = field(default_factory=list)

    def set_clock(self, ahead_ms: int) -> None:
        self.ahead[0] = ahead_ms

    def pass_by(self, ms: float) -> None:
        self.ahead[0] += int(ms)

    @property
    def payloads(self) -> str:
        return self.gateway.gateway.parts.payloads

    def store(self, at: int = 0) -> KeyedStore:
        return self.gateway.gateway.parts.members[at].bare

    async def plant(self, *names: str, at: int = 0, payload_id: str | None = None) -> str:
        """Put blobs into a store that no upload of this catalog wrote."""
        payload_id = payload_id or new_random_id()
        for name in names or ("0",):
            await self.store(at).put(f"{self.payloads}{payload_id}/{name}", b"orphaned")
        return payload_id

    async def keys(self, at: int = 0, prefix: str | None = None) -> set[str]:
        """Return what is in a store, without the prefix of payloads."""
        wanted = self.payloads if prefix is None else prefix
        return {b.key.removeprefix(wanted) async for b in self.store(at).list(wanted)}

    async def marks(self) -> dict[tuple[str, str], int]:
        rows = await self.catalog.read(lambda c: c.execute(select(orphans)).all())
        return {(row.backend, row.payload_id): row.waited_ms for row in rows}

    async def age(self, rounds: int = 3) -> list[CollectReport]:
        """Have rounds made, each as far from the one before as counts, until the dwell is over."""
        reports = []
        for _ in range(rounds):
            reports.append(await self.collect.run_once())
            self.pass_by(2 * HOUR_MS)
        return reports

    async def is_whole(self) -> bool:
        read = [
            await fetch(self.gateway, urn, self.session.user_token, headers=[PLAINTEXT])
            for urn in self.urns
        ]
        return [made_bytes(100, seed=at) for at in range(len(self.urns))] == [a.body for a in read]


@asynccontextmanager
async def world_of(gateway: RunningGateway, session: OpenSession) -> AsyncIterator[World]:
    ahead = [0]
    open_catalog = partial(databases.open, clock=lambda ms: ms + ahead[0])
    catalog = await asyncio.to_thread(open_catalog, gateway.data_dir)
    collect = collect_of(gateway, catalog, dwell_s=DWELL_S, interval_s=INTERVAL_S)
    world = World(gateway, session, catalog, collect, ahead)
    for at in range(2):
        content = made_bytes(100, seed=at)
        made = await uploaded(gateway, session.path(f"t{at}"), session.user_token, content)
        world.urns.append(made["urn"])
    try:
        yield world
    finally:
        await asyncio.to_thread(catalog.close)


@asynccontextmanager
async def over_folders(folders: Folders, **settings: object) -> AsyncIterator[World]:
    async with (
        running(folders, **settings) as (gateway, session),
        world_of(gateway, session) as world,
    ):
        yield world


@pytest.fixture
async def world(folders: Folders) -> AsyncIterator[World]:
    async with over_folders(folders) as world:
        yield world


@pytest.fixture
async def bucket_world(tmp_path: Path, s3_server: SeaweedFS, bucket: str) -> AsyncIterator[World]:
    backend = s3_backend(s3_server, bucket) | PATIENT
    async with (
        running_over(tmp_path, backend) as (gateway, session),
        world_of(gateway, session) as world,
    ):
        yield world
