"""Goal: nobody holds a connection by reading the end of an answer too slowly, or not at all.

Method: a client with the smallest buffer asks until a little of its answers is left in the gateway,
too little for asyncio to wait for it; or for answers that are large. Then it reads nothing, or less
than it must.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection as CatalogConnection
from sqlalchemy import insert, select

from storage_gateway.api.protocol import _Handler
from storage_gateway.catalog.tables import objects
from storage_gateway.ids import new_random_id
from tests.gateway import RunningGateway, eventually
from tests.http.raw import request
from tests.http.steps import holding, made_bytes

BODY = made_bytes(60_000)
TOO_SLOW = {"body_idle_s": 1, "min_rate": 10_000_000}
"""So that less than all that there is, at once, is too little."""
AT_ONCE_BYTES = 64 << 10
"""More than this asyncio does not take without waiting."""


@asynccontextmanager
async def slow_client(
    gateway: RunningGateway, buffer_size: int = 4096
) -> AsyncIterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, gateway.address)
        yield client


def transports(gateway: RunningGateway) -> list[asyncio.Transport]:
    server = gateway.gateway._runner.server
    assert server is not None
    return [found.transport for found in server.connections if found.transport]


def unread(gateway: RunningGateway) -> int:
    return sum(transport.get_write_buffer_size() for transport in transports(gateway))


async def _at_rest(gateway: RunningGateway) -> bool:
    return not gateway.gateway.services.under_way._count


async def ask_until_some_is_left(
    gateway: RunningGateway, client: socket.socket, question: bytes
) -> None:
    """Leave some of the answers in the gateway, and nothing under way."""
    server, loop = gateway.gateway._runner.server, asyncio.get_running_loop()
    assert server is not None
    while not unread(gateway):
        before = server.requests_count
        await loop.sock_sendall(client, question)

        async def answered(before: int = before) -> bool:
            return server.requests_count > before and await _at_rest(gateway)

        await eventually(answered, what="the next answer")
    assert unread(gateway) < AT_ONCE_BYTES


async def read(client: socket.socket, size: int) -> int:
    """Read a little, if the connection is still there; return how much."""
    try:
        return len(await asyncio.get_running_loop().sock_recv(client, size))
    except ConnectionResetError:
        return 0


@pytest.mark.parametrize("last", ["object", "manifest"])
@pytest.mark.parametrize("a_little", [0, 1])
async def test_whoever_does_not_read_the_end_of_an_answer_is_cut_off(
    tmp_path: Path, last: str, a_little: int
) -> None:
    async with (
        holding(tmp_path, BODY, **TOO_SLOW) as (gateway, session, (urn,)),
        slow_client(gateway) as client,
    ):
        path = f"/v1/objects/{urn}"
        await ask_until_some_is_left(gateway, client, request("GET", path, session.user_token))
        if last == "manifest":
            question = request("GET", f"{path}/manifest", session.user_token)
            await asyncio.get_running_loop().sock_sendall(client, question)

        async def cut_off() -> bool:
            await read(client, a_little) if a_little else None
            return not transports(gateway)

        await eventually(cut_off, what="the reader cut off")


async def test_a_large_answer_that_nobody_reads_is_cut_off(tmp_path: Path) -> None:
    """Too large to be taken at once: to have it read, aiohttp would wait for ever."""
    async with (
        holding(tmp_path, b"one of many", **TOO_SLOW) as (gateway, session, _),
        slow_client(gateway) as client,
    ):
        await gateway.catalog.run(lambda c: _multiply(c, 999))
        path = "/v1/sessions/101/objects?limit=1000"
        question = request("GET", path, session.user_token)
        most = 0

        async def cut_off() -> bool:
            nonlocal most
            most = max(most, unread(gateway))
            return bool(most) and not transports(gateway)

        for _ in range(8):
            await asyncio.get_running_loop().sock_sendall(client, question)
        await eventually(cut_off, what="the reader cut off")

    assert most > AT_ONCE_BYTES


def _multiply(connection: CatalogConnection, count: int) -> None:
    row = dict(connection.execute(select(objects)).mappings().one())
    for number in range(count):
        ids = {name: new_random_id() for name in ("object_id", "payload_id")}
        own = {"task_id": f"t{number}", "file_key_print": b"%d" % number, "sequence": number + 2}
        connection.execute(insert(objects).values(row | ids | own))


async def test_whoever_reads_in_time_stays(tmp_path: Path) -> None:
    """What was left of an earlier answer does not count against a later one."""
    bodies, limits = (BODY, made_bytes(2_000_000)), {"body_idle_s": 2, "min_rate": 50_000}
    async with (
        holding(tmp_path, *bodies, **limits) as (gateway, session, urns),
        slow_client(gateway, AT_ONCE_BYTES) as client,
    ):
        token, paths = session.user_token, [f"/v1/objects/{urn}" for urn in urns]
        server = gateway.gateway._runner.server
        assert server is not None
        await ask_until_some_is_left(gateway, client, request("GET", paths[0], token))
        (handler,) = server.connections
        assert isinstance(handler, _Handler)
        timer = handler._unread_timer
        asked = server.requests_count
        await asyncio.get_running_loop().sock_sendall(client, request("GET", paths[1], token))

        while server.requests_count == asked or not await _at_rest(gateway) or unread(gateway):
            assert await read(client, 20_000)
            await asyncio.sleep(0.03)

        assert timer is not None
        assert timer.when() < time.monotonic()
        assert transports(gateway)
