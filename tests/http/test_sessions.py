"""Opening sessions: malformed JSON, wrong members, keys of another class, ids that are taken.

JSON is written by hand onto a raw socket; what is refused leaves no session behind.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from crypto import X25519Identity
from storage_gateway.catalog import PostgresCatalog
from storage_gateway.catalog.tables import key_versions, parties, sessions, tokens
from tests.gateway import MINER, OpenSession, RunningGateway, open_session, running_gateway
from tests.http.raw import SEALED, Answer, exchange, request
from tests.http.steps import sealed_by_stock_tool, upload

USER = {"recipient": str(X25519Identity.generate().recipient())}
MISSPELT = USER["recipient"][:-1] + ("p" if USER["recipient"].endswith("q") else "q")
HYBRID = "age1pq1" + "q" * 1940
SECRET = X25519Identity.generate().to_text()

MALFORMED = {
    "nothing": b"",
    "half": b'{"parties": {"user": ',
    "a trailing comma": b'{"session_id": "7",}',
    "no JSON": b"session_id=7",
    "no UTF-8": b'{"session_id": "\xff\xfe"}',
    "NaN": b'{"session_id": NaN}',
    "two documents": json.dumps({"parties": {"user": USER}}).encode() + b"{}",
    "a lone surrogate": b'{"session_id": "\\ud800"}',
}


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.both_databases]


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_json_is_refused(gateway: RunningGateway, body: bytes) -> None:
    before = await _stored(gateway)
    (await _post(gateway, body)).problem(400, "invalid_request")

    assert before == await _stored(gateway)


async def test_deep_nesting_is_refused(gateway: RunningGateway) -> None:
    for body in (b"[" * 500_000, b'{"parties":' * 90_000):
        (await _post(gateway, body)).problem(422, "invalid_field")


INVALID: dict[str, tuple[Any, str]] = {
    "a list": ([], "body"),
    "a string": ("x", "body"),
    "null": (None, "body"),
    "no parties": ({}, "body"),
    "no user": ({"parties": {}}, "parties"),
    "a number as id": ({"session_id": 7, "parties": {"user": USER}}, "session_id"),
    "a list as id": ({"session_id": ["7"], "parties": {"user": USER}}, "session_id"),
    "an id of stress runs": (
        {"session_id": "stress.7", "parties": {"user": USER}},
        "session_id",
    ),
    "an empty id": ({"session_id": "", "parties": {"user": USER}}, "session_id"),
    "an unknown member": ({"parties": {"user": USER}, "x": 1}, "body"),
    "an unknown party": ({"parties": {"user": USER, "router": USER}}, "parties"),
    "an unknown member of a party": ({"parties": {"user": USER | {"x": 1}}}, "parties.user"),
    "a recipient of the wrong type": (
        {"parties": {"user": {"recipient": 7}}},
        "parties.user.recipient",
    ),
    "an empty recipient": ({"parties": {"user": {"recipient": ""}}}, "parties.user.recipient"),
    "no recipient": ({"parties": {"user": {"recipient": "hello"}}}, "parties.user.recipient"),
    "a recipient over the length": (
        {"parties": {"user": {"recipient": "age1" + "q" * 3000}}},
        "parties.user.recipient",
    ),
    "an ssh recipient": (
        {"parties": {"user": {"recipient": "ssh-ed25519 AAAA"}}},
        "parties.user.recipient",
    ),
    "a recipient with a wrong checksum": (
        {"parties": {"user": {"recipient": MISSPELT}}},
        "parties.user.recipient",
    ),
    "a hybrid recipient": ({"parties": {"user": {"recipient": HYBRID}}}, "parties.user.recipient"),
    "an identity instead of a recipient": (
        {"parties": {"user": {"recipient": SECRET}}},
        "parties.user.recipient",
    ),
    "miners that are no list": ({"parties": {"user": USER, "miners": {}}}, "parties.miners"),
    "a miner without recipient": (
        {"parties": {"user": USER, "miners": [{"id": MINER}]}},
        "parties.miners[0]",
    ),
    "a miner with a bad address": (
        {"parties": {"user": USER, "miners": [{"id": "0x12"} | USER]}},
        "parties.miners[0].id",
    ),
    "a miner with a wrong EIP-55 checksum": (
        {
            "parties": {
                "user": USER,
                "miners": [{"id": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD".swapcase()} | USER],
            }
        },
        "parties.miners[0].id",
    ),
    "a hybrid miner": (
        {"parties": {"user": USER, "miners": [{"id": MINER, "recipient": HYBRID}]}},
        "parties.miners[0].recipient",
    ),
    "the same miner twice": (
        {"parties": {"user": USER, "miners": [{"id": MINER} | USER] * 2}},
        "parties.miners",
    ),
    "the same miner in two spellings": (
        {
            "parties": {
                "user": USER,
                "miners": [
                    {"id": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"} | USER,
                    {"id": "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"} | USER,
                ],
            }
        },
        "parties.miners",
    ),
    "29 miners": (
        {"parties": {"user": USER, "miners": [{"id": f"0x{i:040x}"} | USER for i in range(29)]}},
        "parties.miners",
    ),
    "another custody": ({"parties": {"user": USER}, "custody": "none"}, "custody"),
    "blind custody without a router": (
        {"parties": {"user": USER}, "custody": "blind"},
        "parties.router",
    ),
    "blind custody with a hybrid router": (
        {"parties": {"user": USER, "router": {"recipient": HYBRID}}, "custody": "blind"},
        "parties.router.recipient",
    ),
    "a custody of the wrong type": ({"parties": {"user": USER}, "custody": 1}, "custody"),
}


@pytest.mark.parametrize(("document", "field"), INVALID.values(), ids=INVALID)
async def test_an_invalid_session_is_refused_with_its_field(
    gateway: RunningGateway, document: object, field: str
) -> None:
    before = await _stored(gateway)
    answer = await _post(gateway, json.dumps(document).encode())

    assert field == answer.problem(422, "invalid_field")["field"]
    assert SECRET.encode() not in answer.body
    assert SECRET[-20:].encode() not in answer.body
    assert before == await _stored(gateway)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/octet-stream", "application/jsonp", "json"]
)
async def test_another_media_type_is_refused(gateway: RunningGateway, kind: str | None) -> None:
    answer = await _post(gateway, json.dumps({"parties": {"user": USER}}).encode(), kind)

    answer.problem(415, "unsupported_media_type")


async def test_json_with_a_charset_is_json(gateway: RunningGateway) -> None:
    body = json.dumps({"parties": {"user": USER}}).encode()
    answer = await _post(gateway, body, "application/json; charset=utf-8")

    assert 201 == answer.status


async def test_json_over_the_limit_is_refused(tmp_path: Path) -> None:
    body = json.dumps({"parties": {"user": USER}}).encode()
    async with running_gateway(tmp_path, json_bytes_max=len(body)) as gateway:
        exact = await _post(gateway, body)
        over = await _post(gateway, body + b" ")

    assert 201 == exact.status
    assert len(body) == over.problem(413, "body_too_large")["limit"]


async def test_a_session_id_that_is_taken_stays_as_it_was(
    gateway: RunningGateway, session: OpenSession
) -> None:
    before = await _stored(gateway)
    document = {"session_id": session.session_id, "parties": {"user": USER}}
    answer = await _post(gateway, json.dumps(document).encode())

    answer.problem(409, "session_exists")
    assert "tokens" not in answer.json()
    assert before == await _stored(gateway)


async def test_a_session_without_id_gets_one(gateway: RunningGateway) -> None:
    body = json.dumps({"parties": {"user": USER}}).encode()
    answers = [await _post(gateway, body) for _ in range(5)]

    ids = [answer.json()["session_id"] for answer in answers]
    assert 5 == len(set(ids))
    assert [f"/v1/sessions/{id_}" for id_ in ids] == [a.header("Location") for a in answers]
    assert all(id_.isalnum() and len(id_) <= 64 for id_ in ids)


async def test_a_session_is_shown_without_tokens(
    gateway: RunningGateway, session: OpenSession
) -> None:
    answer = await exchange(
        gateway.address,
        request("GET", f"/v1/sessions/{session.session_id}", session.other_miner_token),
    )

    document = answer.json()
    assert "tokens" not in document
    assert session.router_recipient == document["parties"]["router"]["recipient"]
    assert str(session.user.recipient()) == document["parties"]["user"]["recipient"]
    assert 2 == len(document["parties"]["miners"])


async def test_tokens_are_shown_once_and_never_cached(gateway: RunningGateway) -> None:
    document = {"parties": {"user": USER, "miners": [{"id": MINER} | USER]}}
    answer = await _post(gateway, json.dumps(document).encode())
    rows = await gateway.catalog.read(lambda c: c.execute(select(tokens)).all())

    assert "no-store" == answer.header("Cache-Control")
    shown = answer.json()["tokens"]
    assert {"user", "miners"} == set(shown)
    stored = repr(rows).encode()
    assert shown["user"].encode() not in stored
    assert shown["miners"][MINER].encode() not in stored


async def test_the_shared_gateway_is_on_the_database_of_the_variant(
    gateway: RunningGateway, database: str
) -> None:
    assert isinstance(gateway.catalog, PostgresCatalog) == (database == "postgresql")


async def test_28_miners_are_taken_and_can_all_be_sealed_to(gateway: RunningGateway) -> None:
    """With the user, the router and two stanzas of ours that is the whole of a header."""
    miners = [{"id": f"0x{i:040x}"} | USER for i in range(28)]
    document = {"session_id": "9", "parties": {"user": USER, "miners": miners}}
    answer = await _post(gateway, json.dumps(document).encode())
    assert answer.status == 201, answer.body
    router = answer.json()["parties"]["router"]["recipient"]
    token = answer.json()["tokens"]["user"]
    path = "/v1/sessions/9/tasks"
    sealed = sealed_by_stock_tool(b"x", router)
    written = await upload(gateway, f"{path}/t1/input?filename=f", token, b"x")
    adopted = await upload(gateway, f"{path}/t2/input", token, sealed, headers=[SEALED])

    assert [201, 201] == [written.status, adopted.status]


async def test_sessions_of_the_same_id_on_two_gateways_do_not_meet(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path / "a") as first,
        running_gateway(tmp_path / "b") as second,
    ):
        ours = await open_session(first, "101")
        await open_session(second, "101")
        answer = await exchange(second.address, request("GET", "/v1/sessions/101", ours.user_token))

    answer.problem(401, "unauthenticated")


async def _post(
    gateway: RunningGateway, body: bytes, kind: str | None = "application/json"
) -> Answer:
    headers = [] if kind is None else [("Content-Type", kind)]
    data = request("POST", "/v1/sessions", gateway.operator_token, headers=headers, body=body)
    return await exchange(gateway.address, data)


async def _stored(gateway: RunningGateway) -> list[object]:
    tables = (sessions, parties, key_versions, tokens)
    return await gateway.catalog.read(
        lambda c: [tuple(row) for table in tables for row in c.execute(select(table))]
    )
