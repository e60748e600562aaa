"""Goal: what a transfer that failed held of a body is free at once: the collector, which would find
it in a cycle of an error and a frame, runs seldom in a gateway, and a part of a body is 960 KiB.

Method: a real gateway over one store or two, whose transfers fail in every way there is, while the
collector stands still; then it is asked what only it would have freed. The client is a socket in a
thread, which leaves nothing behind.
"""

import asyncio
import gc
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage_gateway.backends.faulty import NO_FAULTS, FaultyStore, StoreFaults
from storage_gateway.errors import BlobCorrupt, CatalogUnavailable, SlotBusy
from storage_gateway.raising import fresh
from tests.garbage import held_by_cycles, uncollected
from tests.gateway import (
    DEADLINE_S,
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    running_gateway,
)
from tests.http.raw import CHUNKED, SEALED, Headers, chunk, request
from tests.http.steps import LEAF, PLAINTEXT, made_bytes, sealed_by_stock_tool, uploaded

LARGE = made_bytes(2 * LEAF + 1000)
SMALL = made_bytes(100_000)
LIMIT = 3 * LEAF
CLOSE = ("Connection", "close")
KEPT_MIN = 1000
"""Bytes; any less is no part of a body."""


def assert_nothing_kept() -> None:
    found = held_by_cycles(KEPT_MIN)
    assert not found, "\n".join(found)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A gateway, a session, and the last of its stores."""

    gateway: RunningGateway
    session: OpenSession
    store: FaultyStore

    async def send(
        self, body: bytes, *, headers: Headers = (), cut: int | None = None, task_id: str = "t1"
    ) -> bytes:
        """Upload a body, all of it or up to ``cut``; return the status line."""
        path, token = self.session.path(task_id), self.session.user_token
        question = request("POST", path, token, headers=[CLOSE, *headers], body=body)
        return await self._talk(question[:cut], hang_up=cut is not None)

    async def send_in_chunks(self, body: bytes, *, cut: int | None = None) -> bytes:
        """Upload a body whose length is not announced."""
        path, token = self.session.path("t1"), self.session.user_token
        question = request("POST", path, token, headers=[CLOSE, CHUNKED]) + chunk(body) + chunk(b"")
        return await self._talk(question[:cut], hang_up=cut is not None)

    async def fetch(self, urn: str, *, headers: Headers = (), hang_up: bool = False) -> bytes:
        """Ask for an object; return the status line."""
        token = self.session.user_token
        question = request("GET", f"/v1/objects/{urn}", token, headers=[CLOSE, *headers])
        return await self._talk(question, hang_up=hang_up)

    async def _talk(self, question: bytes, *, hang_up: bool) -> bytes:
        server = self.gateway.gateway._runner.server
        assert server is not None
        before = server.requests_count
        gc.collect()  # what the test itself has left, or the one before it that failed
        status = await asyncio.to_thread(_talk, self.gateway.address, question, hang_up)
        await self.at_rest(before + 1)
        return status

    async def at_rest(self, requests: int = 0) -> None:
        """Wait until so many requests came, nothing is under way and nobody is connected."""
        running = self.gateway.gateway

        async def rests() -> bool:
            server, services = running._runner.server, running.services
            assert server is not None
            busy = services.under_way._count or services.late._tasks or server.connections
            return server.requests_count >= requests and not busy

        await eventually(rests, what="the end of the transfer")


def _talk(address: tuple[str, int], question: bytes, hang_up: bool) -> bytes:
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        answer = b""
        try:
            client.sendall(question)
            if hang_up and question.startswith(b"POST"):
                return b""
            while b"\r\n" not in answer and (more := client.recv(4096)):
                answer += more
            while not hang_up and client.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        return answer.partition(b"\r\n")[0]


@asynccontextmanager
async def deployed(folder: Path, names: tuple[str, ...]) -> AsyncIterator[Deployment]:
    backends = [{"kind": "local", "name": n, "path": str(folder / n)} for n in names]
    settings: dict[str, object] = {
        "backends": backends,
        "write_quorum": len(names),
        "reserve_bytes": 0,
        "object_bytes_max": LIMIT,
        "answer_within_s": 0.2,
        "decide_within_s": 0.5,
    }
    async with running_gateway(folder, **settings) as gateway:
        running = gateway.gateway
        faulty = []
        for member in running.parts.members:
            member.store = FaultyStore(member.store, seed=1)
            faulty.append(member.store)
        if len(names) == 1:
            services, last = running.services, faulty[0]
            services.uploads._store_of = lambda _wanted: last
            services.reads._store_of = lambda _backends: last
            services.uploads._settler._store = last
        yield Deployment(gateway, await open_session(gateway, "101"), faulty[-1])


@pytest.fixture(params=[("one",), ("one", "two")], ids=["one store", "two stores"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def collector_stands_still() -> Iterator[None]:
    with uncollected():
        yield


pytestmark = pytest.mark.usefixtures("collector_stands_still")


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize(
    "faults",
    [
        NO_FAULTS,
        StoreFaults(refused={"write": 1.0}),
        StoreFaults(refused={"finish": 1.0}),
        StoreFaults(refused={"write": 1.0, "delete": 1.0, "list": 1.0}),
        StoreFaults(full=1.0),
        StoreFaults(hang={"finish": 1.0}, hang_s=0.4),
    ],
    ids=["none", "writes", "finishes", "writes and deletes", "full", "late"],
)
async def test_nothing_is_kept_of_an_upload_that_a_store_refuses(
    deployment: Deployment, body: bytes, faults: StoreFaults
) -> None:
    deployment.store.faults = faults

    status = await deployment.send(body)

    assert (faults == NO_FAULTS) == status.startswith(b"HTTP/1.1 201"), status
    assert_nothing_kept()


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["large", "small"])
async def test_nothing_is_kept_of_an_upload_that_breaks_off(
    deployment: Deployment, body: bytes
) -> None:
    await deployment.send(body, cut=-500)
    assert_nothing_kept()

    await deployment.send_in_chunks(body, cut=-1)
    assert_nothing_kept()


async def test_nothing_is_kept_of_an_upload_that_is_refused_for_what_it_is(
    deployment: Deployment,
) -> None:
    sealed = bytearray(sealed_by_stock_tool(LARGE, deployment.session.router_recipient))
    sealed[-5] ^= 1
    body = bytes(sealed)

    assert b"413" in await deployment.send_in_chunks(LARGE * 2)
    assert_nothing_kept()

    assert b"422" in await deployment.send(body, headers=[SEALED])
    assert_nothing_kept()

    await deployment.send(body, headers=[SEALED], cut=-1000)
    assert_nothing_kept()


@pytest.mark.both_databases
@pytest.mark.parametrize("unit", ["begin_upload", "commit_upload"])
@pytest.mark.parametrize("error", [CatalogUnavailable(), SlotBusy(), ValueError("a bug")])
async def test_nothing_is_kept_of_an_upload_that_the_catalog_refuses(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, unit: str, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise fresh(error)

    monkeypatch.setattr(f"storage_gateway.write.{unit}", refuse)
    assert b"201" not in await deployment.send(LARGE)
    assert b"201" not in await deployment.send(SMALL)

    assert_nothing_kept()


async def test_nothing_is_kept_of_uploads_whose_transaction_fails(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("the transaction fails")

    monkeypatch.setattr("storage_gateway.write.begin_upload", fail)
    assert b"503" in await deployment.send(LARGE)

    assert_nothing_kept()


@pytest.mark.parametrize("headers", [(), (PLAINTEXT,)], ids=["sealed", "plaintext"])
@pytest.mark.parametrize(
    "faults",
    [
        StoreFaults(refused={"read": 1.0}),
        StoreFaults(missing=1.0),
        StoreFaults(spoil=lambda _, data: bytes(len(data))),
    ],
    ids=["refused", "missing", "corrupt"],
)
async def test_nothing_is_kept_of_a_download_that_a_store_refuses(
    deployment: Deployment, headers: Headers, faults: StoreFaults
) -> None:
    path, token = deployment.session.path("t1"), deployment.session.user_token
    document = await uploaded(deployment.gateway, path, token, LARGE)
    await deployment.at_rest()
    for member in deployment.gateway.gateway.parts.members:
        assert isinstance(member.store, FaultyStore)
        member.store.faults = faults

    status = await deployment.fetch(document["urn"], headers=headers)

    assert not status.startswith(b"HTTP/1.1 200"), status
    assert_nothing_kept()


async def test_nothing_is_kept_of_a_bad_copy_that_another_store_stood_in_for(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path, ("one", "two")) as deployment:
        path, token = deployment.session.path("t1"), deployment.session.user_token
        document = await uploaded(deployment.gateway, path, token, LARGE)
        await deployment.at_rest()
        first = deployment.gateway.gateway.parts.members[0].store
        assert isinstance(first, FaultyStore)
        first.faults = StoreFaults(spoil=lambda _, data: bytes(len(data)))

        assert (await deployment.fetch(document["urn"])).startswith(b"HTTP/1.1 200")

        assert first.asked["read"]
        assert_nothing_kept()


async def test_nothing_is_kept_of_a_download_that_nobody_reads(deployment: Deployment) -> None:
    path, token = deployment.session.path("t1"), deployment.session.user_token
    document = await uploaded(deployment.gateway, path, token, LARGE)
    await deployment.at_rest()

    await deployment.fetch(document["urn"], headers=[PLAINTEXT], hang_up=True)

    assert_nothing_kept()


def test_a_cycle_is_found_and_said() -> None:
    def fail() -> None:
        data = bytes(KEPT_MIN)
        error = BlobCorrupt(f"{len(data)} bytes")
        raise error

    with pytest.raises(BlobCorrupt) as raised:
        fail()
    del raised

    found = held_by_cycles(KEPT_MIN)
    assert 2 == len(found), found
    assert found[0].startswith(f"{KEPT_MIN} bytes in a frame of {fail.__qualname__}")
    assert "BlobCorrupt -> traceback" in found[1]
