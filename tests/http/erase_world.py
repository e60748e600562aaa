"""A gateway that erases when it is told to, its clock moved at will, and all places of its head."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from storage_gateway.catalog import Catalog, PostgresCatalog, postgres_pages
from storage_gateway.database_url import parse_database_url
from storage_gateway.kept_versions import KeptVersions
from storage_gateway.parts import CATALOG_FILE
from storage_gateway.recovery import Recovery
from storage_gateway.settle import Settler
from storage_gateway.upkeep import _members_of, old_copies_of
from tests.databases import databases
from tests.gateway import OpenSession, RunningGateway, eventually, open_session, running_gateway
from tests.http.searching import Places, head_of, places_of
from tests.http.steps import fetch, made_bytes, uploaded
from tests.http.test_manifest_copies import is_brought
from tests.servers.postgres import postgres_server

HORIZON_S = 900
KEEPS_NO_LOG = {"wal_recycle": "off", "wal_keep_size": "0"}
"""What docs/retention.md asks for."""


@pytest.fixture(autouse=True, scope="module")
def own_server(database: str) -> Iterator[None]:
    """A server that no other test has written to."""
    if database == "sqlite":
        yield
        return
    with postgres_server(**KEEPS_NO_LOG) as server:
        databases.server = server
        databases.template = server.new_database()
        PostgresCatalog.open(parse_database_url(server.url(databases.template))).close()
        yield


@pytest.fixture(autouse=True)
def pages_need_no_rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rewrite tables as often as asked; leave nothing that the next test would search."""
    monkeypatch.setattr(postgres_pages, "SHARE", 0)
    yield
    if databases.server is not None:
        for name in databases.made.values():
            databases.server.drop(name)
        databases.made.clear()
        for statement in ("SELECT pg_switch_wal()", "CHECKPOINT"):
            databases.server.execute(statement)


@dataclass(slots=True)
class World:
    """A gateway whose recovery runs when it is told to, at any time."""

    gateway: RunningGateway
    session: OpenSession
    places: Places
    recovery: Recovery
    ahead_ms: list[int] = field(default_factory=lambda: [0])

    async def made(self, task: str = "t1", size: int = 1000) -> tuple[str, bytes]:
        """Upload; return the URN and the head, which is where it must be by then."""
        token = self.session.user_token
        document = await uploaded(self.gateway, self.session.path(task), token, made_bytes(size))
        await eventually(lambda: is_brought(self.gateway), what="the copies")
        return str(document["urn"]), await self.head(str(document["urn"]))

    async def head(self, urn: str) -> bytes:
        return head_of((await fetch(self.gateway, urn, self.session.user_token)).body)

    async def erase(self, urn: str) -> str:
        """Ask for the erasure, once more if need be; return the state that is told."""
        answer = await fetch(self.gateway, urn, self.session.user_token, method="DELETE")
        assert answer.status in (200, 202), answer
        return str(answer.json()["state"])

    async def after_the_horizon(self) -> None:
        """Let the late-write horizon pass, and a recovery pass with it."""
        self.ahead_ms[0] += (HORIZON_S + 1) * 1000
        await self.recovery.run_once()

    async def passed(self) -> None:
        """Have passes run until one fails at nothing: who was away is asked again some time."""

        async def is_well() -> bool:
            return (await self.recovery.run_once()).failures == 0

        await eventually(is_well, what="a pass that fails at nothing")

    async def is_410(self, urn: str) -> bool:
        (await fetch(self.gateway, urn, self.session.user_token)).problem(410, "erased")
        return True


def recovery_of(gateway: RunningGateway, catalog: Catalog) -> Recovery:
    """Return passes as the gateway has them, with a clock of their own."""
    parts, copies = gateway.gateway.parts, old_copies_of(gateway.gateway.parts)
    settler = Settler(
        catalog, parts.store, instance_id="z" * 32, payloads=parts.payloads, copies=copies
    )
    return Recovery(
        catalog=catalog,
        store=parts.store,
        settler=settler,
        payloads=parts.payloads,
        horizon_s=HORIZON_S,
        decide_within_s=HORIZON_S,
        copies=copies,
        versions=KeptVersions(_members_of(parts)),
    )


@asynccontextmanager
async def world_in(path: Path, **settings: object) -> AsyncIterator[World]:
    hours: dict[str, object] = {"recovery_interval_s": 3600, "late_write_horizon_s": HORIZON_S}
    async with running_gateway(path, **hours | settings) as gateway:
        ahead = [0]
        catalog = await asyncio.to_thread(
            databases.open, gateway.data_dir, clock=lambda ms: ms + ahead[0]
        )
        try:
            session = await open_session(gateway)
            recovery = recovery_of(gateway, catalog)
            yield World(gateway, session, places_of(gateway), recovery, ahead)
        finally:
            await asyncio.to_thread(catalog.close)


async def found(world: World, head: bytes) -> set[str]:
    return await asyncio.to_thread(world.places.found, head)


async def found_when_flushed(world: World, head: bytes) -> set[str]:
    """As `found`, when what PostgreSQL has in memory is in its files, too."""
    if databases.server is not None:
        await asyncio.to_thread(databases.server.execute, "CHECKPOINT")
    return await found(world, head)


def everywhere(*stores: str) -> set[str]:
    """Return where a head is while its object lives: in the catalog, and in opened copies."""
    catalog = {"files"} if databases.server is None else {"postgresql", "wal"}
    return catalog | {f"{store}, opened" for store in stores}


@contextmanager
def reading(data_dir: Path) -> Iterator[None]:
    """Be within a transaction that sees the catalog as it is now; of another table, so that on
    PostgreSQL it keeps nobody out of the one that holds heads.
    """
    query = "SELECT deployment_id FROM deployment"
    with ExitStack() as opened:
        url = databases.url(data_dir)
        if url is None:
            path = data_dir / CATALOG_FILE
            lite = opened.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            lite.execute("BEGIN")
            lite.execute(query).fetchall()
        else:
            link = opened.enter_context(closing(psycopg.connect(url)))
            link.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            link.execute(query).fetchall()
        yield
