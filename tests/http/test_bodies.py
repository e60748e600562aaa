"""Bodies that are too large, break off, stall or are coded: refused, and nothing is left behind.

Every case goes over a raw socket; afterwards no blob, intent or slot may be there that no object
accounts for, and the same slot must take an upload at once.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    payload_keys,
    running_gateway,
    store_is_empty,
)
from tests.http.raw import CHUNKED, EXPECT, Connection, chunk, connected, exchange, request
from tests.http.steps import (
    LEAF,
    SEGMENT,
    assert_nothing_left,
    logged_codes,
    made_bytes,
    upload,
)

LIMIT = 2 * LEAF + 1000


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, object_bytes_max=LIMIT) as running:
        yield running


@pytest.fixture
async def small_session(small: RunningGateway) -> OpenSession:
    return await open_session(small, "101")


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """For bodies that stall; whatever else is sent to it comes in one piece."""
    async with running_gateway(tmp_path, body_idle_s=0.3) as running:
        yield running


async def test_a_length_over_the_limit_is_refused_before_any_byte(
    small: RunningGateway, small_session: OpenSession
) -> None:
    headers = [("Content-Length", str(LIMIT + 1))]
    answer = await exchange(
        small.address,
        request("POST", small_session.path("t1"), small_session.user_token, headers=headers),
    )

    assert LIMIT == answer.problem(413, "body_too_large")["limit"]
    assert "close" == answer.header("Connection")
    assert await store_is_empty(small.catalog, small.store)
    await assert_nothing_left(small, small_session, "t1")


async def test_a_chunked_body_is_refused_where_it_crosses_the_limit(
    small: RunningGateway, small_session: OpenSession
) -> None:
    async with connected(small.address) as connection:
        await _begin(connection, small_session, [CHUNKED])
        await connection.send(chunk(made_bytes(LIMIT)))
        await eventually(lambda: payload_keys(small.catalog, small.store), what="the first leaf")
        await connection.send(chunk(b"x"))
        answer = await connection.answer()

    assert LIMIT == answer.problem(413, "body_too_large")["limit"]
    await assert_nothing_left(small, small_session, "t1")


async def test_a_body_of_exactly_the_limit_is_taken(
    small: RunningGateway, small_session: OpenSession
) -> None:
    body = made_bytes(LIMIT)
    token = small_session.user_token
    counted = await upload(small, small_session.path("t1"), token, body)
    async with connected(small.address) as connection:
        await connection.send(
            request("POST", small_session.path("t2"), token, headers=[CHUNKED])
            + chunk(body)
            + chunk(b"")
        )
        chunked = await connection.answer()

    assert [201, 201] == [counted.status, chunked.status]
    assert [LIMIT, LIMIT] == [counted.json()["size"], chunked.json()["size"]]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("sent", "segments"),
    [(1000, 0), (LEAF + 1, 1), (SEGMENT + LEAF + 5, 2), (3 * SEGMENT, 3)],
    ids=["in the first leaf", "after a leaf", "after a segment", "after three segments"],
)
async def test_a_body_cut_short_leaves_nothing(
    gateway: RunningGateway,
    session: OpenSession,
    caplog: pytest.LogCaptureFixture,
    framing: str,
    sent: int,
    segments: int,
) -> None:
    caplog.set_level("INFO")

    async def enough_is_stored() -> bool:
        return len(await payload_keys(gateway.catalog, gateway.store)) >= segments

    async def was_told() -> list[str]:
        return logged_codes(caplog.records)

    async def is_empty() -> bool:
        return await store_is_empty(gateway.catalog, gateway.store)

    body = made_bytes(sent)
    async with connected(gateway.address) as connection:
        if framing == "length":
            await _begin(connection, session, [("Content-Length", str(sent + 1))])
            await connection.send(body)
        else:
            await _begin(connection, session, [CHUNKED])
            await connection.send(chunk(body))
        await eventually(enough_is_stored, what="the segments that were sent")
    # The peer is gone: there is nobody to answer, but the outcome is known and logged.
    assert ["body_incomplete"] == await eventually(was_told, what="the end of the request")
    await eventually(is_empty, what="an empty store")
    await assert_nothing_left(gateway, session, "t1")


async def test_a_connection_reset_in_mid_body_leaves_nothing(
    gateway: RunningGateway, session: OpenSession
) -> None:
    async def is_empty() -> bool:
        return await store_is_empty(gateway.catalog, gateway.store)

    async with connected(gateway.address) as connection:
        await _begin(connection, session, [("Content-Length", str(3 * LEAF))])
        await connection.send(made_bytes(2 * LEAF))
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        connection.abort()

    await eventually(is_empty, what="an empty store")
    await assert_nothing_left(gateway, session, "t1")


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\n", b"5\r\nabcdeXX", b"-1\r\n", b"0x5\r\nabcde\r\n", b"f" * 17 + b"\r\n"],
    ids=["no size", "no line end", "negative", "prefixed", "too many digits"],
)
@pytest.mark.parametrize("sent", [10, 2 * LEAF], ids=["in the first leaf", "after a leaf"])
async def test_broken_chunk_framing_is_told(
    gateway: RunningGateway, session: OpenSession, sent: int, broken: bytes
) -> None:
    async with connected(gateway.address) as connection:
        await _begin(connection, session, [CHUNKED])
        await connection.send(chunk(made_bytes(sent)) + broken)
        answer = await connection.answer()
        closed = await connection.ended()

    answer.problem(400, "body_incomplete")
    assert closed
    await assert_nothing_left(gateway, session, "t1")


@pytest.mark.parametrize("sent", [0, 10, 2 * LEAF])
async def test_a_body_that_stalls_is_timed_out(impatient: RunningGateway, sent: int) -> None:
    session = await open_session(impatient, "101")
    async with connected(impatient.address) as connection:
        await _begin(connection, session, [("Content-Length", str(LIMIT))])
        await connection.send(made_bytes(sent))
        answer = await connection.answer()

    answer.problem(408, "body_timeout")
    assert "close" == answer.header("Connection")
    await assert_nothing_left(impatient, session, "t1")


async def test_a_json_body_that_stalls_is_timed_out(impatient: RunningGateway) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", "100")]
    question = request("POST", "/v1/sessions", impatient.operator_token, headers=headers)
    answer = await exchange(impatient.address, question)

    answer.problem(408, "body_timeout")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip"])
async def test_a_coded_body_is_refused(
    gateway: RunningGateway, session: OpenSession, coding: str
) -> None:
    headers = [("Content-Encoding", coding)]
    answer = await upload(gateway, session.path("t1"), session.user_token, b"x", headers=headers)

    answer.problem(415, "unsupported_encoding")
    await assert_nothing_left(gateway, session, "t1")


async def test_a_transfer_coding_that_is_not_undone_is_refused(
    gateway: RunningGateway, session: OpenSession
) -> None:
    headers = [("Transfer-Encoding", "gzip, chunked")]
    data = request("POST", session.path("t1"), session.user_token, headers=headers)
    answer = await exchange(gateway.address, data + chunk(b"x") + chunk(b""))

    answer.problem(415, "unsupported_encoding")
    await assert_nothing_left(gateway, session, "t1")


async def test_a_second_coding_header_is_seen(
    gateway: RunningGateway, session: OpenSession
) -> None:
    headers = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    answer = await upload(gateway, session.path("t1"), session.user_token, b"x", headers=headers)

    answer.problem(415, "unsupported_encoding")


async def test_the_coding_identity_is_none(gateway: RunningGateway, session: OpenSession) -> None:
    headers = [("Content-Encoding", "identity")]
    answer = await upload(gateway, session.path("t1"), session.user_token, b"x", headers=headers)

    assert (201, 1) == (answer.status, answer.json()["size"])


async def test_an_unknown_expectation_is_a_problem(
    gateway: RunningGateway, session: OpenSession
) -> None:
    headers = [("Expect", "200-ok")]
    for path in (session.path("t1"), "/nowhere", "/healthz"):
        answer = await upload(gateway, path, session.user_token, b"x", headers=headers)
        answer.problem(400, "invalid_request")
    await assert_nothing_left(gateway, session, "t1")


async def test_continue_is_sent_when_all_is_well(
    gateway: RunningGateway, session: OpenSession
) -> None:
    async with connected(gateway.address) as connection:
        await _begin(connection, session, [("Content-Length", "3")])
        await connection.send(b"abc")
        answer = await connection.answer()

    assert (201, 3) == (answer.status, answer.json()["size"])


@pytest.mark.parametrize(
    ("path", "token", "length", "expected"),
    [
        ("/v1/sessions/101/tasks/t1/input", "sg_user_wrong", "3", (401, "unauthenticated")),
        ("/v1/sessions/102/tasks/t1/input", None, "3", (403, "forbidden")),
        ("/v1/sessions/101/tasks/t1/output", None, "3", (403, "forbidden")),
        ("/v1/sessions/101/tasks/a-b/input", None, "3", (422, "invalid_field")),
        ("/v1/sessions/101/tasks/held/input", None, "3", (409, "slot_taken")),
        ("/v1/sessions/101/tasks/t1/input", None, str(1 << 50), (413, "body_too_large")),
        ("/nowhere", None, "3", (404, "not_found")),
        ("/healthz", None, "3", (405, "method_not_allowed")),
    ],
)
async def test_continue_is_not_sent_for_what_is_refused_without_the_body(
    gateway: RunningGateway,
    session: OpenSession,
    path: str,
    token: str | None,
    length: str,
    expected: tuple[int, str],
) -> None:
    await upload(gateway, session.path("held"), session.user_token, b"first")
    async with connected(gateway.address) as connection:
        headers = [EXPECT, ("Content-Length", length)]
        used = session.user_token if token is None else token
        await connection.send(request("POST", path, used, headers=headers))
        answer = await connection.answer()

    answer.problem(*expected)
    # The body was never wanted, so nobody could tell where a next request would begin.
    assert "close" == answer.header("Connection")


async def test_continue_is_not_sent_to_http_1_0(
    gateway: RunningGateway, session: OpenSession
) -> None:
    data = request(
        "POST", session.path("t1"), session.user_token, headers=[EXPECT], body=b"abc"
    ).replace(b"HTTP/1.1", b"HTTP/1.0")
    answer = await exchange(gateway.address, data)

    assert 201 == answer.status


async def test_a_connection_goes_on_after_a_refusal_whose_body_was_read(
    gateway: RunningGateway, session: OpenSession
) -> None:
    async with connected(gateway.address) as connection:
        data = request("POST", "/v1/sessions", session.user_token, body=b"{}")
        await connection.send(data)
        refused = await connection.answer()
        await connection.send(request("GET", "/healthz"))
        next_answer = await connection.answer()

    refused.problem(403, "forbidden")
    assert {"status": "ok"} == next_answer.json()
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def _begin(
    connection: Connection, session: OpenSession, headers: list[tuple[str, str]]
) -> None:
    """Begin an upload into ``t1`` and wait until the gateway is ready for its body."""
    await connection.send(
        request("POST", session.path("t1"), session.user_token, headers=[*headers, EXPECT])
    )
    assert 100 == (await connection.answer()).status


async def test_a_body_that_was_refused_is_never_read_as_a_request(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """What an attacker hides in a body must not run under whoever uses the connection next."""
    hidden = request("GET", f"/v1/sessions/{session.session_id}", session.user_token)
    async with connected(gateway.address) as connection:
        headers = [("Content-Encoding", "gzip"), ("Content-Length", str(3 * len(hidden)))]
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        refused = await connection.answer()
        await connection.send(hidden * 4)
        closed = await connection.ended()

    refused.problem(415, "unsupported_encoding")
    assert closed
