"""Bearer tokens: odd, wrong, expired, revoked, doubled; what they open is in `test_routes`.

Tokens are written onto a raw socket as they stand; expiry is stored in the past, not waited for.
"""

import json
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select

from storage_gateway.catalog.sessions import NewToken, insert_token
from storage_gateway.catalog.tables import tokens
from storage_gateway.records import TokenKind
from storage_gateway.tokens import TOKEN_LENGTH_MAX, new_token, token_digest
from tests.gateway import (
    MINER,
    OTHER_MINER,
    OpenSession,
    RunningGateway,
    open_session,
    running_gateway,
)
from tests.http.raw import Answer, exchange, request

ODD_HEADERS = {
    "no header": [],
    "an empty one": [("Authorization", "")],
    "no token": [("Authorization", "Bearer")],
    "no token after a space": [("Authorization", "Bearer ")],
    "another scheme": [("Authorization", "Basic dXNlcjpwYXNz")],
    "no scheme": [("Authorization", "{token}")],
    "another separator": [("Authorization", "Bearer:{token}")],
    "two spaces": [("Authorization", "Bearer  {token}")],
    "more behind it": [("Authorization", "Bearer {token} x")],
    "two in one": [("Authorization", "Bearer {token}, Bearer {token}")],
    "two headers": [("Authorization", "Bearer {token}"), ("Authorization", "Bearer {token}")],
    "in upper case": [("Authorization", "Bearer {TOKEN}")],
    "its first half": [("Authorization", "Bearer {half}")],
    "quotes": [("Authorization", 'Bearer "{token}"')],
    "bytes beyond ASCII": [("Authorization", "Bearer {token}\xff\xfe")],
    "only bytes beyond ASCII": [("Authorization", "Bearer \xc3\x28\xff")],
    "a wildcard of SQL": [("Authorization", "Bearer %")],
    "a quote of SQL": [("Authorization", "Bearer ' OR 1=1 --")],
    "over the length": [("Authorization", "Bearer " + "x" * (TOKEN_LENGTH_MAX + 1))],
    "far over the length": [("Authorization", "Bearer " + "x" * 8000)],
    "another header": [("Proxy-Authorization", "Bearer {token}")],
    "a cookie": [("Cookie", "Authorization=Bearer {token}")],
}


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.both_databases]


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """Nothing here depends on what other tests left: one gateway serves them all."""
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="module")
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway)


