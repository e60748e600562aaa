"""One slot holds one object: busy while an upload is under way, taken after it; nothing crosses.

Uploads are held open on raw sockets, so that which of two comes first is decided, not hoped for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.gateway import (
    MINER,
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    payload_keys,
)
from tests.http.raw import EXPECT, SEALED, Connection, connected, request
from tests.http.steps import (
    LEAF,
    PLAINTEXT,
    fetch,
    made_bytes,
    sealed_by_stock_tool,
    upload,
    uploaded,
)

pytestmark = pytest.mark.both_databases

BODY = made_bytes(2 * LEAF)
HELD_BACK = 10


@asynccontextmanager
async def _held_open(
    gateway: RunningGateway, path: str, token: str, body: bytes = BODY
) -> AsyncIterator[Connection]:
    """Begin an upload that holds its slot, and keep its last bytes back."""
    before = len(await payload_keys(gateway.catalog, gateway.store))

    async def holds_its_slot() -> bool:
        return len(await payload_keys(gateway.catalog, gateway.store)) > before

    async with connected(gateway.address) as connection:
        headers = [EXPECT, ("Content-Length", str(len(body)))]
        await connection.send(request("POST", path, token, headers=headers))
        assert 100 == (await connection.answer()).status
        await connection.send(body[:-HELD_BACK])
        await eventually(holds_its_slot, what="the first leaf in the store")
        yield connection


async def test_a_slot_is_busy_then_taken(gateway: RunningGateway, session: OpenSession) -> None:
    path, token = session.path("t1"), session.user_token
    async with _held_open(gateway, path, token) as connection:
        busy = await upload(gateway, path, token, b"second")
        await connection.send(BODY[-HELD_BACK:])
        first = await connection.answer()
    taken = await upload(gateway, path, token, b"third")

    busy.problem(409, "slot_busy")
    assert int(busy.header("Retry-After") or 0) > 0
    assert 201 == first.status
    assert first.json()["urn"] == taken.problem(409, "slot_taken")["urn"]
    assert "object_id" not in taken.json()
    served = await fetch(gateway, first.json()["urn"], token, headers=[PLAINTEXT])
    assert BODY == served.body
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_a_slot_taken_in_mid_body_is_told_with_the_urn(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """Two begin before either holds the slot; the slower one learns it from the unique row."""
    path, token = session.path("t1"), session.user_token
    async with connected(gateway.address) as slower:
        headers = [EXPECT, ("Content-Length", "6")]
        await slower.send(request("POST", path, token, headers=headers))
        assert 100 == (await slower.answer()).status
        first = await uploaded(gateway, path, token, b"faster")
        await slower.send(b"slower")
        answer = await slower.answer()

    assert first["urn"] == answer.problem(409, "slot_taken")["urn"]
    served = await fetch(gateway, first["urn"], token, headers=[PLAINTEXT])
    assert b"faster" == served.body
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_a_slot_busy_in_mid_body_leaves_the_first_alone(
    gateway: RunningGateway, session: OpenSession
) -> None:
    path, token = session.path("t1"), session.user_token
    async with connected(gateway.address) as slower:
        headers = [EXPECT, ("Content-Length", "6")]
        await slower.send(request("POST", path, token, headers=headers))
        assert 100 == (await slower.answer()).status
        async with _held_open(gateway, path, token) as connection:
            await slower.send(b"slower")
            busy = await slower.answer()
            await connection.send(BODY[-HELD_BACK:])
            first = await connection.answer()

    busy.problem(409, "slot_busy")
    served = await fetch(gateway, first.json()["urn"], token, headers=[PLAINTEXT])
    assert BODY == served.body
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_of_many_at_once_exactly_one_is_taken(
    gateway: RunningGateway, session: OpenSession
) -> None:
    path, token = session.path("t1"), session.user_token
    bodies = [f"body {i}".encode() for i in range(20)]
    answers = await asyncio.gather(*(upload(gateway, path, token, body) for body in bodies))

    taken = [(a, body) for a, body in zip(answers, bodies, strict=True) if a.status == 201]
    assert 1 == len(taken)
    urn = taken[0][0].json()["urn"]
    for answer in answers:
        if answer.status != 201:
            assert answer.json()["code"] in {"slot_busy", "slot_taken"}
            if answer.json()["code"] == "slot_taken":
                assert urn == answer.problem(409, "slot_taken")["urn"]
    served = await fetch(gateway, urn, token, headers=[PLAINTEXT])
    assert taken[0][1] == served.body
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_a_slot_is_free_again_when_its_upload_fails(
    gateway: RunningGateway, session: OpenSession
) -> None:
    path, token = session.path("t1"), session.user_token

    async def is_free() -> bool:
        return 201 == (await upload(gateway, path, token, b"second")).status

    async with _held_open(gateway, path, token):
        (await upload(gateway, path, token, b"too early")).problem(409, "slot_busy")
    await eventually(is_free, what="a free slot")

    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_slots_differ_by_direction_task_miner_and_session(
    gateway: RunningGateway, session: OpenSession
) -> None:
    other = await open_session(gateway, "202")
    documents = [
        await uploaded(gateway, path, token, b"x")
        for path, token in (
            (session.path("t1"), session.user_token),
            (session.path("t2"), session.user_token),
            (session.path("t1", "output"), session.miner_token),
            (session.path("t1", "output"), session.other_miner_token),
            (session.path("T1"), session.user_token),
            (other.path("t1"), other.user_token),
        )
    ]

    assert 6 == len({document["urn"] for document in documents})


async def test_an_erased_objects_slot_stays_taken(
    gateway: RunningGateway, session: OpenSession
) -> None:
    path, token = session.path("t1"), session.user_token
    first = await uploaded(gateway, path, token, b"x")
    await fetch(gateway, first["urn"], token, method="DELETE")
    answer = await upload(gateway, path, token, b"y")

    assert first["urn"] == answer.problem(409, "slot_taken")["urn"]


async def test_an_operator_writes_a_miners_output_into_that_miners_slot(
    gateway: RunningGateway, session: OpenSession
) -> None:
    path = session.path("t1", "output")
    document = await uploaded(gateway, f"{path}?miner={MINER}", gateway.operator_token, b"x")
    answer = await upload(gateway, path, session.miner_token, b"y")

    assert MINER == document["miner"]
    assert document["urn"] == answer.problem(409, "slot_taken")["urn"]
    assert 201 == (await upload(gateway, path, session.other_miner_token, b"z")).status


async def test_uploads_at_once_never_cross(gateway: RunningGateway, session: OpenSession) -> None:
    """Bodies of several leaves, in pieces, at once, plain and sealed: each comes back whole."""
    bodies = {
        f"t{i}": made_bytes(size, seed=i)
        for i, size in enumerate([0, 1, LEAF, LEAF + 1, 2 * LEAF + 7, 9 * LEAF, 100, 3 * LEAF])
    }

    async def one(task_id: str, body: bytes) -> str:
        headers, sent = [], body
        if int(task_id[1:]) % 2:
            headers, sent = [SEALED], sealed_by_stock_tool(body, session.router_recipient)
        async with connected(gateway.address) as connection:
            length = ("Content-Length", str(len(sent)))
            head = request(
                "POST", session.path(task_id), session.user_token, headers=[*headers, length]
            )
            await connection.send(head)
            for at in range(0, len(sent), 300_000):
                await connection.send(sent[at : at + 300_000])
            answer = await connection.answer()
        assert (201, task_id) == (answer.status, answer.json()["task_id"])
        return str(answer.json()["urn"])

    urns = await asyncio.gather(*(one(task_id, body) for task_id, body in bodies.items()))
    served = await asyncio.gather(
        *(fetch(gateway, urn, session.miner_token, headers=[PLAINTEXT]) for urn in urns)
    )

    assert list(bodies.values()) == [answer.body for answer in served]
    assert [] == await leftovers(gateway.catalog, gateway.store)
