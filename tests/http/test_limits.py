"""What one gateway takes at a time: transfers, connections, slow bodies, slow readers, full disks.

Each limit is a setting, made small here; what is over it is refused or cut off, and what is within
it goes on undisturbed.
"""

import asyncio
from pathlib import Path

from storage_gateway.custody import OPERATOR_TOKEN_FILE
from storage_gateway.records import TokenKind
from storage_gateway.tokens import new_token
from tests.gateway import eventually, leftovers, open_session, payload_keys, running_gateway
from tests.http.raw import EXPECT, Connection, connected, exchange, request
from tests.http.steps import (
    LEAF,
    PLAINTEXT,
    assert_nothing_left,
    fetch,
    made_bytes,
    upload,
    uploaded,
)


async def test_transfers_over_the_limit_are_told_to_wait(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, transfers_max=1) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        first = await uploaded(gateway, session.path("t1"), token, b"first")
        async with connected(gateway.address) as held:
            headers = [EXPECT, ("Content-Length", "4")]
            await held.send(request("POST", session.path("t2"), token, headers=headers))
            assert 100 == (await held.answer()).status
            refused = [
                await upload(gateway, session.path("t3"), token, b"x"),
                await fetch(gateway, first["urn"], token),
            ]
            others = [
                await fetch(gateway, first["urn"], token, part="/manifest"),
                await fetch(gateway, first["urn"], token, method="HEAD"),
                await exchange(gateway.address, request("GET", "/readyz")),
            ]
            await held.send(b"held")
            ended = await held.answer()
        after = [
            await upload(gateway, session.path("t3"), token, b"x"),
            await fetch(gateway, first["urn"], token),
        ]

    for answer in refused:
        answer.problem(503, "busy")
        assert answer.header("Retry-After")
    assert [200, 200, 200] == [answer.status for answer in others]
    assert [201, 201, 200] == [answer.status for answer in (ended, *after)]


async def test_an_upload_that_is_refused_gives_its_place_back(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, transfers_max=1, object_bytes_max=10) as gateway:
        session = await open_session(gateway, "101")
        for _ in range(3):
            answer = await upload(gateway, session.path("t1"), session.user_token, bytes(11))
            answer.problem(413, "body_too_large")
        await assert_nothing_left(gateway, session, "t1")


async def test_connections_over_the_limit_are_cut(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, connections_max=3) as gateway:
        async with (
            connected(gateway.address) as first,
            connected(gateway.address) as second,
            connected(gateway.address) as third,
        ):
            for connection in (first, second, third):
                await connection.send(request("GET", "/healthz"))
                assert 200 == (await connection.answer()).status
            async with connected(gateway.address) as over:
                assert await over.ended()
            await first.send(request("GET", "/healthz"))
            assert 200 == (await first.answer()).status

        async def is_taken_again() -> bool:
            try:
                answer = await exchange(gateway.address, request("GET", "/healthz"))
            except (ConnectionError, asyncio.IncompleteReadError):
                return False
            return 200 == answer.status

        await eventually(is_taken_again, what="room for a connection")


async def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    """Never idle for long, and yet slower than any honest sender."""
    limits = {"body_idle_s": 0.4, "transfer_bytes_per_s_min": 1000}
    async with running_gateway(tmp_path, **limits) as gateway:
        session = await open_session(gateway, "101")
        async with connected(gateway.address) as connection:
            headers = [EXPECT, ("Content-Length", "100000")]
            await connection.send(
                request("POST", session.path("t1"), session.user_token, headers=headers)
            )
            assert 100 == (await connection.answer()).status
            trickle = asyncio.create_task(_trickle(connection))
            answer = await connection.answer()
            trickle.cancel()

        answer.problem(408, "body_timeout")
        await assert_nothing_left(gateway, session, "t1")


async def _trickle(connection: Connection) -> None:
    while True:
        await connection.send(b"x")
        await asyncio.sleep(0.05)


async def test_a_reader_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    limits = {"body_idle_s": 0.3, "transfer_bytes_per_s_min": 10_000_000, "transfers_max": 1}
    async with running_gateway(tmp_path, **limits) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        content = made_bytes(40 * LEAF)
        document = await uploaded(gateway, session.path("t1"), token, content)
        async with connected(gateway.address) as connection:
            path = f"/v1/objects/{document['urn']}"
            await connection.send(request("GET", path, token, headers=[PLAINTEXT]))

            async def is_given_up() -> bool:
                return 201 == (await upload(gateway, session.path("t2"), token, b"x")).status

            await eventually(is_given_up, what="the transfer's place")
            received = b""
            try:
                while piece := await connection.reader.read(1 << 20):
                    received += piece
            except ConnectionResetError:
                pass

    assert len(received) < len(content)


async def test_a_disk_below_its_reserve_takes_no_upload_but_still_erases(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    async with running_gateway(tmp_path, reserve_bytes=1 << 60) as full:
        refused = await upload(full, session.path("t2"), session.user_token, b"y")
        read = await fetch(full, document["urn"], session.user_token, headers=[PLAINTEXT])
        ready = await exchange(full.address, request("GET", "/readyz"))
        erased = await fetch(full, document["urn"], session.user_token, method="DELETE")
        remaining = await leftovers(full.catalog, full.store)
        keys = await payload_keys(full.catalog, full.store)

    refused.problem(507, "storage_full")
    assert (200, b"x") == (read.status, read.body)
    assert 503 == ready.status
    assert "storage_full" in ready.json()["checks"].values()
    assert 202 == erased.status
    assert [] == remaining
    assert [] == keys


async def test_an_operators_token_that_was_replaced_is_revoked(tmp_path: Path) -> None:
    token = new_token(TokenKind.OPERATOR)
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
    (gateway.data_dir / OPERATOR_TOKEN_FILE).write_text(f"{token}\n")
    async with running_gateway(tmp_path) as again:
        path = f"/v1/sessions/{session.session_id}"
        old = await exchange(again.address, request("GET", path, gateway.operator_token))
        new = await exchange(again.address, request("GET", path, token))

    old.problem(401, "token_expired")
    assert 200 == new.status