@pytest.mark.parametrize("sent", ODD_HEADERS.values(), ids=ODD_HEADERS)
async def test_an_odd_authorization_is_no_authorization(
    gateway: RunningGateway, session: OpenSession, sent: list[tuple[str, str]]
) -> None:
    token = session.user_token
    headers = [
        (name, value.format(token=token, TOKEN=token.upper(), half=token[: len(token) // 2]))
        for name, value in sent
    ]
    answer = await exchange(
        gateway.address, request("GET", f"/v1/sessions/{session.session_id}", headers=headers)
    )

    document = answer.problem(401, "unauthenticated")
    assert "Bearer" == answer.header("WWW-Authenticate")
    assert token not in json.dumps(document)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_told_in_any_case(
    gateway: RunningGateway, session: OpenSession, scheme: str
) -> None:
    headers = [("Authorization", f"{scheme} {session.user_token}")]
    answer = await exchange(
        gateway.address, request("GET", f"/v1/sessions/{session.session_id}", headers=headers)
    )

    assert 200 == answer.status


async def test_an_expired_token_is_told_so(gateway: RunningGateway, session: OpenSession) -> None:
    token = new_token(TokenKind.USER)
    stored = NewToken(token_digest(token), TokenKind.USER, None)
    await gateway.catalog.run(
        lambda c: insert_token(c, stored, session_id=session.session_id, lifetime_s=-0.001)
    )

    answer = await _show(gateway, session, token)

    answer.problem(401, "token_expired")
    assert "Bearer" == answer.header("WWW-Authenticate")


async def test_a_partys_tokens_live_as_long_as_configured(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, token_lifetime_s=1000) as gateway:
        session = await open_session(gateway)
        await _reissue(gateway, session.session_id, {"party": "user"})
        rows = await gateway.catalog.read(lambda c: c.execute(select(tokens)).all())

    lifetimes = {
        (row.kind, None if row.expires_ms is None else row.expires_ms - row.created_ms)
        for row in rows
    }
    assert {("operator", None), ("user", 1_000_000), ("miner", 1_000_000)} == lifetimes


async def test_a_reissued_token_revokes_that_partys_earlier_ones_only(
    gateway: RunningGateway, session: OpenSession
) -> None:
    other = await open_session(gateway)
    first = await _reissue(gateway, session.session_id, {"party": "user"})
    second = await _reissue(gateway, session.session_id, {"party": "user"})

    assert [201, 201] == [first.status, second.status]
    assert {"party": "user", "miner": None} == {
        k: v for k, v in second.json().items() if k != "token"
    }
    assert "no-store" == second.header("Cache-Control")
    for revoked in (session.user_token, first.json()["token"]):
        (await _show(gateway, session, revoked)).problem(401, "token_expired")
    for good in (second.json()["token"], session.miner_token, session.other_miner_token):
        assert 200 == (await _show(gateway, session, good)).status
    assert 200 == (await _show(gateway, other, other.user_token)).status


async def test_a_miners_reissued_token_is_that_miners(
    gateway: RunningGateway, session: OpenSession
) -> None:
    answer = await _reissue(
        gateway, session.session_id, {"party": "miner", "miner": MINER.upper().replace("0X", "0x")}
    )
    token = answer.json()["token"]
    path = session.path("t1", "output")
    written = await exchange(gateway.address, request("POST", path, token, body=b"x"))
    foreign = await exchange(
        gateway.address, request("POST", f"{path}?miner={OTHER_MINER}", token, body=b"x")
    )

    assert (201, MINER) == (answer.status, answer.json()["miner"])
    assert (201, MINER) == (written.status, written.json()["miner"])
    foreign.problem(403, "forbidden")
    (await _show(gateway, session, session.miner_token)).problem(401, "token_expired")
    assert 200 == (await _show(gateway, session, session.other_miner_token)).status


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ({"party": "operator"}, 422, "invalid_field"),
        ({"party": "router"}, 422, "invalid_field"),
        ({"party": ""}, 422, "invalid_field"),
        ({"party": "user", "miner": MINER}, 422, "invalid_field"),
        ({"party": "miner"}, 422, "invalid_field"),
        ({"party": "miner", "miner": "0x12"}, 422, "invalid_field"),
        ({"party": "miner", "miner": "0x" + "77" * 20}, 404, "unknown_session"),
    ],
)
async def test_a_token_for_nobody_is_refused(
    gateway: RunningGateway,
    session: OpenSession,
    document: dict[str, str],
    status: int,
    code: str,
) -> None:
    (await _reissue(gateway, session.session_id, document)).problem(status, code)

    for token in (session.user_token, session.miner_token):
        assert 200 == (await _show(gateway, session, token)).status


async def test_a_token_for_a_session_that_is_not_there(gateway: RunningGateway) -> None:
    answer = await _reissue(gateway, "nobody", {"party": "user"})

    answer.problem(404, "unknown_session")


async def _show(gateway: RunningGateway, session: OpenSession, token: str) -> Answer:
    path = f"/v1/sessions/{session.session_id}"
    return await exchange(gateway.address, request("GET", path, token))


async def _reissue(gateway: RunningGateway, session_id: str, document: dict[str, str]) -> Answer:
    headers = [("Content-Type", "application/json")]
    return await exchange(
        gateway.address,
        request(
            "POST",
            f"/v1/sessions/{session_id}/tokens",
            gateway.operator_token,
            headers=headers,
            body=json.dumps(document).encode(),
        ),
    )
