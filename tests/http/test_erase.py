"""DELETE: unreadable at once, gone from store and catalog later, told so all the way.

The late-write horizon is short here; what must come is asked for until it comes, with a deadline.
The catalog's own files, its log too, are searched for the bytes of the head.
"""

from pathlib import Path

import pytest
from sqlalchemy import select

from storage_gateway.catalog.tables import graves, placements, segments
from tests.databases import databases
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    payload_keys,
    running_gateway,
    store_is_empty,
)
from tests.http.age_files import head_size
from tests.http.raw import connected, request
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes, uploaded

pytestmark = pytest.mark.both_databases

NEEDLE_SIZE = 24


async def test_an_erased_object_is_unreadable_at_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, late_write_horizon_s=1000) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, made_bytes(3 * LEAF))
        urn = document["urn"]
        first = await fetch(gateway, urn, token, method="DELETE")
        again = await fetch(gateway, urn, token, method="DELETE")
        pinned = await fetch(gateway, document["urn_pinned"], token, method="DELETE")
        answers = [
            await fetch(gateway, name, who, headers=headers)
            for name in (urn, document["urn_pinned"])
            for who in (token, session.miner_token)
            for headers in ([], [PLAINTEXT], [("If-None-Match", "*")])
        ]
        head = await fetch(gateway, urn, token, method="HEAD")
        passes = [await gateway.gateway.recovery.run_once() for _ in range(2)]
        manifest = (await fetch(gateway, urn, token, part="/manifest")).json()
        keys = await payload_keys(gateway.catalog, gateway.store)

    assert [(202, "erasing")] * 3 == [(a.status, a.json()["state"]) for a in (first, again, pinned)]
    for answer in answers:
        answer.problem(410, "erased")
    assert 410 == head.status
    # Nothing is found any more, but a late write may still come: not erased yet.
    assert [(0, 1)] * 2 == [(done.graves_closed, done.graves_waiting) for done in passes]
    assert ("erasing", document["cid"]) == (manifest["state"], manifest["cid"])
    assert [] == keys


async def test_an_erased_object_ends_as_erased(
    gateway: RunningGateway, session: OpenSession
) -> None:
    token = session.user_token
    document = await uploaded(gateway, session.path("t1"), token, made_bytes(3 * LEAF))
    kept = await uploaded(gateway, session.path("t2"), token, b"kept")
    await fetch(gateway, document["urn"], token, method="DELETE")

    async def is_erased() -> bool:
        shown = await fetch(gateway, document["urn"], token, part="/manifest")
        return bool(shown.json()["state"] == "erased")

    await eventually(is_erased, what="the state erased")
    last = await fetch(gateway, document["urn"], token, method="DELETE")
    read = await fetch(gateway, document["urn"], token)
    rows = await gateway.catalog.read(
        lambda c: [c.execute(select(t)).all() for t in (graves, segments, placements)]
    )

    assert (200, "erased") == (last.status, last.json()["state"])
    read.problem(410, "erased")
    assert [0, 1, 1] == [len(found) for found in rows]
    assert b"kept" == (await fetch(gateway, kept["urn"], token, headers=[PLAINTEXT])).body


async def test_the_head_is_gone_from_the_catalogs_files(
    gateway: RunningGateway, session: OpenSession
) -> None:
    token = session.user_token
    urns = [
        (await uploaded(gateway, session.path(f"t{i}"), token, b"content"))["urn"]
        for i in range(30)
    ]
    sealed = (await fetch(gateway, urns[17], token)).body
    needles = _needles(sealed[: head_size(sealed)])
    before = _found(gateway.data_dir, needles)
    await fetch(gateway, urns[17], token, method="DELETE")

    async def is_erased() -> bool:
        shown = await fetch(gateway, urns[17], token, part="/manifest")
        return bool(shown.json()["state"] == "erased")

    await eventually(is_erased, what="the state erased")

    assert len(needles) > 5
    assert needles == before
    assert set() == _found(gateway.data_dir, needles)
    other = (await fetch(gateway, urns[16], token)).body
    assert set() != _found(gateway.data_dir, _needles(other[: head_size(other)]))


