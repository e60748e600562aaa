"""Sealed uploads that are not acceptable: the right problem, and nothing is left behind.

The files are written by hand (`age_files`) or by another implementation (pyrage); each is sent over
a raw socket, and afterwards the same slot takes an upload.
"""

from collections.abc import Callable

import pytest
import pytest_asyncio

from crypto import NoIdentityMatch, X25519Identity, open_file
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    payload_keys,
)
from tests.http.age_files import (
    age_file,
    armored,
    flipped,
    head_size,
    stanza,
    x25519_stanza,
)
from tests.http.raw import EXPECT, SEALED, connected, exchange, request
from tests.http.steps import (
    LEAF,
    assert_nothing_left,
    fetch,
    made_bytes,
    sealed_by_stock_tool,
    upload_sealed,
)

SMALL = b"a small prompt"
OUTSIDER = str(X25519Identity.generate().recipient())
CONTEXT_TYPE = "storage-gateway/context-v1"
HYBRID = stanza("mlkem768x25519", "x" * 32, body=bytes(range(32)))

Spoil = Callable[[str], bytes]

REFUSED: dict[str, tuple[str, Spoil]] = {
    "empty": ("malformed_envelope", lambda _r: b""),
    "no age file": ("malformed_envelope", lambda _r: b"just a text, longer than the magic line\n"),
    "another version": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r]).replace(b"org/v1", b"org/v2", 1),
    ),
    "armored": ("malformed_envelope", lambda r: armored(age_file(SMALL, [r]))),
    "cut within the magic line": ("malformed_envelope", lambda r: age_file(SMALL, [r])[:10]),
    "cut within a stanza": ("malformed_envelope", lambda r: age_file(SMALL, [r])[:60]),
    "cut within the MAC": ("malformed_envelope", lambda r: _cut_head(age_file(SMALL, [r]), 20)),
    "cut within the nonce": ("malformed_envelope", lambda r: _cut_head(age_file(SMALL, [r]), 8)),
    "a stanza without words": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[b"-> \n\n"]),
    ),
    "a stanza with odd bytes": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[b"-> grease \xff\xfe\n\n"]),
    ),
    "base64 with padding": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[b"-> grease\nAA==\n"]),
    ),
    "CRLF line ends": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r]).replace(b"\n", b"\r\n", 3),
    ),
    "no stanza at all": ("malformed_envelope", lambda _r: age_file(SMALL, [])),
    "an X25519 stanza of the wrong size": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[stanza("X25519", "AAAA", body=bytes(32))]),
    ),
    "a header changed after it was made": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[stanza("grease", "a")]).replace(
            b"grease a", b"greas e"
        ),
    ),
    "a passphrase stanza beside others": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [r], extra=[stanza("scrypt", "AAAA", "10", body=bytes(32))]),
    ),
    "33 stanzas": (
        "too_many_stanzas",
        lambda r: age_file(SMALL, [r], extra=[stanza("grease", str(i)) for i in range(32)]),
    ),
    "33 recipients": ("too_many_stanzas", lambda r: age_file(SMALL, [r, *[OUTSIDER] * 32])),
    "a header over 64 KiB": (
        "header_too_large",
        lambda r: age_file(SMALL, [r], extra=[stanza("grease", "a", body=bytes(60_000))]),
    ),
    "a header line over 64 KiB": (
        "header_too_large",
        lambda r: age_file(SMALL, [r], extra=[b"-> grease " + b"a" * 70_000 + b"\n\n"]),
    ),
    "a hybrid stanza beside ours": (
        "class_mismatch",
        lambda r: age_file(SMALL, [r], extra=[HYBRID]),
    ),
    "hybrid stanzas only": ("class_mismatch", lambda _r: age_file(SMALL, [], extra=[HYBRID])),
    "sealed to somebody else": ("not_for_router", lambda _r: age_file(SMALL, [OUTSIDER])),
    "sealed to a passphrase": (
        "not_for_router",
        lambda _r: age_file(SMALL, [], extra=[stanza("scrypt", "AAAA", "10", body=bytes(32))]),
    ),
    "a stanza for the router that holds another key": (
        "malformed_envelope",
        lambda r: age_file(SMALL, [], extra=[x25519_stanza(bytes(16), r)]),
    ),
    "a context of another object": (
        "foreign_context",
        lambda r: age_file(SMALL, [r], extra=[stanza(CONTEXT_TYPE, body=bytes(32))]),
    ),
    "no payload": ("payload_invalid", lambda r: _head_of(age_file(SMALL, [r]))),
    "a payload shorter than a tag": (
        "payload_invalid",
        lambda r: _head_of(age_file(SMALL, [r])) + bytes(15),
    ),
    "an altered payload": ("payload_invalid", lambda r: flipped(age_file(SMALL, [r]), -20)),
    "an altered tag": ("payload_invalid", lambda r: flipped(age_file(SMALL, [r]), -1)),
    "a payload short of one byte": ("payload_invalid", lambda r: age_file(SMALL, [r])[:-1]),
    "a payload one byte longer": ("payload_invalid", lambda r: age_file(SMALL, [r]) + b"x"),
    "a payload that lost its last chunk": (
        "payload_invalid",
        lambda r: age_file(bytes(65_537), [r])[:-17],
    ),
    "a payload with a second last chunk": (
        "payload_invalid",
        lambda r: age_file(SMALL, [r]) + age_file(SMALL, [r])[-30:],
    ),
    "another file's payload": (
        "payload_invalid",
        lambda r: _head_of(age_file(SMALL, [r])) + _payload_of(age_file(SMALL, [r])),
    ),
    "an empty last chunk after a full one": (
        "payload_invalid",
        lambda r: age_file(bytes(65_536), [r]) + bytes(16),
    ),
    "an altered byte in the second leaf": (
        "payload_invalid",
        lambda r: flipped(age_file(made_bytes(3 * LEAF), [r]), -LEAF - 1000),
    ),
    "large and short of one byte": (
        "payload_invalid",
        lambda r: age_file(made_bytes(3 * LEAF), [r])[:-1],
    ),
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize(("code", "make"), REFUSED.values(), ids=REFUSED)
async def test_a_sealed_upload_that_is_not_acceptable(
    gateway: RunningGateway, session: OpenSession, code: str, make: Spoil
) -> None:
    answer = await upload_sealed(gateway, session, "t1", make(session.router_recipient))

    answer.problem(422, code)
    await assert_nothing_left(gateway, session, "t1")


