"""Sealed file or plaintext: Accept with its weights, entity tags, HEAD, and what may be cached.

Expected values follow RFC 9110, sections 12.5.1 (Accept), 13.1.2 (If-None-Match), 9.3.2 (HEAD).
"""

import pytest
import pytest_asyncio

from crypto import open_file
from tests.gateway import OpenSession, RunningGateway, open_session
from tests.http.raw import connected, request
from tests.http.steps import PLAINTEXT_TYPE, fetch, uploaded

CONTENT = b"what was asked"
SEALED_TYPE = "application/age"

CHOICES = {
    None: SEALED_TYPE,
    "": SEALED_TYPE,
    "*/*": SEALED_TYPE,
    "application/*": SEALED_TYPE,
    "application/age": SEALED_TYPE,
    "APPLICATION/AGE": SEALED_TYPE,
    "application/octet-stream": PLAINTEXT_TYPE,
    "Application/Octet-Stream": PLAINTEXT_TYPE,
    "application/age, application/octet-stream": SEALED_TYPE,
    "application/octet-stream, application/age": SEALED_TYPE,
    "application/age;q=0.5, application/octet-stream": PLAINTEXT_TYPE,
    "application/age;q=0.5, application/octet-stream;q=0.4": SEALED_TYPE,
    "application/age;q=0, */*": PLAINTEXT_TYPE,
    "application/age;q=0, application/octet-stream;q=0.001": PLAINTEXT_TYPE,
    "*/*;q=0.1, application/octet-stream;q=0.2": PLAINTEXT_TYPE,
    "application/octet-stream;q=0.1, */*;q=0.2": SEALED_TYPE,
    "application/octet-stream;q=0, application/*": SEALED_TYPE,
    "text/html, application/octet-stream;q=0.9, */*;q=0.8": PLAINTEXT_TYPE,
    "text/html,application/xhtml+xml,*/*;q=0.8": SEALED_TYPE,
    "application/octet-stream ; q=1 , application/age;q=0.9": PLAINTEXT_TYPE,
}
REFUSED = [
    "application/json",
    "text/*",
    "application/age;q=0",
    "*/*;q=0",
    "application/age;q=0, application/octet-stream;q=0",
    "application/octet-stream;q=nonsense",
    "application/octet-stream;q=",
    "application",
    ";q=1",
    "x" * 3000,
    "\xff\xfe",
]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize(("accept", "kind"), CHOICES.items())
async def test_accept_chooses(
    gateway: RunningGateway, session: OpenSession, accept: str | None, kind: str
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    headers = [] if accept is None else [("Accept", accept)]
    answer = await fetch(gateway, document["urn"], session.miner_token, headers=headers)

    assert (200, kind) == (answer.status, answer.header("Content-Type"))
    opened = answer.body if kind == PLAINTEXT_TYPE else open_file(answer.body, [session.miner])
    assert CONTENT == opened


@pytest.mark.parametrize("accept", REFUSED)
async def test_accept_that_matches_nothing_is_a_problem(
    gateway: RunningGateway, session: OpenSession, accept: str
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    headers = [("Accept", accept)]
    answer = await fetch(gateway, document["urn"], session.user_token, headers=headers)

    answer.problem(406, "not_acceptable")


async def test_several_accept_headers_are_one(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    headers = [("Accept", "application/age;q=0.1"), ("Accept", "application/octet-stream")]
    answer = await fetch(gateway, document["urn"], session.user_token, headers=headers)

    assert CONTENT == answer.body


async def test_tags_lengths_and_caching_of_both_forms(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    cid = document["cid"]
    shown = {}
    for kind in (SEALED_TYPE, PLAINTEXT_TYPE):
        answer = await fetch(
            gateway, document["urn"], session.user_token, headers=[("Accept", kind)]
        )
        shown[kind] = (
            answer.header("ETag"),
            answer.header("Content-Length"),
            answer.header("Cache-Control"),
        )
        assert "Accept, Authorization, Held-Recipient" == answer.header("Vary")
        assert "nosniff" == answer.header("X-Content-Type-Options")
        assert "attachment" == answer.header("Content-Disposition")
        assert answer.header("X-Request-ID")

    assert {
        SEALED_TYPE: (f'"{cid}.g1"', str(document["sealed_size"]), "private, no-cache"),
        PLAINTEXT_TYPE: (f'"{cid}.p"', str(len(CONTENT)), "private, no-store"),
    } == shown


@pytest.mark.parametrize("kind", [SEALED_TYPE, PLAINTEXT_TYPE])
async def test_head_is_get_without_the_body(
    gateway: RunningGateway, session: OpenSession, kind: str
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    headers, path = [("Accept", kind)], f"/v1/objects/{document['urn']}"
    got = await fetch(gateway, document["urn"], session.user_token, headers=headers)
    async with connected(gateway.address) as connection:
        # One connection for both: a body after HEAD would be read as the next answer.
        await connection.send(request("HEAD", path, session.user_token, headers=headers))
        head = await connection.answer(to_head=True)
        await connection.send(request("GET", "/healthz"))
        following = await connection.answer()

    named = ("Content-Type", "Content-Length", "ETag", "Vary", "Cache-Control")
    assert 200 == head.status
    assert [got.header(name) for name in named] == [head.header(name) for name in named]
    assert {"status": "ok"} == following.json()


@pytest.mark.parametrize(
    ("name", "accept", "status"),
    [
        ("urn:blob:v4:" + "a" * 32, "*/*", 404),
        ("nonsense", "*/*", 400),
        (None, "text/html", 406),
    ],
)
async def test_a_problem_in_answer_to_head_has_no_body(
    gateway: RunningGateway, session: OpenSession, name: str | None, accept: str, status: int
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    path = f"/v1/objects/{name or document['urn']}"
    headers = [("Accept", accept)]
    async with connected(gateway.address) as connection:
        await connection.send(request("HEAD", path, session.user_token, headers=headers))
        head = await connection.answer(to_head=True)
        await connection.send(request("GET", "/healthz"))
        following = await connection.answer()

    assert (status, "application/problem+json") == (head.status, head.header("Content-Type"))
    assert {"status": "ok"} == following.json()


async def test_if_none_match(gateway: RunningGateway, session: OpenSession) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    cid = document["cid"]
    sealed, plain = f'"{cid}.g1"', f'"{cid}.p"'
    for accept, sent, status in (
        (SEALED_TYPE, sealed, 304),
        (SEALED_TYPE, f"W/{sealed}", 304),
        (SEALED_TYPE, f'"other", {sealed}', 304),
        (SEALED_TYPE, "*", 304),
        (SEALED_TYPE, plain, 200),
        (SEALED_TYPE, f'"{cid}.g2"', 200),
        (SEALED_TYPE, f"{cid}.g1", 200),
        (SEALED_TYPE, "", 200),
        (PLAINTEXT_TYPE, plain, 304),
        (PLAINTEXT_TYPE, sealed, 200),
    ):
        headers = [("Accept", accept), ("If-None-Match", sent)]
        for method in ("GET", "HEAD"):
            answer = await fetch(
                gateway, document["urn"], session.user_token, method=method, headers=headers
            )
            assert status == answer.status, (accept, sent)
            assert (sealed if accept == SEALED_TYPE else plain) == answer.header("ETag")
            if status == 304:
                assert b"" == answer.body


async def test_a_304_is_not_for_outsiders_nor_for_what_is_erased(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1", "output"), session.miner_token, CONTENT)
    headers = [("If-None-Match", "*")]
    outsider = await fetch(gateway, document["urn"], session.other_miner_token, headers=headers)
    await fetch(gateway, document["urn"], session.user_token, method="DELETE")
    erased = await fetch(gateway, document["urn"], session.user_token, headers=headers)

    outsider.problem(404, "not_found")
    erased.problem(410, "erased")


async def test_a_304_leaves_the_connection_in_order(
    gateway: RunningGateway, session: OpenSession
) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    async with connected(gateway.address) as connection:
        path = f"/v1/objects/{document['urn']}"
        await connection.send(
            request("GET", path, session.user_token, headers=[("If-None-Match", "*")])
        )
        first = await connection.answer()
        await connection.send(request("GET", "/healthz"))
        following = await connection.answer()

    assert 304 == first.status
    assert {"status": "ok"} == following.json()


async def test_a_range_is_not_served_as_one(gateway: RunningGateway, session: OpenSession) -> None:
    document = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    headers = [("Range", "bytes=0-3"), ("Accept", PLAINTEXT_TYPE)]
    answer = await fetch(gateway, document["urn"], session.user_token, headers=headers)

    assert (200, CONTENT, "none") == (answer.status, answer.body, answer.header("Accept-Ranges"))
