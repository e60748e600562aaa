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
from tests.http.raw import connected, exchange, request
from tests.http.steps import (
    PLAINTEXT,
    fetch,
    upload,
    uploaded,
)


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
