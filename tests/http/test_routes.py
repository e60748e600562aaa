"""Every route with every kind of token: the table below says what each answers.

The test walks the application's own route table, so a route without an entry here fails. The
tokens: none, one that is not known, an expired and a revoked one, those of another session's user
and miner, and those of the session's user, of the miner who wrote the output, of another miner of
the session, and the operator's.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from crypto import X25519Identity
from storage_gateway.api.access import Route
from storage_gateway.api.application import BLOCK_ROUTES, ROUTES
from storage_gateway.catalog.sessions import NewToken, insert_token
from storage_gateway.catalog.tables import objects, outcomes
from storage_gateway.records import TokenKind
from storage_gateway.tokens import new_token, token_digest
from tests.gateway import MINER, OpenSession, RunningGateway, open_session, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.http.steps import uploaded

pytestmark = pytest.mark.both_databases

Outcome = int | tuple[int, str]

HOLD = {"who": "the court", "why": "case 7"}
NEW_MINER = "0x00000000000000000000000000000000000000c3"

NO_TOKEN: dict[str, Outcome] = {
    "none": (401, "unauthenticated"),
    "unknown": (401, "unauthenticated"),
    "expired": (401, "token_expired"),
    "revoked": (401, "token_expired"),
}
NOT_ALLOWED = (403, "forbidden")
NOT_KNOWN = (404, "not_found")


def _row(
    *,
    operator: Outcome,
    user: Outcome,
    miner: Outcome,
    other_miner: Outcome,
    foreign_user: Outcome,
    foreign_miner: Outcome,
) -> dict[str, Outcome]:
    return NO_TOKEN | {
        "operator": operator,
        "user": user,
        "miner": miner,
        "other_miner": other_miner,
        "foreign_user": foreign_user,
        "foreign_miner": foreign_miner,
    }


ANYBODY: dict[str, Outcome] = dict.fromkeys(
    [*NO_TOKEN, "operator", "user", "miner", "other_miner", "foreign_user", "foreign_miner"], 200
)
OPERATOR_ALONE = dict.fromkeys(
    ["user", "miner", "other_miner", "foreign_user", "foreign_miner"], NOT_ALLOWED
)
IN_SESSION = _row(
    operator=200,
    user=200,
    miner=200,
    other_miner=200,
    foreign_user=NOT_ALLOWED,
    foreign_miner=NOT_ALLOWED,
)
FOR_ITS_OWN_KEY = NO_TOKEN | _row(
    operator=200,
    user=200,
    miner=NOT_ALLOWED,  # the request names the user's
    other_miner=NOT_ALLOWED,
    foreign_user=NOT_ALLOWED,
    foreign_miner=NOT_ALLOWED,
)
OWN_SESSIONS_JOB = NO_TOKEN | _row(
    operator=200,
    user=200,
    miner=NOT_ALLOWED,
    other_miner=NOT_ALLOWED,
    foreign_user=(404, "unknown_job"),
    foreign_miner=NOT_ALLOWED,
)
READING_INPUT = _row(
    operator=NOT_ALLOWED,
    user=200,
    miner=200,
    other_miner=200,
    foreign_user=NOT_KNOWN,
    foreign_miner=NOT_KNOWN,
)
READING_OUTPUT = READING_INPUT | {"other_miner": NOT_KNOWN}
ERASING = _row(
    operator=202,
    user=202,
    miner=NOT_ALLOWED,
    other_miner=NOT_ALLOWED,
    foreign_user=NOT_KNOWN,
    foreign_miner=NOT_ALLOWED,
)
RETAINING = ERASING | {"operator": 200, "user": 200}
OF_BLIND_CUSTODY: Outcome = (409, "not_blind")
"""Who may ask is told that this session is of another."""
REWRAPPING = NO_TOKEN | OPERATOR_ALONE
REWRAPPING |= {"operator": NOT_ALLOWED, "user": OF_BLIND_CUSTODY, "foreign_user": NOT_KNOWN}
CONFIRMING: dict[str, Outcome] = dict.fromkeys(["user", "miner", "other_miner"], OF_BLIND_CUSTODY)
HOLDING = NO_TOKEN | OPERATOR_ALONE | {"operator": (404, "no_such_hold")}
STRESS = NO_TOKEN | OPERATOR_ALONE | {"operator": (404, "stress_disabled")}

EXPECTED: dict[tuple[str, str], dict[str, dict[str, Outcome]]] = {
    ("GET", "/healthz"): {"": ANYBODY},
    ("GET", "/readyz"): {"": ANYBODY},
    ("HEAD", "/healthz"): {"": ANYBODY},
    ("HEAD", "/readyz"): {"": ANYBODY},
    ("POST", "/v1/sessions"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 201}},
    ("GET", "/v1/sessions/{session}"): {"": IN_SESSION},
    ("POST", "/v1/sessions/{session}/tokens"): {
        "": NO_TOKEN | OPERATOR_ALONE | {"operator": 201},
    },
    ("PUT", "/v1/sessions/{session}/retention"): {
        "": NO_TOKEN | OPERATOR_ALONE | {"operator": 200},
    },
    ("GET", "/v1/sessions/{session}/holds"): {"": HOLDING | {"operator": 200}},
    ("POST", "/v1/sessions/{session}/holds"): {"": HOLDING | {"operator": 201}},
    ("POST", "/v1/sessions/{session}/holds/{hold}/release"): {"": HOLDING},
    ("GET", "/v1/sessions/{session}/objects"): {"": IN_SESSION},
    ("GET", "/v1/sessions/{session}/keys"): {"": IN_SESSION},
    ("POST", "/v1/sessions/{session}/keys"): {"": FOR_ITS_OWN_KEY | {"user": 201, "operator": 201}},
    ("POST", "/v1/sessions/{session}/keys/challenges"): {"": FOR_ITS_OWN_KEY},
    ("POST", "/v1/sessions/{session}/keys/states"): {
        "": FOR_ITS_OWN_KEY
        | {"user": (409, "key_state_skipped"), "operator": (409, "key_state_skipped")},
    },
    ("POST", "/v1/sessions/{session}/miners"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 201}},
    ("DELETE", "/v1/sessions/{session}/miners/{miner}"): {
        # Asked last by the operator: it takes the miner's token away.
        "": NO_TOKEN | OPERATOR_ALONE | {"operator": 200},
    },
    ("POST", "/v1/jobs"): {
        "": OWN_SESSIONS_JOB | {"operator": 202, "user": 202, "foreign_user": NOT_ALLOWED},
    },
    ("GET", "/v1/jobs"): {"": OWN_SESSIONS_JOB | {"foreign_user": 200}},
    ("GET", "/v1/jobs/{job}"): {"": OWN_SESSIONS_JOB},
    ("DELETE", "/v1/jobs/{job}"): {"": OWN_SESSIONS_JOB},
    ("GET", "/v1/jobs/{job}/events"): {"": OWN_SESSIONS_JOB},
    ("GET", "/v1/jobs/{job}/failures"): {"": OWN_SESSIONS_JOB},
    ("GET", "/v1/admin/keys"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 200}},
    ("POST", "/v1/admin/keys"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 201}},
    ("POST", "/v1/admin/keys/states"): {
        "": NO_TOKEN | OPERATOR_ALONE | {"operator": (409, "key_state_skipped")},
    },
    ("POST", "/v1/sessions/{session}/tasks/{task}/input"): {
        "": _row(
            operator=201,
            user=201,
            miner=NOT_ALLOWED,
            other_miner=NOT_ALLOWED,
            foreign_user=NOT_ALLOWED,
            foreign_miner=NOT_ALLOWED,
        ),
    },
    ("POST", "/v1/sessions/{session}/tasks/{task}/output"): {
        "": _row(
            operator=201,
            user=NOT_ALLOWED,
            miner=201,
            other_miner=NOT_ALLOWED,  # the request names the first miner
            foreign_user=NOT_ALLOWED,
            foreign_miner=NOT_ALLOWED,
        ),
    },
    ("POST", "/v1/sessions/{session}/tasks/{task}/input/reservations"): {
        "": NO_TOKEN | OPERATOR_ALONE | {"operator": NOT_ALLOWED, "user": OF_BLIND_CUSTODY},
    },
    ("POST", "/v1/sessions/{session}/tasks/{task}/output/reservations"): {
        "": NO_TOKEN
        | OPERATOR_ALONE
        | {"operator": NOT_ALLOWED, "miner": OF_BLIND_CUSTODY, "other_miner": OF_BLIND_CUSTODY},
    },
    ("GET", "/v1/sessions/{session}/uploads/{upload}"): {
        "input": IN_SESSION,
        "output": IN_SESSION | {"other_miner": NOT_KNOWN},
    },
    ("GET", "/v1/objects/{urn}"): {"input": READING_INPUT, "output": READING_OUTPUT},
    ("HEAD", "/v1/objects/{urn}"): {"input": READING_INPUT, "output": READING_OUTPUT},
    ("DELETE", "/v1/objects/{urn}"): {"input": ERASING, "output": ERASING},
    ("GET", "/v1/objects/{urn}/manifest"): {
        "input": READING_INPUT | {"operator": 200},
        "output": READING_OUTPUT | {"operator": 200},
    },
    ("GET", "/v1/objects/{urn}/retention"): {
        "input": READING_INPUT | {"operator": 200},
        "output": READING_OUTPUT | {"operator": 200},
    },
    ("PUT", "/v1/objects/{urn}/retention"): {"input": RETAINING, "output": RETAINING},
    ("PUT", "/v1/objects/{urn}/lease"): {"input": RETAINING, "output": RETAINING},
    ("DELETE", "/v1/objects/{urn}/lease"): {"input": RETAINING, "output": RETAINING},
    ("GET", "/v1/objects/{urn}/holds"): {
        "input": HOLDING | {"operator": 200},
        "output": HOLDING | {"operator": 200},
    },
    ("POST", "/v1/objects/{urn}/holds"): {
        "input": HOLDING | {"operator": 201},
        "output": HOLDING | {"operator": 201},
    },
    ("POST", "/v1/objects/{urn}/holds/{hold}/release"): {"input": HOLDING, "output": HOLDING},
    ("GET", "/v1/objects/{urn}/header"): {"input": READING_INPUT, "output": READING_OUTPUT},
    ("PATCH", "/v1/objects/{urn}/header"): {"input": REWRAPPING, "output": REWRAPPING},
    ("POST", "/v1/objects/{urn}/header/confirmations"): {
        "input": READING_INPUT | CONFIRMING,
        "output": READING_OUTPUT | CONFIRMING | {"other_miner": NOT_KNOWN},
    },
    ("POST", "/v1/admin/passes/{pass}"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 200}},
    ("GET", "/v1/admin/retention/verdicts"): {"": NO_TOKEN | OPERATOR_ALONE | {"operator": 200}},
    ("GET", "/v1/stress"): {"": STRESS},
    ("POST", "/v1/stress/{case}"): {"": STRESS},
    ("GET", "/v1/stress/runs/{run}"): {"": STRESS},
    ("DELETE", "/v1/stress/runs/{run}"): {"": STRESS},
    ("GET", "/v1/stress/runs/{run}/events"): {"": STRESS},
    ("GET", "/ipfs/{cid}"): {"input": ANYBODY, "output": ANYBODY},
    ("HEAD", "/ipfs/{cid}"): {"input": ANYBODY, "output": ANYBODY},
    ("GET", "/ipfs/{cid}/{path:.*}"): {"input": ANYBODY},
    ("HEAD", "/ipfs/{cid}/{path:.*}"): {"input": ANYBODY},
}
"""For each route, and each kind of object where it is about one: what each token gets."""


ALL_ROUTES = ROUTES + BLOCK_ROUTES


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, serve_ipfs=True) as running:
        yield running


@dataclass(frozen=True)
class _World:
    gateway: RunningGateway
    session: OpenSession
    tokens: dict[str, str | None]


async def _world(gateway: RunningGateway) -> _World:
    session = await open_session(gateway, "101")
    foreign = await open_session(gateway, "202")
    revoked = await _store_token(gateway, lifetime_s=1000.0)
    answer = await exchange(
        gateway.address,
        request(
            "POST",
            "/v1/sessions/101/tokens",
            gateway.operator_token,
            headers=[("Content-Type", "application/json")],
            body=b'{"party": "user"}',
        ),
    )
    expired = await _store_token(gateway, lifetime_s=-1.0)
    tokens = {
        "none": None,
        "unknown": new_token(TokenKind.OPERATOR),
        "expired": expired,
        "revoked": revoked,
        "user": answer.json()["token"],
        "miner": session.miner_token,
        "other_miner": session.other_miner_token,
        "foreign_user": foreign.user_token,
        "foreign_miner": foreign.miner_token,
        "operator": gateway.operator_token,  # last: its new token revokes a miner's
    }
    return _World(gateway, session, tokens)


async def _store_token(gateway: RunningGateway, *, lifetime_s: float) -> str:
    """Store a further token of the session's user."""
    token = new_token(TokenKind.USER)
    stored = NewToken(token_digest(token), TokenKind.USER, None)
    await gateway.catalog.run(
        lambda c: insert_token(c, stored, session_id="101", lifetime_s=lifetime_s)
    )
    return token