async def test_the_largest_acceptable_header_is_taken(
    gateway: RunningGateway, session: OpenSession
) -> None:
    router = session.router_recipient
    stanzas = age_file(SMALL, [router], extra=[stanza("grease", str(i)) for i in range(31)])
    base = len(_head_of(age_file(SMALL, [router], extra=[stanza("grease", "a")]))) - 16
    size = age_file(SMALL, [router], extra=[stanza("grease", "a" * (65_536 - base + 1))])

    for task_id, sealed in (("t1", stanzas), ("t2", size)):
        answer = await upload_sealed(gateway, session, task_id, sealed)
        assert (201, len(SMALL)) == (answer.status, answer.json()["size"])
    assert 65_536 + 16 == head_size(size)


@pytest.mark.parametrize("code", ["too_many_stanzas", "header_too_large", "malformed_envelope"])
async def test_a_bad_header_is_refused_before_the_body_is_there(
    gateway: RunningGateway, session: OpenSession, code: str
) -> None:
    router = session.router_recipient
    heads = {
        "too_many_stanzas": _head_of(age_file(SMALL, [router, *[OUTSIDER] * 32])),
        "header_too_large": b"age-encryption.org/v1\n-> grease " + b"a" * 70_000,
        "malformed_envelope": b"-----BEGIN AGE ENCRYPTED FILE-----\n",
    }
    headers = [SEALED, ("Content-Length", str(1 << 30))]
    begun = request("POST", session.path("t1"), session.user_token, headers=headers)
    answer = await exchange(gateway.address, begun, heads[code])

    answer.problem(422, code)
    assert "close" == answer.header("Connection")
    await assert_nothing_left(gateway, session, "t1")


