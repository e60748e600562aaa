"""Goal: reseal gives an object a new file key, payload and CID and keeps its URN and content; what
it had is deleted once readers had their time; keys may rotate in the midst of an upload.

Method: a real gateway on both databases; what was sealed before is kept and tried against what is
stored after, the stores are looked into, and a catalog is made again from the copies.
"""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select

from crypto import CryptoError, NoIdentityMatch, open_file
from storage_gateway.catalog.tables import graves, intents, objects, segments
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import connected, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_jobs import ended, filled, run_job
from tests.http.test_keys import ask, keys_of, rotated
from tests.http.test_rebuild import dump, lose_catalog, new_token, rebuilt, settled

pytestmark = pytest.mark.both_databases


async def payloads(gateway: RunningGateway) -> set[str]:
    """Return the ids of the payloads that lie in the store."""
    prefix = gateway.gateway.parts.payloads
    keys = [blob.key async for blob in gateway.store.list(prefix)]
    return {key.removeprefix(prefix).partition("/")[0] for key in keys}


async def named(gateway: RunningGateway) -> set[str]:
    """Return the ids of the payloads that manifests name."""
    rows = await gateway.catalog.read(lambda c: c.execute(select(objects.c.payload_id)).scalars())
    return set(rows)


async def no_graves(gateway: RunningGateway) -> bool:
    count = select(func.count()).select_from(graves)
    return await gateway.catalog.read(lambda c: c.execute(count).scalar_one()) == 0


async def test_an_object_gets_a_new_file_key_and_keeps_its_name(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, read_grace_s=0.2) as gateway:
        session = await open_session(gateway)
        bodies = await filled(gateway, session, 3)
        large = made_bytes(SEGMENT + LEAF + 7)
        document = await uploaded(
            gateway, f"{session.path('large')}?filename=a.txt", session.user_token, large
        )
        bodies[document["urn"]] = large
        before = {urn: (await fetch(gateway, urn, session.user_token)).body for urn in bodies}
        had = await payloads(gateway)
        job = await run_job(gateway, session.user_token, "reseal")

        assert ("done", len(bodies), 0) == (
            job["state"],
            job["progress"]["done"],
            job["progress"]["failed"],
        )
        for urn, body in bodies.items():
            now = (await fetch(gateway, urn, session.user_token)).body
            assert body == open_file(now, [session.user]) == open_file(now, [session.miner])
            opened = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
            assert body == opened.body
            # The old head opens the old payload alone: whoever has its file key reads no more.
            old_head = before[urn][: _head_size(before[urn])]
            with pytest.raises(CryptoError):
                open_file(old_head + now[_head_size(now) :], [session.user])
        pinned = document["urn_pinned"].replace("?", "%3F")
        superseded = (await fetch(gateway, pinned, session.user_token)).problem(
            409, "cid_superseded"
        )
        manifest = (
            await fetch(gateway, document["urn"], session.user_token, part="/manifest")
        ).json()
        assert manifest["cid"] == superseded["cid"] != document["cid"]
        assert document["created"] == manifest["created"]
        await eventually(lambda: no_graves(gateway), what="the end of what was superseded")
        assert await named(gateway) == await payloads(gateway)
        assert not had & await payloads(gateway)


def _head_size(file: bytes) -> int:
    """Return how many bytes of an age file are its header and nonce."""
    end = file.index(b"\n--- ") + 1
    return file.index(b"\n", end) + 1 + 16


async def test_what_is_being_read_is_read_to_its_end(tmp_path: Path) -> None:
    body = made_bytes(3 * SEGMENT)
    async with running_gateway(tmp_path, read_grace_s=30, read_memory_bytes=8 << 20) as gateway:
        session = await open_session(gateway)
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, body))["urn"]
        asked = request("GET", f"/v1/objects/{urn}", session.user_token, headers=[PLAINTEXT])
        async with connected(gateway.address) as connection:
            await connection.send(asked)
            begun = await connection.reader.readexactly(100_000)
            job = await run_job(gateway, session.user_token, "reseal")
            assert 1 == job["progress"]["done"]
            rest = bytearray()
            while not (begun + rest).endswith(body[-1000:]):
                piece = await connection.reader.read(1 << 20)
                assert piece
                rest += piece
        assert body == (begun + rest)[-len(body) :]
        assert body == (await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])).body


async def test_what_was_superseded_goes_at_once_when_the_object_is_erased(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, read_grace_s=3600) as gateway:
        session = await open_session(gateway)
        urn = (await uploaded(gateway, session.path("t1"), session.user_token, b"content"))["urn"]
        await run_job(gateway, session.user_token, "reseal")
        assert 2 == len(await payloads(gateway))
        await ask(gateway, "DELETE", f"/v1/objects/{urn}", session.user_token)

        await settled(gateway, erased=1)
        assert set() == await payloads(gateway)
        assert await no_graves(gateway)


