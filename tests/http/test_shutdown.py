"""Stopping: what is under way ends well within the drain, the rest is cut off and leaves nothing.

Most of it is tried on a real process that gets a real SIGTERM or SIGKILL.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from storage_gateway.api.middleware import _comes_from
from tests.gateway import (
    GatewayProcess,
    OpenSession,
    RunningGateway,
    eventually,
    gateway_process,
    leftovers,
    open_catalog,
    open_session,
    open_store,
    payload_keys,
    running_gateway,
    store_is_empty,
)
from tests.http.raw import EXPECT, Connection, connected, exchange, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded

BODY = made_bytes(3 * LEAF)


async def _begin(
    gateway: GatewayProcess | RunningGateway, session: OpenSession, connection: Connection
) -> None:
    """Begin an upload of `BODY`, keep the last leaf of it back, and wait until it stores."""
    headers = [EXPECT, ("Content-Length", str(len(BODY)))]
    await connection.send(request("POST", session.path("t1"), session.user_token, headers=headers))
    assert 100 == (await connection.answer()).status
    await connection.send(BODY[:-LEAF])
    store = gateway.data_dir / "store"

    async def stores() -> bool:
        return any(file.is_file() for file in store.glob("*/*/payloads/*/*"))

    await eventually(stores, what="the first leaf in the store")


async def _nothing_is_left(data_dir: Path) -> bool:
    catalog = await asyncio.to_thread(open_catalog, data_dir)
    store = open_store(data_dir)
    try:
        return await store_is_empty(catalog, store)
    finally:
        await asyncio.to_thread(catalog.close)
        await asyncio.to_thread(store.close)


async def test_an_upload_at_sigterm_ends_with_201(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", drain_s=20) as gateway:
        session = await open_session(gateway)
        async with connected(gateway.address) as connection:
            await _begin(gateway, session, connection)
            gateway.send_signal(signal.SIGTERM)
            await eventually(lambda: _refuses(gateway), what="the end of listening")
            for at in range(len(BODY) - LEAF, len(BODY), 100_000):
                await connection.send(BODY[at : at + 100_000])
            answer = await connection.answer()
            closed = await connection.ended()
        code = await gateway.wait()
    async with gateway_process(tmp_path / "data") as again:
        urn = answer.json()["urn"]
        served = await fetch(again, urn, session.user_token, headers=[PLAINTEXT])

    assert (201, True, 0) == (answer.status, closed, code)
    assert BODY == served.body
    assert "trace" not in gateway.log.read_text()


async def test_a_download_at_sigterm_is_finished(tmp_path: Path) -> None:
    content = made_bytes(6 * SEGMENT)
    async with gateway_process(tmp_path / "data", drain_s=20) as gateway:
        session = await open_session(gateway)
        document = await uploaded(gateway, session.path("t1"), session.user_token, content)
        async with connected(gateway.address) as connection:
            path = f"/v1/objects/{document['urn']}"
            await connection.send(request("GET", path, session.user_token, headers=[PLAINTEXT]))
            await connection.reader.readuntil(b"\r\n\r\n")
            gateway.send_signal(signal.SIGTERM)
            await eventually(lambda: _refuses(gateway), what="the end of listening")
            received = await connection.reader.readexactly(len(content))
        code = await gateway.wait()

    assert content == received
    assert 0 == code


async def test_an_upload_over_the_drain_is_cut_off_and_leaves_nothing(tmp_path: Path) -> None:
    async with gateway_process(tmp_path / "data", drain_s=0.3, body_idle_s=60) as gateway:
        session = await open_session(gateway)
        async with connected(gateway.address) as connection:
            await _begin(gateway, session, connection)
            gateway.send_signal(signal.SIGTERM)
            # The rest never comes; no answer may say that all is well.
            async with asyncio.timeout(20):
                assert b" 201 " not in await connection.reader.read()
        code = await gateway.wait()

    assert 0 == code
    assert await _nothing_is_left(tmp_path / "data")
    assert "trace" not in gateway.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_connections_do_not_hold_a_stop_up(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with (
        gateway_process(tmp_path / "data", drain_s=60) as gateway,
        connected(gateway.address) as used,
        connected(gateway.address) as fresh,
    ):
        await used.send(request("GET", "/healthz"))
        assert 200 == (await used.answer()).status
        gateway.send_signal(number)
        code = await gateway.wait()
        assert await used.ended()
        assert await fresh.ended()

    assert 0 == code


async def test_a_killed_process_leaves_what_the_next_one_clears_away(tmp_path: Path) -> None:
    lease = {"instance_lease_s": 1, "instance_renew_s": 0.2}
    async with gateway_process(tmp_path / "data", **lease) as gateway:
        session = await open_session(gateway)
        async with connected(gateway.address) as connection:
            await _begin(gateway, session, connection)
            gateway.send_signal(signal.SIGKILL)
            await gateway.wait()
    assert not await _nothing_is_left(tmp_path / "data")

    async with running_gateway(tmp_path) as again:

        async def is_empty() -> bool:
            return await store_is_empty(again.catalog, again.store)

        await eventually(is_empty, what="an empty store")
        document = await uploaded(again, session.path("t1"), session.user_token, b"once more")
        served = await fetch(again, document["urn"], session.user_token, headers=[PLAINTEXT])
        remaining = await leftovers(again.catalog, again.store)

    assert b"once more" == served.body
    assert [] == remaining


async def test_a_draining_process_refuses_new_work(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, drain_s=60) as gateway,
        connected(gateway.address) as kept,
        connected(gateway.address) as busy,
    ):
        session = await open_session(gateway, "101")
        await kept.send(request("GET", "/readyz"))
        before = await kept.answer()
        await _begin(gateway, session, busy)
        stopping = asyncio.create_task(gateway.gateway.stop())
        await eventually(lambda: _refuses(gateway), what="the end of listening")
        answers = []
        await kept.send(request("GET", "/healthz"))
        alive = await kept.answer()
        for path in ("/readyz", f"/v1/sessions/{session.session_id}"):
            await kept.send(request("GET", path, session.user_token))
            answers.append(await kept.answer())
        await busy.send(BODY[-LEAF:])
        finished = await busy.answer()
        await stopping

    assert (200, 200) == (before.status, alive.status)
    for answer in answers:
        answer.problem(503, "draining")
        assert answer.header("Retry-After")
    assert 201 == finished.status


async def test_a_gateway_can_be_stopped_under_many_requests(tmp_path: Path) -> None:
    """What was told 201 is there, and nothing lies about that no object accounts for."""
    async with running_gateway(tmp_path, drain_s=2) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token

        async def one(i: int) -> str | None:
            body = made_bytes(LEAF + 1, seed=i)
            try:
                answer = await upload(gateway, session.path(f"t{i}"), token, body)
            except (ConnectionError, asyncio.IncompleteReadError):
                return None
            return str(answer.json()["urn"]) if answer.status == 201 else None

        tasks = [asyncio.create_task(one(i)) for i in range(30)]
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        await gateway.gateway.stop()
        told = {i: urn for i, urn in enumerate(await asyncio.gather(*tasks)) if urn}
    async with running_gateway(tmp_path) as again:
        for i, urn in told.items():
            served = await fetch(again, urn, token, headers=[PLAINTEXT])
            assert made_bytes(LEAF + 1, seed=i) == served.body
        listed = await exchange(again.address, request("GET", "/v1/sessions/101/objects", token))

        async def is_clean() -> bool:
            return [] == await leftovers(again.catalog, again.store)

        await eventually(is_clean, what="a clean store")

    assert set(told.values()) <= {o["urn"] for o in listed.json()["objects"]}


@pytest.mark.parametrize(
    ("remote", "cidr", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("127.0.0.1", "10.0.0.0/8", True),
        ("::1", "10.0.0.0/8", True),
        ("fd00::1", "fd00::/8", True),
        ("fe80::1", "fd00::/8", False),
        ("10.1.2.3", "fd00::/8", False),
        ("nonsense", "10.0.0.0/8", False),
        ("", "0.0.0.0/0", False),
        (None, "0.0.0.0/0", False),
    ],
)
def test_behind_a_proxy_only_it_may_connect(remote: str | None, cidr: str, allowed: bool) -> None:
    assert allowed == _comes_from(remote, cidr)


async def _refuses(gateway: GatewayProcess | RunningGateway) -> bool:
    try:
        async with connected(gateway.address):
            return False
    except OSError:
        return True
