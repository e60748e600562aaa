"""Goal: memory for bodies and downloads has a limit, everybody who was admitted gets on within it,
and nobody holds it for longer than an honest client would.

Method: real sockets against gateways with the smallest budgets, or a rate that a test can fall
below in a moment.
"""

import asyncio
import random
import socket
import time
from pathlib import Path

import pytest

from storage_gateway.leaves import floor_of
from storage_gateway.memory import Budget
from tests.gateway import OpenSession, RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import CHUNKED, EXPECT, Connection, chunk, connected, exchange, request
from tests.http.steps import (
    LEAF,
    PLAINTEXT,
    assert_nothing_left,
    fetch,
    holding,
    made_bytes,
    upload,
    uploaded,
)

LEAST_BYTES = 2 << 20
FLOOR = floor_of(None, 64 << 10)
PLACES = LEAST_BYTES // FLOOR
"""Bodies of unknown length that the least budget admits at one time."""


def write_memory(gateway: RunningGateway) -> Budget:
    return gateway.gateway.services.uploads._memory


def read_memory(gateway: RunningGateway) -> Budget:
    return gateway.gateway.services.reads._memory


async def begun(connection: Connection, session: OpenSession, task: str) -> None:
    """Begin a body of unknown length and wait until the gateway asks for it."""
    headers = [CHUNKED, EXPECT]
    path, token = session.path(task), session.user_token
    await connection.send(request("POST", path, token, headers=headers))
    assert 100 == (await connection.answer()).status


async def test_bodies_that_all_stop_half_way_do_not_stop_each_other(tmp_path: Path) -> None:
    """As many as there are places: all send half a leaf, none has memory for the other half."""
    body = made_bytes(2 * LEAF + 12345)
    half = LEAF // 2
    async with running_gateway(tmp_path, write_memory_bytes=LEAST_BYTES) as gateway:
        session = await open_session(gateway, "101")

        async def send(task: str, all_of_them: asyncio.Barrier) -> int:
            async with connected(gateway.address) as connection:
                await begun(connection, session, task)
                # Who sends takes more than its place, and the last ones would find none.
                await all_of_them.wait()
                await connection.send(chunk(body[:half]))
                await all_of_them.wait()
                await connection.send(chunk(body[half:]) + chunk(b""))
                return (await connection.answer()).status

        assert PLACES * half > LEAST_BYTES
        barrier = asyncio.Barrier(PLACES)
        statuses = await asyncio.gather(*(send(f"t{n}", barrier) for n in range(PLACES)))
        # Whole, though they were placed in parts.
        read = [await fetch_plain(gateway, session, f"t{n}") for n in range(PLACES)]

        assert [201] * PLACES == statuses
        assert all(body == found for found in read)
        assert 0 == write_memory(gateway).taken


async def fetch_plain(gateway: RunningGateway, session: OpenSession, task: str) -> bytes:
    again = await upload(gateway, session.path(task), session.user_token, b"")
    urn = again.problem(409, "slot_taken")["urn"]
    return (await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])).body