async def test_what_cannot_be_read_is_told_and_stays_and_the_rest_is_resealed(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway)
    bodies = await filled(gateway, session, 4)
    lost = next(iter(bodies))
    manifest = (await fetch(gateway, lost, session.user_token, part="/manifest")).json()
    await gateway.store.delete(f"{gateway.gateway.parts.payloads}{manifest['payload_id']}/0")
    job = await run_job(gateway, session.user_token, "reseal")

    assert (3, 1) == (job["progress"]["done"], job["progress"]["failed"])
    path = f"/v1/jobs/{job['id']}/failures"
    failures = (await ask(gateway, "GET", path, session.user_token)).json()["failures"]
    assert [(lost, "blob_missing")] == [(f["urn"], f["code"]) for f in failures]
    now = (await fetch(gateway, lost, session.user_token, part="/manifest")).json()
    assert manifest == now
    left = select(func.count()).select_from(intents)
    assert 0 == await gateway.catalog.read(lambda c: c.execute(left).scalar_one())


async def test_it_goes_on_where_it_was_when_its_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.reseal.PAGE", 1)
    async with running_gateway(tmp_path, read_grace_s=0.1) as gateway:
        session = await open_session(gateway)
        bodies = await filled(gateway, session, 5)
        wish = {"kind": "reseal", "rate": 4}
        begun = (await ask(gateway, "POST", "/v1/jobs", session.user_token, wish)).json()
        await asyncio.sleep(0)
    async with running_gateway(tmp_path, read_grace_s=0.1) as gateway:
        job = await ended(gateway, session.user_token, begun["id"])
        assert ("done", 0) == (job["state"], job["progress"]["failed"])
        assert len(bodies) <= job["progress"]["done"] <= len(bodies) + 1
        for urn, body in bodies.items():
            sealed = await fetch(gateway, urn, session.user_token)
            assert body == open_file(sealed.body, [session.user])
            assert ".g1" not in str(sealed.header("ETag"))
        await eventually(lambda: no_graves(gateway), what="the end of what was superseded")
        assert await named(gateway) == await payloads(gateway)


async def test_a_lost_catalog_comes_back_with_the_newest_payloads(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, read_grace_s=0.1) as gateway:
        session = await open_session(gateway, "101")
        bodies = await filled(gateway, session, 3)
        await run_job(gateway, session.user_token, "reseal")
        await eventually(lambda: no_graves(gateway), what="the end of what was superseded")
        await settled(gateway)
    before = await asyncio.to_thread(dump, tmp_path / "data")
    await asyncio.to_thread(lose_catalog, tmp_path / "data")
    assert 0 == (await rebuilt(tmp_path / "data")).status
    after = await asyncio.to_thread(dump, tmp_path / "data")
    assert before == after
    async with running_gateway(tmp_path) as gateway:
        token = await new_token(gateway)
        for urn, body in bodies.items():
            assert body == (await fetch(gateway, urn, token, headers=[PLAINTEXT])).body


async def test_keys_that_rotate_in_the_midst_of_an_upload_cost_nothing(
    gateway: RunningGateway,
) -> None:
    """Twice, the router's and the user's; the head that is committed is for the newest of both."""
    session = await open_session(gateway)
    body = made_bytes(SEGMENT + 1000)
    path = session.path("long")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {session.user_token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    async def has_begun() -> bool:
        begun = select(func.count()).select_from(segments)
        return await gateway.catalog.read(lambda c: c.execute(begun).scalar_one()) > 0

    async with connected(gateway.address) as connection:
        await connection.send(head + body[: SEGMENT // 2])
        await eventually(has_begun, what="the beginning of the upload")
        for _ in range(2):
            newest = await rotated(gateway, session)
            made = await ask(gateway, "POST", "/v1/admin/keys", gateway.operator_token, {})
            assert 201 == made.status
        router = gateway.gateway.parts.keyring.identity_for(made.json()["recipient"])
        keys = await keys_of(gateway, session)
        assert (1, False) == (keys[1]["uploads"], keys[1]["safe_to_destroy"])
        await connection.send(body[SEGMENT // 2 :])
        answer = await connection.answer()
    assert 201 == answer.status, answer
    document = answer.json()
    assert router is not None
    sealed = (await fetch(gateway, document["urn"], session.user_token)).body
    assert body == open_file(sealed, [newest]) == open_file(sealed, [router])
    with pytest.raises(NoIdentityMatch):
        open_file(sealed, [session.user])
    assert document["sealed_size"] == len(sealed)
    manifest = (await fetch(gateway, document["urn"], session.user_token, part="/manifest")).json()
    assert {"user": 3, "router": 3, "miner": 1} == {
        p["role"]: p["version"] for p in manifest["wrapped_for"]
    }
