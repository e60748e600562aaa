"""Stored bytes that were damaged behind the gateway's back are never served as if they were whole.

A segment's file is changed, cut or removed on disk. When that is seen before the answer began it is
a problem; later the connection is aborted, and what went out before is right.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, literal, select, update

from storage_gateway.catalog.tables import objects, placements
from storage_gateway.read import LEAVES_IN_RUN
from tests.gateway import (
    OpenSession,
    RunningGateway,
    open_session,
    payload_keys,
    running_gateway,
)
from tests.http.age_files import flipped
from tests.http.raw import Answer, connected, exchange, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, fetch, made_bytes, uploaded

SEALED_LEAF = 983_280

Spoil = Callable[[Path], object]


def _flip(at: int) -> Spoil:
    return lambda file: file.write_bytes(flipped(file.read_bytes(), at))


def _cut(size: int) -> Spoil:
    return lambda file: file.write_bytes(file.read_bytes()[:size])


def _remove(file: Path) -> None:
    file.unlink()


FORMS = pytest.mark.parametrize("headers", [[], [PLAINTEXT]], ids=["sealed", "plaintext"])


async def _store_object(
    gateway: RunningGateway, session: OpenSession, size: int
) -> tuple[str, list[Path]]:
    """Upload an object; return its URN and the files of its segments, in order."""
    document = await uploaded(gateway, session.path("t1"), session.user_token, made_bytes(size))
    keys = await payload_keys(gateway.catalog, gateway.store)
    return document["urn"], [gateway.data_dir / "store" / key for key in sorted(keys)]


@FORMS
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_flip(0), "blob_corrupt"),
        (_flip(-1), "blob_corrupt"),
        (_cut(50), "blob_corrupt"),
        (_cut(0), "blob_corrupt"),
        (_remove, "blob_missing"),
    ],
    ids=["first byte", "last byte", "cut", "emptied", "removed"],
)
@pytest.mark.parametrize("size", [100, SEGMENT + 1])
async def test_damage_at_the_beginning_is_a_problem(
    gateway: RunningGateway,
    session: OpenSession,
    headers: list[tuple[str, str]],
    spoil: Spoil,
    code: str,
    size: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    urn, files = await _store_object(gateway, session, size)
    if size > LEAF and code == "blob_corrupt":
        spoil = _flip(LEAVES_IN_RUN * SEALED_LEAF - 1)
    spoil(files[0])
    answer = await fetch(gateway, urn, session.user_token, headers=headers)

    document = answer.problem(500, code)
    assert (urn, 0, 0) == (document["urn"], document["segment"], document["copies_left"])
    assert "operator" in document["remedy"]
    for hidden in (str(gateway.data_dir), "local", "payloads", files[0].parent.name):
        assert hidden not in answer.body.decode()
    assert answer.header("Retry-After") is None
    told = told_to_the_operator(caplog)
    assert (urn, 0, ["local"], 0, code) == tuple(
        told[name] for name in ("urn", "segment", "stores", "copies_left", "code")
    )
    assert files[0].parent.name in told["detail"]
    assert "backup" in told["remedy"]


def told_to_the_operator(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    # What is read ahead may find it, too.
    told, *_ = [r for r in caplog.records if r.msg == "no store that was asked has a segment right"]
    return told.__dict__


async def test_a_store_that_was_not_asked_counts_as_a_copy_left(tmp_path: Path) -> None:
    """Of those that were asked none counts, whatever the catalog has of them."""
    names = ("one", "two")
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in names]
    async with running_gateway(tmp_path / "several", backends=backends, reserve_bytes=0) as several:
        party = await open_session(several)
        made = await uploaded(several, party.path("t1"), party.user_token, b"content")
        for file in tmp_path.glob("*/*/main/payloads/*/0"):
            file.unlink()
        none_left = await fetch(several, made["urn"], party.user_token)
        elsewhere = insert(placements).from_select(
            ["payload_id", "segment", "backend", "state"],
            select(objects.c.payload_id, literal(0), literal("three"), literal("placed")),
        )
        await several.catalog.run(lambda c: c.execute(elsewhere))
        one_left = await fetch(several, made["urn"], party.user_token)

    assert 0 == none_left.problem(500, "blob_missing")["copies_left"]
    assert 1 == one_left.problem(500, "blob_missing")["copies_left"]


@FORMS
@pytest.mark.parametrize(
    ("segment", "spoil", "good_leaves"),
    [
        (0, _flip(4 * SEALED_LEAF), 4),
        (0, _flip(5 * SEALED_LEAF + 70_000), 5),
        (0, _cut(8 * SEALED_LEAF - 1), 7),
        (0, _cut(4 * SEALED_LEAF + 10), 4),
        (1, _flip(0), 8),
        (1, _flip(-1), 10),
        (1, _cut(2 * SEALED_LEAF), 10),
        (1, _remove, 8),
    ],
    ids=[
        "leaf 4, first byte",
        "leaf 5, in the middle",
        "leaf 7, cut by a byte",
        "leaf 4, cut",
        "leaf 8, first byte",
        "leaf 10, last byte",
        "leaf 10, missing",
        "segment 1, missing",
    ],
)
async def test_damage_further_on_breaks_the_download_off(
    gateway: RunningGateway,
    session: OpenSession,
    headers: list[tuple[str, str]],
    segment: int,
    spoil: Spoil,
    good_leaves: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = made_bytes(SEGMENT + 2 * LEAF + 777)
    urn, files = await _store_object(gateway, session, len(content))
    whole = await fetch(gateway, urn, session.user_token, headers=headers)
    spoil(files[segment])
    answer = await fetch(gateway, urn, session.user_token, headers=headers)

    assert whole.whole
    assert 200 == answer.status
    assert not answer.whole
    # An abort may overtake bytes that were right; what did arrive is right, and never more.
    assert whole.body.startswith(answer.body)
    leaf = LEAF if headers else SEALED_LEAF
    head = 0 if headers else len(whole.body) - _payload_size(len(content))
    assert len(answer.body) <= head + good_leaves * leaf
    told = told_to_the_operator(caplog)
    assert (urn, segment) == (told["urn"], told["segment"])
    (broken_off,) = [r.__dict__ for r in caplog.records if r.msg == "answer broken off"]
    assert (urn, segment) == (broken_off["urn"], broken_off["segment"])


async def test_a_broken_download_ends_its_connection(
    gateway: RunningGateway, session: OpenSession
) -> None:
    urn, files = await _store_object(gateway, session, 6 * LEAF)
    _flip(-1)(files[0])
    async with connected(gateway.address) as connection:
        await connection.send(
            request("GET", f"/v1/objects/{urn}", session.user_token) + request("GET", "/healthz")
        )
        answer = await connection.answer()
        closed = await connection.ended()

    assert not answer.whole
    assert closed


async def test_a_head_that_does_not_open_is_a_problem(
    gateway: RunningGateway, session: OpenSession, caplog: pytest.LogCaptureFixture
) -> None:
    urn, _ = await _store_object(gateway, session, 100)
    other = await uploaded(gateway, session.path("t2"), session.user_token, b"x")
    sealed = (await fetch(gateway, other["urn"], session.user_token)).body
    await gateway.catalog.run(
        lambda c: c.execute(
            update(objects).where(objects.c.task_id == "t1").values(head=sealed[: -(1 + 16)])
        )
    )
    answer = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])

    document = answer.problem(500, "blob_corrupt")
    assert (urn, 0) == (document["urn"], document["copies_left"])
    assert "the catalog is damaged" in document["detail"]
    (told,) = [r.__dict__ for r in caplog.records if "what the catalog has" in r.msg]
    assert (urn, True) == (told["urn"], "catalog" in told["remedy"])


async def test_a_head_that_is_cut_is_a_problem_and_nobody_waits_for_the_rest_of_its_file(
    gateway: RunningGateway, session: OpenSession, caplog: pytest.LogCaptureFixture
) -> None:
    urn, _ = await _store_object(gateway, session, 100)
    head = (await fetch(gateway, urn, session.user_token)).body[: -_payload_size(100)]
    await gateway.catalog.run(lambda c: c.execute(update(objects).values(head=head[:-20])))
    answer = await fetch(gateway, urn, session.user_token)

    assert urn == answer.problem(500, "blob_corrupt")["urn"]
    assert any("what the catalog has" in record.msg for record in caplog.records)


async def test_a_store_that_is_gone_is_unavailable_not_empty(
    gateway: RunningGateway, session: OpenSession
) -> None:
    urn, _ = await _store_object(gateway, session, 100)
    store = gateway.data_dir / "store"
    away = store.rename(gateway.data_dir / "unmounted")
    read = await fetch(gateway, urn, session.user_token)
    ready = await _ready(gateway)
    away.rename(store)
    again = await fetch(gateway, urn, session.user_token)

    read.problem(503, "backend_unavailable")
    assert read.header("Retry-After")
    assert 503 == ready.status
    assert "backend_unavailable" in ready.json()["checks"].values()
    assert 200 == again.status
    assert 200 == (await _ready(gateway)).status


async def _ready(gateway: RunningGateway) -> Answer:
    return await exchange(gateway.address, request("GET", "/readyz"))


def _payload_size(size: int) -> int:
    return size + 16 * -(-size // 65_536)