async def test_many_more_clients_than_places_are_all_served(
    tmp_path: Path, seed: int, nightly: bool
) -> None:
    """Of any size, sealed at any pace, waiting in turn: all end, and all memory comes back."""
    rng = random.Random(seed)
    clients = 200 if nightly else 25
    settings = {
        "write_memory_bytes": LEAST_BYTES,
        "read_memory_bytes": LEAST_BYTES,
        "memory_wait_s": 60,
        "body_idle_s": 60,
    }
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101")

        async def one(task: str, body: bytes, pieces: int) -> None:
            async with connected(gateway.address) as connection:
                headers = [CHUNKED]
                path, token = session.path(task), session.user_token
                await connection.send(request("POST", path, token, headers=headers))
                step = -(-len(body) // pieces)
                for start in range(0, len(body), step):
                    await connection.send(chunk(body[start : start + step]))
                await connection.send(chunk(b""))
                answer = await connection.answer()
            assert 201 == answer.status, answer
            urn = answer.json()["urn"]
            read = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
            assert body == read.body

        async with asyncio.TaskGroup() as group:
            for n in range(clients):
                body = rng.randbytes(rng.choice([1, 5000, LEAF, LEAF + 1, 3 * LEAF]))
                group.create_task(one(f"t{n}", body, rng.choice([1, 2, 7])))

        assert 0 == write_memory(gateway).taken
        assert 0 == read_memory(gateway).taken


async def test_whoever_finds_no_memory_is_told_to_come_again(tmp_path: Path) -> None:
    settings = {
        "write_memory_bytes": LEAST_BYTES,
        "read_memory_bytes": LEAST_BYTES,
        "memory_wait_s": 0.1,
    }
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        first = await uploaded(gateway, session.path("t1"), token, b"first")
        async with (
            write_memory(gateway).admit(LEAST_BYTES),
            read_memory(gateway).admit(LEAST_BYTES),
        ):
            began = time.monotonic()
            refused = [
                await upload(gateway, session.path("t2"), token, b"x"),
                await fetch(gateway, first["urn"], token),
                await fetch(gateway, first["urn"], token, headers=[PLAINTEXT]),
            ]
            waited = time.monotonic() - began
            others = [
                await fetch(gateway, first["urn"], token, part="/manifest"),
                await fetch(gateway, first["urn"], token, method="HEAD"),
                await exchange(gateway.address, request("GET", "/readyz")),
            ]
        after = [
            await upload(gateway, session.path("t2"), token, b"x"),
            await fetch(gateway, first["urn"], token),
        ]

    for answer in refused:
        answer.problem(503, "busy")
        assert answer.header("Retry-After")
    assert waited >= 0.3
    assert [200, 200, 200] == [answer.status for answer in others]
    assert [201, 200] == [answer.status for answer in after]


async def test_whoever_waits_goes_on_as_soon_as_there_is_memory(tmp_path: Path) -> None:
    settings = {"write_memory_bytes": LEAST_BYTES, "memory_wait_s": 20}
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101")
        async with write_memory(gateway).admit(LEAST_BYTES):
            waiting = asyncio.create_task(
                upload(gateway, session.path("t1"), session.user_token, b"x")
            )

            async def is_in_line() -> bool:
                return bool(write_memory(gateway)._waiting)

            await eventually(is_in_line)
        answer = await waiting

    assert 201 == answer.status


async def test_a_body_takes_memory_as_it_comes(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """Not what it announces: a slow sender of the largest body holds what it sent."""
    memory = write_memory(gateway)
    async with connected(gateway.address) as connection:
        headers = [EXPECT, ("Content-Length", str(1 << 35))]
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        assert 100 == (await connection.answer()).status
        assert FLOOR == memory.taken
        for sent in (1, 2, 3):
            await connection.send(made_bytes(200_000))

            async def has_come(wanted: int = sent * 200_000) -> bool:
                return memory.taken >= wanted

            await eventually(has_come)
            assert memory.taken <= max(FLOOR, sent * 200_000 + FLOOR)

    async def is_given_back() -> bool:
        return 0 == memory.taken

    await eventually(is_given_back)


@pytest.mark.parametrize("fast_first", [0, 1 << 20], ids=["from the start", "after a fast part"])
async def test_a_body_that_trickles_is_given_up(tmp_path: Path, fast_first: int) -> None:
    """Never idle for long, and yet slower than any honest sender; a fast start buys no time."""
    limits = {"body_idle_s": 0.4, "min_rate": 1000}
    async with running_gateway(tmp_path, **limits) as gateway:
        session = await open_session(gateway, "101")
        async with connected(gateway.address) as connection:
            headers = [EXPECT, ("Content-Length", "100000000")]
            await connection.send(
                request("POST", session.path("t1"), session.user_token, headers=headers)
            )
            assert 100 == (await connection.answer()).status
            await connection.send(bytes(fast_first))
            trickle = asyncio.create_task(_trickle(connection))
            answer = await connection.answer()
            trickle.cancel()

        answer.problem(408, "body_timeout")
        await assert_nothing_left(gateway, session, "t1")


async def _trickle(connection: Connection) -> None:
    while True:
        await connection.send(b"x")
        await asyncio.sleep(0.05)


async def test_a_body_just_fast_enough_is_taken(tmp_path: Path) -> None:
    """For several times as long as nothing at all may come."""
    limits = {"body_idle_s": 2, "min_rate": 1000}
    async with running_gateway(tmp_path, **limits) as gateway:
        session = await open_session(gateway, "101")
        async with connected(gateway.address) as connection:
            await begun(connection, session, "t1")
            began = time.monotonic()
            while time.monotonic() - began < 5:
                await connection.send(chunk(bytes(400)))
                await asyncio.sleep(0.05)
            await connection.send(chunk(b""))
            answer = await connection.answer()

    assert 201 == answer.status


@pytest.mark.parametrize("reading", [False, True], ids=["not at all", "a little"])
async def test_a_reader_that_is_too_slow_is_cut_off(tmp_path: Path, reading: bool) -> None:
    limits = {"body_idle_s": 0.3, "min_rate": 10_000_000}
    content = made_bytes(40 * LEAF)
    async with (
        holding(tmp_path, content, **limits) as (gateway, session, (urn,)),
        connected(gateway.address) as connection,
    ):
        question = request("GET", f"/v1/objects/{urn}", session.user_token, headers=[PLAINTEXT])
        await connection.send(question)
        received = len(await connection.reader.read(1 << 16))
        memory = read_memory(gateway)
        assert memory.taken > 0

        async def is_given_up() -> bool:
            if reading:
                await connection.reader.read(1)
            return 0 == memory.taken

        await eventually(is_given_up, what="the download's memory")
        try:
            while piece := await connection.reader.read(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass

    assert received < len(content)


async def test_answers_that_nobody_reads_do_not_pile_up(tmp_path: Path) -> None:
    """Each is small enough to be written without waiting; thousands of them would not be."""
    body = made_bytes(60_000)
    async with holding(tmp_path, body, body_idle_s=1) as (gateway, session, (urn,)):
        path, loop = f"/v1/objects/{urn}", asyncio.get_running_loop()
        server = gateway.gateway._runner.server
        assert server is not None
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, gateway.address)
            await loop.sock_sendall(client, request("GET", path, session.user_token) * 200)
            most = 0

            async def gone() -> bool:
                nonlocal most
                found = [c.transport for c in server.connections if c.transport]
                most = max([most, *(one.get_write_buffer_size() for one in found)])
                return bool(most) and not found

            await eventually(gone, what="the reader cut off")

    assert len(body) < most < 4 * len(body)