async def test_an_erased_object_is_not_there_after_a_restart(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, late_write_horizon_s=1000) as first:
        session = await open_session(first, "101")
        token = session.user_token
        urn = (await uploaded(first, session.path("t1"), token, b"content"))["urn"]
        await fetch(first, urn, token, method="DELETE")
    async with running_gateway(tmp_path) as second:

        async def is_erased() -> bool:
            shown = await fetch(second, urn, token, part="/manifest")
            return bool(shown.json()["state"] == "erased")

        (await fetch(second, urn, token)).problem(410, "erased")
        await eventually(is_erased, what="the state erased")


async def test_erasing_under_a_download_never_ends_it_cleanly_short(
    gateway: RunningGateway, session: OpenSession
) -> None:
    token, size = session.user_token, 40 * LEAF
    urn = (await uploaded(gateway, session.path("t1"), token, made_bytes(size)))["urn"]
    async with connected(gateway.address) as connection:
        await connection.send(request("GET", f"/v1/objects/{urn}", token, headers=[PLAINTEXT]))
        await connection.reader.readuntil(b"\r\n\r\n")
        erased = await fetch(gateway, urn, token, method="DELETE")
        received = b""
        try:
            while piece := await connection.reader.read(1 << 20):
                received += piece
        except ConnectionResetError:
            pass

    assert 202 == erased.status
    # What socket buffers held is delivered; the rest is not there any more.
    assert len(received) < size
    assert received == made_bytes(size)[: len(received)]


async def test_what_a_late_write_brings_back_is_deleted(tmp_path: Path) -> None:
    """A blob that appears under a dead payload id, as a slow store may make it, does not stay."""
    settings = {"late_write_horizon_s": 1000, "recovery_interval_s": 1000}
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101")
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, b"content")
        key = (await payload_keys(gateway.catalog, gateway.store))[0]
        await fetch(gateway, document["urn"], token, method="DELETE")
        await gateway.store.put(key, b"late")
        done = await gateway.gateway.recovery.run_once()
        keys = await payload_keys(gateway.catalog, gateway.store)
        shown = await fetch(gateway, document["urn"], token, part="/manifest")

    assert (1, []) == (done.blobs_deleted, keys)
    assert "erasing" == shown.json()["state"]


async def test_nothing_at_all_is_left_of_an_upload_that_failed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, object_bytes_max=2 * LEAF) as gateway:
        session = await open_session(gateway, "101")
        data = request(
            "POST",
            session.path("t1"),
            session.user_token,
            headers=[("Transfer-Encoding", "chunked")],
        )
        async with connected(gateway.address) as connection:
            size = 3 * LEAF
            await connection.send(data + b"%x\r\n" % size + made_bytes(size))
            (await connection.answer()).problem(413, "body_too_large")
        assert await store_is_empty(gateway.catalog, gateway.store)

        async def is_forgotten() -> bool:
            rows = await gateway.catalog.read(
                lambda c: [c.execute(select(t)).all() for t in (graves, segments, placements)]
            )
            return [[], [], []] == rows

        await eventually(is_forgotten, what="the end of the grave")


def _needles(head: bytes) -> set[bytes]:
    """Return pieces of a head that no other head has: stanza bodies, MAC, nonce."""
    own = [line for line in head[:-16].split(b"\n") if len(line) >= NEEDLE_SIZE]
    named = (b"age-encryption", b"-> storage-gateway/context")
    return {line[-NEEDLE_SIZE:] for line in own if not line.startswith(named)} | {head[-16:]}


def _found(data_dir: Path, needles: set[bytes]) -> set[bytes]:
    stored = databases.stored_bytes(data_dir)
    assert stored
    return {needle for needle in needles if any(needle in text for text in stored)}
