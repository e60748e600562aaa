"""Goal: a store that is unmounted under a running gateway is unavailable, never an empty store, and
is as it was once it is back.

Method: the store's folder is moved away, its mount point stays as an empty folder, or as another
store; before anything was written since the start, and after.
"""

import asyncio
from pathlib import Path

import pytest

from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.http.raw import exchange, request
from tests.http.steps import PLAINTEXT, fetch, upload, uploaded

ANOTHER = "a" * 32


async def _check(gateway: RunningGateway, session: OpenSession, stored: str, task: str) -> None:
    """Move the store away, ask for everything, and move it back."""
    store, away = gateway.data_dir / "store", gateway.data_dir / "away"
    store.rename(away)
    (store / ANOTHER).mkdir(parents=True)
    token = session.user_token

    answers = [
        await upload(gateway, session.path(task), token, b"too early"),
        await fetch(gateway, stored, token),
        await fetch(gateway, stored, token, headers=[PLAINTEXT]),
    ]
    ready = await exchange(gateway.address, request("GET", "/readyz"))

    for answer in answers:
        answer.problem(503, "backend_unavailable")
    assert 503 == ready.status
    assert "backend_unavailable" == ready.json()["checks"]["store local"]
    assert [store / ANOTHER] == list(store.rglob("*"))

    (store / ANOTHER).rmdir()
    store.rmdir()
    away.rename(store)
    document = await uploaded(gateway, session.path(task), token, b"after all")
    for urn, content in ((stored, b"before"), (document["urn"], b"after all")):
        assert content == (await fetch(gateway, urn, token, headers=[PLAINTEXT])).body


@pytest.mark.parametrize("first_start", [True, False])
async def test_a_store_that_is_unmounted_before_the_first_write_is_noticed(
    tmp_path: Path, first_start: bool
) -> None:
    if first_start:
        async with running_gateway(tmp_path) as gateway:
            session = await open_session(gateway, "101")
            store = gateway.data_dir / "store"
            await asyncio.to_thread(store.rename, gateway.data_dir / "away")
            await asyncio.to_thread(store.mkdir)
            answer = await upload(gateway, session.path("1"), session.user_token, b"too early")
            assert [] == list(store.iterdir())
        answer.problem(503, "backend_unavailable")
        return
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        document = await uploaded(gateway, session.path("1"), session.user_token, b"before")
    async with running_gateway(tmp_path, recovery_interval_s=60) as gateway:
        await _check(gateway, session, document["urn"], "2")


async def test_a_store_that_is_unmounted_after_a_write_is_noticed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        document = await uploaded(gateway, session.path("1"), session.user_token, b"before")
        await _check(gateway, session, document["urn"], "2")