async def _call(world: _World, route: Route, kind: str, task_id: str, token: str | None) -> Answer:
    """Make the one good request of a route; whose token it is decides."""
    path = route.path.replace("{session}", "101").replace("{task}", task_id)
    path = path.replace("{miner}", MINER).replace("{hold}", "a" * 32)
    if "{job}" in path:
        jobs = world.gateway.gateway.services.jobs
        job = await jobs.start("rewrap", "101", 0.0)
        async for _ in jobs.watch(job.job_id):  # until it has ended
            pass
        path = path.replace("{job}", job.job_id)
    path = (
        path.replace("{case}", "tiny-objects").replace("{pass}", "scrub").replace("{run}", "a" * 32)
    )
    headers, body = [], None
    path = path.replace("/{path:.*}", "/")
    if any(name in path for name in ("{urn}", "{upload}", "{cid}")):
        operator = world.gateway.operator_token
        slot = f"{world.session.path(task_id, kind)}{'' if kind == 'input' else f'?miner={MINER}'}"
        document = await uploaded(world.gateway, slot, operator, b"content")
        path = path.replace("{urn}", document["urn"])
        path = path.replace("{cid}", document["cid"])
        headers = [("Accept", "application/vnd.ipld.raw")] if "/ipfs/" in path else []
        object_id = document["urn"].rpartition(":")[2]
        path = path.replace("{upload}", object_id)
        await world.gateway.catalog.run(lambda c: _answered_early(c, object_id))
        if route.method == "PUT":
            headers = [("Content-Type", "application/json")]
            wish = {"retention": {"lifetime_s": 60}, "lease": {"for_s": 60}}
            body = json.dumps(wish[path.rpartition("/")[2]]).encode()
        if route.method == "POST" and "/holds" in path:
            headers = [("Content-Type", "application/json")]
            body = json.dumps(HOLD).encode()
    elif route.method == "PUT":
        headers = [("Content-Type", "application/json")]
        body = b'{"policy": "forever"}'
    elif path.endswith("/admin/keys/states"):
        headers = [("Content-Type", "application/json")]
        body = b'{"version": 1, "state": "disabled"}'
    elif path.endswith("/admin/keys") and route.method == "POST":
        headers, body = [("Content-Type", "application/json")], b"{}"
    elif route.method == "POST" and "/admin/" not in path:
        headers = [("Content-Type", "application/json")]
        recipient = str(X25519Identity.generate().recipient())
        key = {"party": "user", "recipient": recipient}
        state = {"party": "user", "version": 1, "state": "destroyed"}
        documents: dict[str, dict[str, Any]] = {
            "sessions": {"session_id": task_id, "parties": {"user": {"recipient": recipient}}},
            "tokens": {"party": "miner", "miner": MINER},
            "keys": key,
            "challenges": key,
            "states": state,
            "miners": {"id": NEW_MINER, "recipient": recipient},
            "jobs": {"kind": "rewrap", "session_id": "101"},
            "holds": HOLD,
            "release": HOLD,
        }
        document = documents.get(path.rpartition("/")[2], {})
        body = json.dumps(document).encode()
        path += f"?miner={MINER}" if path.endswith("/output") else ""
    data = request(route.method, path, token, headers=headers, body=body)
    return await exchange(world.gateway.address, data)