async def test_damage_after_stored_segments_leaves_nothing(
    gateway: RunningGateway, session: OpenSession
) -> None:
    sealed = flipped(age_file(made_bytes(10 * LEAF), [session.router_recipient]), -5)
    headers = [SEALED, EXPECT, ("Content-Length", str(len(sealed)))]
    before = len(await payload_keys(gateway.catalog, gateway.store))

    async def stores() -> bool:
        return len(await payload_keys(gateway.catalog, gateway.store)) > before

    async with connected(gateway.address) as connection:
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        assert 100 == (await connection.answer()).status
        await connection.send(sealed[:-LEAF])
        await eventually(stores, what="the first segments in the store")
        await connection.send(sealed[-LEAF:])
        answer = await connection.answer()

    answer.problem(422, "payload_invalid")
    await assert_nothing_left(gateway, session, "t1")


async def test_a_file_of_another_object_is_refused(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """A download is not sealed for uploading; one rewrapped for it names another object still."""
    first = await upload_sealed(
        gateway, session, "t1", sealed_by_stock_tool(SMALL, session.router_recipient)
    )
    ours = await fetch(gateway, first.json()["urn"], session.user_token)
    answer = await upload_sealed(gateway, session, "t2", ours.body)

    answer.problem(422, "not_for_router")
    await assert_nothing_left(gateway, session, "t2")


async def test_a_file_sealed_for_another_session_is_refused(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """Whoever found a user's sealed file must not have it opened in a session of their own."""
    other = await open_session(gateway)
    sealed = sealed_by_stock_tool(SMALL, other.router_recipient)
    answer = await upload_sealed(gateway, session, "t1", sealed)

    assert other.router_recipient != session.router_recipient
    answer.problem(422, "not_for_router")
    await assert_nothing_left(gateway, session, "t1")


async def test_a_file_key_seals_once(gateway: RunningGateway, session: OpenSession) -> None:
    """Once and for all: in another slot, under another header, and after erasure too."""
    file_key = bytes(range(16))
    router = session.router_recipient
    sealed = age_file(SMALL, [router], file_key=file_key)
    urn = (await upload_sealed(gateway, session, "t1", sealed)).json()["urn"]

    answers = {"again": await upload_sealed(gateway, session, "t2", sealed)}
    other = age_file(b"other content", [router, OUTSIDER], file_key=file_key)
    answers["other content"] = await upload_sealed(gateway, session, "t2", other)
    erased = await fetch(gateway, urn, session.user_token, method="DELETE")
    answers["after erasure"] = await upload_sealed(gateway, session, "t2", sealed)

    assert 202 == erased.status
    for answer in answers.values():
        answer.problem(409, "file_key_reused")
    await assert_nothing_left(gateway, session, "t2")


async def test_a_stock_file_is_rewrapped_for_the_session_alone(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """Whoever else the uploader sealed to does not stay: the session says who may open."""
    other = X25519Identity.generate()
    sealed = sealed_by_stock_tool(SMALL, session.router_recipient, str(other.recipient()))
    answer = await upload_sealed(gateway, session, "t1", sealed)
    download = await fetch(gateway, answer.json()["urn"], session.user_token)

    assert _payload_of(sealed) == _payload_of(download.body)
    assert SMALL == open_file(download.body, [session.user])
    with pytest.raises(NoIdentityMatch):
        open_file(download.body, [other])


async def test_a_sealed_type_with_parameters_is_sealed(
    gateway: RunningGateway, session: OpenSession
) -> None:
    sealed = sealed_by_stock_tool(SMALL, session.router_recipient)
    headers = [("Content-Type", "Application/AGE; version=1")]
    answer = await exchange(
        gateway.address,
        request("POST", session.path("t1"), session.user_token, headers=headers, body=sealed),
    )

    assert (201, len(SMALL)) == (answer.status, answer.json()["size"])


def _head_of(data: bytes) -> bytes:
    return data[: head_size(data)]


def _payload_of(data: bytes) -> bytes:
    return data[head_size(data) :]


def _cut_head(data: bytes, count: int) -> bytes:
    return _head_of(data)[:-count]
