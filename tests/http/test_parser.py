"""What the HTTP parser refuses is told as a problem, and nothing of it is repeated.

Hand-written bytes go to a real socket; a token is planted in each request, and neither the answer
nor any log record may show it.
"""

import logging

import pytest
import pytest_asyncio

from storage_gateway.logs import JSONFormatter
from tests.gateway import OpenSession, RunningGateway, leftovers, open_session
from tests.http.raw import CHUNKED, EXPECT, chunk, connected, exchange, request

PLANTED = b"sg_user_plantedsecret"

MALFORMED = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01" + PLANTED + b"\r\n\r\n",
    "a request line of one word": PLANTED + b"\r\n\r\n",
    "an unknown method": b"BREW /%b HTTP/1.1\r\nHost: x\r\n\r\n" % PLANTED,
    "a method with odd bytes": b"G<ET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % PLANTED,
    "HTTP/0.9": b"GET /%b\r\n\r\n" % PLANTED,
    "HTTP/2.0": b"GET /%b HTTP/2.0\r\nHost: x\r\n\r\n" % PLANTED,
    "a version that is none": b"GET /%b HTTP/x.y\r\nHost: x\r\n\r\n" % PLANTED,
    "raw bytes in the path": b"GET /\xff\xfe%b HTTP/1.1\r\nHost: x\r\n\r\n" % PLANTED,
    "a broken authority": b"GET http://[::x%b/ HTTP/1.1\r\nHost: x\r\n\r\n" % PLANTED,
    "no Host": b"GET /healthz HTTP/1.1\r\nAuthorization: Bearer %b\r\n\r\n" % PLANTED,
    "a header name with a space": b"GET / HTTP/1.1\r\nHost: x\r\nX %b: y\r\n\r\n" % PLANTED,
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % PLANTED,
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: %b\0\r\n\r\n" % PLANTED,
    "a bare CR in a header": b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r x\r\n\r\n"
    % PLANTED,
    "a header line over the limit": b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\n\r\n"
    % (PLANTED * 500),
    "a path over the limit": b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (PLANTED * 500),
    "too many headers": b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n"
    % b"".join(b"X-%d: %b\r\n" % (i, PLANTED) for i in range(200)),
    "a negative Content-Length": b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"
    % PLANTED,
    "a Content-Length of words": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n"
    % PLANTED,
    "a Content-Length without end": b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n"
    % (PLANTED, b"9" * 40),
    "two lengths in one": b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n" % PLANTED,
    "Content-Length twice": b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Content-Length: 6\r\n\r\n" % PLANTED,
    "Content-Length and chunked": b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % PLANTED,
    "a transfer coding not chunked": b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip"
    b"\r\n\r\n" % PLANTED,
    "a chunk size of words": b"POST /healthz HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%b\r\n" % PLANTED,
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_request_is_a_problem_and_shows_nothing(
    gateway: RunningGateway, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "storage_gateway")
    caplog.set_level(logging.DEBUG, "aiohttp")

    async with connected(gateway.address) as connection:
        await connection.send(data)
        answer = await connection.answer()
        closed = await connection.ended()

    answer.problem(400, "malformed_http")
    assert closed
    assert PLANTED not in answer.body
    assert not any(PLANTED.decode() in value for _, value in answer.headers)
    lines = [JSONFormatter().format(r) for r in caplog.records if not r.name.startswith("asyncio")]
    assert any(answer.json()["request_id"] in line for line in lines)
    # The path of a request that could be read is logged; nothing else of it ever is.
    in_path = b"/" + PLANTED in data and answer.json()["detail"].startswith("only HTTP")
    assert in_path or not any(PLANTED.decode() in line for line in lines)


async def test_a_chunk_size_that_breaks_in_mid_upload_shows_nothing(
    gateway: RunningGateway, session: OpenSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connected(gateway.address) as connection:
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=[CHUNKED, EXPECT])
        )
        assert 100 == (await connection.answer()).status
        await connection.send(chunk(b"some bytes") + PLANTED + b"\r\n")
        answer = await connection.answer()
        closed = await connection.ended()

    answer.problem(400, "body_incomplete")
    assert closed
    lines = [JSONFormatter().format(record) for record in caplog.records]
    assert not any(PLANTED.decode() in line for line in [*lines, answer.body.decode()])
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def test_garbage_after_a_good_request_is_answered_after_it(gateway: RunningGateway) -> None:
    async with connected(gateway.address) as connection:
        await connection.send(request("GET", "/healthz"))
        first = await connection.answer()
        await connection.send(b"NONSENSE\r\n\r\n")
        second = await connection.answer()
        closed = await connection.ended()

    assert (200, {"status": "ok"}) == (first.status, first.json())
    second.problem(400, "malformed_http")
    assert closed


async def test_pipelined_requests_are_answered_in_order(gateway: RunningGateway) -> None:
    async with connected(gateway.address) as connection:
        await connection.send(
            request("GET", "/healthz", headers=[("X-Request-ID", "one")])
            + request("GET", "/nowhere", headers=[("X-Request-ID", "two")])
            + request("GET", "/healthz", headers=[("X-Request-ID", "three")])
        )
        answers = [await connection.answer() for _ in range(3)]

    assert [(200, "one"), (404, "two"), (200, "three")] == [
        (answer.status, answer.header("X-Request-ID")) for answer in answers
    ]


async def test_a_request_id_is_repeated_only_when_harmless(gateway: RunningGateway) -> None:
    for sent, repeated in (
        ("a-1.B_2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("<script>", False),
        ("a b", False),
        ("", False),
    ):
        answer = await exchange(
            gateway.address, request("GET", "/nowhere", headers=[("X-Request-ID", sent)])
        )
        document = answer.problem(404, "not_found")
        assert repeated == (sent == document["request_id"])


async def test_http_1_0_is_served_and_its_connection_closed(gateway: RunningGateway) -> None:
    async with connected(gateway.address) as connection:
        await connection.send(b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")
        answer = await connection.answer()
        closed = await connection.ended()

    assert {"status": "ok"} == answer.json()
    assert closed


async def test_an_upgrade_is_declined_and_its_body_is_taken_as_a_body(
    gateway: RunningGateway, session: OpenSession
) -> None:
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
    answer = await exchange(
        gateway.address,
        request("POST", session.path("t1"), session.user_token, headers=upgrade, body=b"abc"),
    )

    assert 201 == answer.status
    assert 3 == answer.json()["size"]