def _answered_early(connection: Connection, object_id: str) -> None:
    """Enter an object as one whose upload was answered with 202."""
    columns = ("object_id", "payload_id", "session_id", "task_id", "direction", "miner")
    row = connection.execute(select(objects).where(objects.c.object_id == object_id)).one()
    values = {name: getattr(row, name) for name in columns}
    connection.execute(insert(outcomes).values(decide_by_ms=row.created_ms, **values))


def test_the_table_is_that_of_the_application() -> None:
    assert set(EXPECTED) == {(route.method, route.path) for route in ALL_ROUTES}
    assert len(EXPECTED) == len(ALL_ROUTES)


@pytest.mark.parametrize("route", ALL_ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_with_every_kind_of_token(gateway: RunningGateway, route: Route) -> None:
    world = await _world(gateway)
    outcomes: dict[str, dict[str, Outcome]] = {}
    expected = EXPECTED[(route.method, route.path)]
    for kind in expected:
        outcomes[kind] = {}
        for caller, token in world.tokens.items():
            answer = await _call(world, route, kind, f"{kind}.{caller}", token)
            outcomes[kind][caller] = answer.status
            if answer.status >= 400 and route.method != "HEAD":
                code = answer.json()["code"]
                outcomes[kind][caller] = (answer.status, code)
                answer.problem(answer.status, code)

    if route.method == "HEAD":
        expected = {
            kind: {who: what if isinstance(what, int) else what[0] for who, what in row.items()}
            for kind, row in expected.items()
        }
    assert expected == outcomes


async def test_another_sessions_existence_is_not_told(gateway: RunningGateway) -> None:
    """A session that is there and one that is not answer alike to a foreign token."""
    world = await _world(gateway)
    answers = [
        await exchange(
            gateway.address,
            request("GET", path, world.tokens["foreign_user"], headers=[("X-Request-ID", "same")]),
        )
        for path in ("/v1/sessions/101", "/v1/sessions/nobody", "/v1/sessions/101/objects")
    ]

    assert [403, 403, 403] == [answer.status for answer in answers]
    assert 1 == len({answer.body for answer in answers})


async def test_an_object_that_is_not_the_callers_and_one_that_is_not_there_are_alike(
    gateway: RunningGateway,
) -> None:
    world = await _world(gateway)
    document = await uploaded(
        gateway, world.session.path("t1", "output"), world.session.miner_token, b"a result"
    )
    absent = "urn:blob:v4:" + "a" * 32
    pin = f"%3F=cid={document['cid']}"
    names = (document["urn"], absent, document["urn"] + pin, absent + pin)
    for caller in ("foreign_user", "foreign_miner", "other_miner"):
        for part in ("", "/manifest"):
            answers = [
                await exchange(
                    gateway.address,
                    request(
                        "GET",
                        f"/v1/objects/{name}{part}",
                        world.tokens[caller],
                        headers=[("X-Request-ID", "same")],
                    ),
                )
                for name in names
            ]
            assert [404] * 4 == [answer.status for answer in answers], caller
            assert 1 == len({answer.body for answer in answers}), caller


async def test_who_may_not_ask_is_not_told_what_is_there(gateway: RunningGateway) -> None:
    """Found or not, taken or free: the refusal is the same, and comes first."""
    session, other = await open_session(gateway), await open_session(gateway)
    taken = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    missing = f"urn:blob:v4:{'a' * 32}"
    asked = [
        ("GET", f"/v1/objects/{taken['urn']}", gateway.operator_token),
        ("GET", f"/v1/objects/{missing}", gateway.operator_token),
        ("GET", "/v1/objects/nonsense", gateway.operator_token),
        ("POST", session.path("t1"), other.user_token),
        ("POST", session.path("t2"), other.user_token),
        ("POST", "/v1/sessions/nobodys/tasks/t1/input", other.user_token),
        ("POST", f"{session.path('t1')}?miner=x", other.user_token),
        ("POST", session.path("t1"), session.miner_token),
        ("POST", session.path("t1", "output"), session.user_token),
    ]

    for method, path, token in asked:
        answer = await exchange(gateway.address, request(method, path, token, body=b""))
        answer.problem(403, "forbidden")
