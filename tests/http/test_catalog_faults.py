"""Goal: whatever becomes of PostgreSQL in the midst of a large upload costs a retry at the most,
the gateway's own or the client's after a 503 that says when; no object, and nothing is left over.

Method: an upload of several segments whose body stands still after the first of them, while the
server's connections are ended or the server is stopped and comes back; transactions that the server
refuses as not serialisable, a few times or until told otherwise, at every step of an upload.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select

from storage_gateway.catalog.tables import segments
from tests.databases import ON_POSTGRESQL, databases
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.raw import Answer, Connection, connected, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, fetch, made_bytes, upload
from tests.servers.postgres import PostgresServer

pytestmark = ON_POSTGRESQL

BODY = made_bytes(2 * SEGMENT + 1)
FIRST = SEGMENT + 2 * LEAF
"""So much of the body that the second segment has begun."""
MANY = 1 << 30
STEPS = {
    "the beginning": "intents",
    "a later segment": "segments",
    "the commit": "objects",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A gateway whose catalog is a database of the server, with a session."""

    gateway: RunningGateway
    session: OpenSession
    server: PostgresServer
    name: str

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[Connection]:
        """Upload until the second segment has begun; the rest is the caller's to send."""
        async with connected(self.gateway.address) as connection:
            length = [("Content-Length", str(len(BODY)))]
            path, token = self.session.path("1"), self.session.user_token
            await connection.send(request("POST", path, token, headers=length))
            await connection.send(BODY[:FIRST])
            await eventually(self._has_begun_the_second, what="the second segment")
            yield connection

    async def _has_begun_the_second(self) -> bool:
        query = select(func.count()).select_from(segments)
        return await self.gateway.catalog.read(lambda c: int(c.execute(query).scalar_one())) == 2

    async def assert_whole(self, urn: str) -> None:
        found = await fetch(self.gateway, urn, self.session.user_token, headers=[PLAINTEXT])
        assert (200, True) == (found.status, BODY == found.body)

    async def assert_refused_and_cleared(self, answer: Answer) -> None:
        """It is a 503 that says when to try again; then it succeeds, and nothing is left."""
        answer.problem(503, "catalog_unavailable")
        assert int(answer.header("Retry-After") or 0) > 0
        await eventually(self._is_tidy, what="clearing up what was cut off")
        again = await upload(self.gateway, self.session.path("1"), self.session.user_token, BODY)
        assert 201 == again.status, again
        await self.assert_whole(again.json()["urn"])

    async def _is_tidy(self) -> bool:
        return not await leftovers(self.gateway.catalog, self.gateway.store)


@pytest.fixture
async def deployment(tmp_path: Path, database: str) -> AsyncIterator[Deployment]:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        assert databases.server is not None
        name = databases.made[gateway.data_dir]
        yield Deployment(gateway, session, databases.server, name)
        assert [] == await leftovers(gateway.catalog, gateway.store)


async def end_connections(deployment: Deployment) -> None:
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    ending += f" WHERE datname = '{deployment.name}' AND pid <> pg_backend_pid()"
    assert len(await asyncio.to_thread(deployment.server.execute, ending)) > 1


async def restart(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.server.close)
    await asyncio.to_thread(deployment.server.start)


async def crash(deployment: Deployment) -> None:
    await asyncio.to_thread(deployment.server.kill)
    await asyncio.to_thread(deployment.server.start)


@pytest.mark.parametrize("disturb", [end_connections, restart, crash])
async def test_connections_lost_in_the_midst_of_a_large_upload_cost_nothing(
    deployment: Deployment, disturb: Callable[[Deployment], Awaitable[None]]
) -> None:
    async with deployment.uploading() as connection:
        await disturb(deployment)
        await connection.send(BODY[FIRST:])
        answer = await connection.answer()

    assert 201 == answer.status, answer
    await deployment.assert_whole(answer.json()["urn"])


async def test_a_connection_lost_within_a_transaction_costs_nothing(
    deployment: Deployment,
) -> None:
    """The transaction waits for a lock, so that it is under way for certain."""
    url = deployment.server.url(deployment.name)
    async with deployment.uploading() as connection:
        other = await asyncio.to_thread(lambda: psycopg.connect(url))
        try:
            await asyncio.to_thread(other.execute, "LOCK TABLE segments IN EXCLUSIVE MODE")
            await connection.send(BODY[FIRST:])
            await eventually(partial(_end_waiting, deployment), what="a transaction that waits")
        finally:
            await asyncio.to_thread(other.close)
        answer = await connection.answer()

    assert 201 == answer.status, answer
    await deployment.assert_whole(answer.json()["urn"])


async def _end_waiting(deployment: Deployment) -> bool:
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    ending += f" WHERE datname = '{deployment.name}' AND wait_event_type = 'Lock'"
    ending += " AND query LIKE '%segments%' AND query NOT LIKE 'DELETE%'"  # that is recovery's
    return bool(await asyncio.to_thread(deployment.server.execute, ending))


async def test_a_server_that_stays_away_in_the_midst_of_a_large_upload_costs_a_retry(
    deployment: Deployment,
) -> None:
    async with deployment.uploading() as connection:
        await asyncio.to_thread(deployment.server.kill)
        try:
            await connection.send(BODY[FIRST:])
            answer = await connection.answer()
        finally:
            await asyncio.to_thread(deployment.server.start)

    await deployment.assert_refused_and_cleared(answer)


def collide(deployment: Deployment, table: str, times: int, *, deferred: bool) -> None:
    """Let the server refuse so many transactions that insert into a table; the count is not undone
    with them.
    """
    refuse = "RAISE EXCEPTION ''for this test'' USING ERRCODE = ''40001''"
    when = "CONSTRAINT TRIGGER collide AFTER INSERT" if deferred else "TRIGGER collide AFTER INSERT"
    late = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    body = f"BEGIN IF nextval(''collisions'') <= {times} THEN {refuse}; END IF; RETURN NULL; END"
    for statement in (
        "CREATE SEQUENCE collisions",
        f"CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS '{body}'",
        f"CREATE {when} ON {table} {late} FOR EACH ROW EXECUTE FUNCTION collide()",
    ):
        deployment.server.execute(statement, deployment.name)


def collisions(deployment: Deployment) -> object:
    ((last,),) = deployment.server.execute("SELECT last_value FROM collisions", deployment.name)
    return last


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "in COMMIT"])
@pytest.mark.parametrize("table", STEPS.values(), ids=STEPS.keys())
async def test_a_few_transactions_that_collide_are_run_again(
    deployment: Deployment, table: str, deferred: bool
) -> None:
    await asyncio.to_thread(collide, deployment, table, 2, deferred=deferred)

    path, token = deployment.session.path("1"), deployment.session.user_token
    answer = await upload(deployment.gateway, path, token, BODY)

    assert 201 == answer.status, answer
    assert int(str(await asyncio.to_thread(collisions, deployment))) > 2
    await deployment.assert_whole(answer.json()["urn"])


@pytest.mark.parametrize("table", STEPS.values(), ids=STEPS.keys())
async def test_transactions_that_collide_for_ever_cost_a_retry(
    deployment: Deployment, table: str
) -> None:
    await asyncio.to_thread(collide, deployment, table, MANY, deferred=False)

    path, token = deployment.session.path("1"), deployment.session.user_token
    answer = await upload(deployment.gateway, path, token, BODY)

    assert int(str(await asyncio.to_thread(collisions, deployment))) > 1
    drop = f"DROP TRIGGER collide ON {table}"
    await asyncio.to_thread(deployment.server.execute, drop, deployment.name)
    await deployment.assert_refused_and_cleared(answer)
