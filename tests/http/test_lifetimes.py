"""Goal: an object lives as long as its session's terms say at its commit, or as its upload asks.

Method: sessions of several policies; uploads of each kind that ask for this or that; policies that
change between the beginning of an upload and its end, and in the configuration over a restart.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from retention import LIFETIME_S_MAX
from storage_gateway.catalog.tables import objects, sessions
from storage_gateway.manifest_copies import FOLDERS, SESSION
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.blind_world import open_blind, sealed_for
from tests.http.claims_world import POLICIES, SETTINGS, Kept, ask, kept, lives_s
from tests.http.raw import EXPECT, SEALED, connected, request
from tests.http.steps import fetch, sealed_by_stock_tool, upload, uploaded
from tests.http.test_late import deployed

pytestmark = pytest.mark.both_databases

LIFETIME = "Object-Lifetime"
FOREVER = {
    "policy": "forever",
    "mode": "governance",
    "default_s": None,
    "longest_s": None,
    "grace_s": 7 * 86400,
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, **SETTINGS) as running:
        yield running


def terms(policy: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of a policy in the configuration."""
    shown = {"mode": "governance", "longest_s": None, "grace_s": 7 * 86400} | policy
    return {"policy": shown.pop("name")} | shown


async def retain(gateway: RunningGateway, session: OpenSession, policy: object) -> Any:  # noqa: ANN401
    path = f"/v1/sessions/{session.session_id}/retention"
    return await ask(gateway, "PUT", path, gateway.operator_token, {"policy": policy})


async def put(gateway: RunningGateway, session: OpenSession, task: str) -> dict[str, Any]:
    return await uploaded(gateway, session.path(task), session.user_token, b"content")


# The terms of a session.


async def test_a_session_has_the_terms_that_it_asks_for_else_the_deployments(
    gateway: RunningGateway,
) -> None:
    shown = []
    for wanted in ({}, {"retention": "stricter"}, {"retention": "forever"}):
        session = await open_session(gateway, **wanted)
        path = f"/v1/sessions/{session.session_id}"
        shown.append((await ask(gateway, "GET", path, session.miner_token)).json()["retention"])

    assert [terms(POLICIES[0]), terms(POLICIES[3]), FOREVER] == shown


@pytest.mark.parametrize("name", ["", "Brief", "nobody", "a" * 2000])
async def test_a_policy_that_there_is_not_is_refused_and_the_known_are_named(
    gateway: RunningGateway, name: str
) -> None:
    session = await open_session(gateway)
    recipient = str(session.user.recipient())
    document = {"parties": {"user": {"recipient": recipient}}, "retention": name}
    opened = await ask(gateway, "POST", "/v1/sessions", gateway.operator_token, document)
    changed = await retain(gateway, session, name)

    for answer, field in ((opened, "retention"), (changed, "policy")):
        problem = answer.problem(422, "invalid_field")
        assert field == problem["field"]
        assert "'forever', 'brief', 'open', 'strict', 'stricter'" in problem["detail"]


async def test_a_session_goes_over_to_another_policy_for_what_comes_later(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway)
    before = await put(gateway, session, "t1")
    answers = [await retain(gateway, session, "open") for _ in range(2)]
    after = await put(gateway, session, "t2")
    away = await retain(gateway, session, "forever")
    last = await put(gateway, session, "t3")
    shown = [await Kept(gateway, session, d["urn"]).shown() for d in (before, after, last)]

    assert [terms(POLICIES[1])] * 2 == [a.json()["retention"] for a in answers]
    assert FOREVER == away.json()["retention"]
    assert ["brief", "open", "forever"] == [each["policy"] for each in shown]
    assert [60, 60, None] == [lives_s(each) for each in shown]


async def test_a_change_of_terms_is_a_new_generation_of_the_session_and_its_copy_comes(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway)
    for policy in ("open", "open", "strict"):
        assert 200 == (await retain(gateway, session, policy)).status
    query = select(sessions.c.generation).where(sessions.c.session_id == session.session_id)

    async def has_come() -> bool:
        keys = [blob.key async for blob in gateway.store.list("")]
        # Its name hides the session's id; there is no other session.
        return any(f"/{FOLDERS[SESSION]}/" in key and key.endswith("/3") for key in keys)

    assert 3 == await gateway.catalog.read(lambda c: c.execute(query).scalar_one())
    await eventually(has_come, what="the copy of the session")


@pytest.mark.parametrize("policy", ["brief", "open", "forever"])
async def test_under_compliance_nobody_goes_over_to_what_promises_less(
    gateway: RunningGateway, policy: str
) -> None:
    session = await open_session(gateway, retention="strict")
    refused = await retain(gateway, session, policy)
    raised = await retain(gateway, session, "stricter")
    back = await retain(gateway, session, "strict")

    for answer in (refused, back):
        problem = answer.problem(422, "lifetime_too_short")
        assert "compliance" in problem["detail"]
    assert "stricter" == raised.json()["retention"]["policy"]


async def test_terms_are_changed_by_a_well_formed_request_of_a_session_that_is_there(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway)
    path = f"/v1/sessions/{session.session_id}/retention"
    unknown = "/v1/sessions/nobody/retention"
    operator = gateway.operator_token
    answers = [
        await ask(gateway, "PUT", path, operator, document)
        for document in ({}, {"policy": None}, {"policy": 7}, {"policy": "open", "mode": "x"})
    ]

    for answer in answers:
        answer.problem(422, "invalid_field")
    absent = await ask(gateway, "PUT", unknown, operator, {"policy": "open"})
    absent.problem(404, "unknown_session")


async def test_what_was_taken_stays_as_it_was_whatever_the_configuration_says(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, **SETTINGS) as before:
        session = await open_session(before, retention="strict")
        urn = (await put(before, session, "t1"))["urn"]
    less = [{"name": "strict", "default_s": 5}]
    async with running_gateway(tmp_path, retention_policies=less) as after:
        shown = await ask(after, "GET", f"/v1/sessions/{session.session_id}", session.user_token)
        old = await Kept(after, session, urn).shown()
        new = await Kept(after, session, (await put(after, session, "t2"))["urn"]).shown()
        fresh = await kept(after, "strict")
        lowered = await retain(after, session, "strict")
        fresh_shown = await fresh.shown()

    assert terms(POLICIES[2]) == shown.json()["retention"]
    assert [("strict", "compliance", 120)] * 2 == [
        (each["policy"], each["mode"], lives_s(each)) for each in (old, new)
    ]
    assert ("governance", 5) == (fresh_shown["mode"], lives_s(fresh_shown))
    lowered.problem(422, "lifetime_too_short")


# The lifetime of an upload.


@pytest.mark.parametrize(
    ("policy", "asked", "lives"),
    [
        ("brief", None, 60),
        ("brief", 1, 1),
        ("brief", 600, 600),
        ("open", "0000077", 77),
        ("open", LIFETIME_S_MAX, LIFETIME_S_MAX),
        ("forever", None, None),
        ("forever", 77, 77),
        ("strict", None, 120),
        ("strict", 120, 120),
        ("strict", 600, 600),
    ],
)
async def test_an_object_lives_as_long_as_its_upload_asks(
    gateway: RunningGateway, policy: str, asked: object, lives: int | None
) -> None:
    session = await open_session(gateway, retention=policy)
    headers = [] if asked is None else [(LIFETIME, str(asked))]
    token = session.user_token
    answer = await uploaded(gateway, session.path("t1"), token, b"content", headers=headers)
    manifest = (await fetch(gateway, answer["urn"], token, part="/manifest")).json()
    listing = await ask(gateway, "GET", f"/v1/sessions/{session.session_id}/objects", token)
    shown = await Kept(gateway, session, answer["urn"]).shown()

    told = [answer, manifest, listing.json()["objects"][0], shown]
    assert [lives] * 4 == [lives_s(document) for document in told]
    assert manifest["expired"] is None
    assert shown["keep_until"] == shown["expires"]


REFUSED = [
    *(
        ("forever", value, "invalid_field", "one whole number of seconds")
        for value in ("-1", "+1", "1.5", "1e3", "0x10", "a day", "", "1 2", "1_0", "9" * 19, "\xb2")
    ),
    ("forever", "0", "invalid_field", f"1 to {LIFETIME_S_MAX} seconds"),
    ("forever", str(LIFETIME_S_MAX + 1), "invalid_field", f"1 to {LIFETIME_S_MAX} seconds"),
    ("strict", "0", "invalid_field", f"1 to {LIFETIME_S_MAX} seconds"),
    ("brief", "601", "lifetime_too_long", "at most 600 seconds"),
    ("strict", "601", "lifetime_too_long", "at most 600 seconds"),
    ("strict", "119", "lifetime_too_short", "promised 120 seconds"),
]


@pytest.mark.parametrize(("policy", "asked", "code", "words"), REFUSED)
@pytest.mark.parametrize("kind", ["plain", "sealed"])
async def test_a_lifetime_that_is_none_or_not_allowed_is_refused_before_the_body(
    gateway: RunningGateway, policy: str, asked: str, code: str, words: str, kind: str
) -> None:
    session = await open_session(gateway, retention=policy)
    headers = [(LIFETIME, asked), EXPECT] + ([SEALED] if kind == "sealed" else [])
    data = request("POST", session.path("t1"), session.user_token, headers=headers, body=b"x" * 100)
    async with connected(gateway.address) as connection:
        await connection.send(data[:-100])
        answer = await connection.answer()  # not 100: nothing of the body was asked for
    problem = answer.problem(422, code)

    assert LIFETIME == problem["field"]
    assert words in problem["detail"]
    assert [] == await leftovers(gateway.catalog, gateway.store)
    assert 60 == lives_s(await put(gateway, await open_session(gateway), "t1"))


async def test_two_lifetimes_are_none(gateway: RunningGateway) -> None:
    session = await open_session(gateway)
    headers = [(LIFETIME, "60"), (LIFETIME, "60")]
    token = session.user_token
    answer = await upload(gateway, session.path("t1"), token, b"x", headers=headers)

    assert LIFETIME == answer.problem(422, "invalid_field")["field"]


async def test_who_may_not_upload_is_told_that_and_nothing_of_lifetimes(
    gateway: RunningGateway,
) -> None:
    session, foreign = await open_session(gateway), await open_session(gateway)
    asked = {None: 401, foreign.user_token: 403, session.miner_token: 403}
    for token, status in asked.items():
        data = request("POST", session.path("t1"), token, headers=[(LIFETIME, "-1")], body=b"x")
        async with connected(gateway.address) as connection:
            await connection.send(data)
            assert status == (await connection.answer()).status


async def test_a_file_that_came_sealed_lives_as_long_as_its_upload_asks(
    gateway: RunningGateway,
) -> None:
    session = await open_session(gateway)
    sealed = sealed_by_stock_tool(b"content", session.router_recipient)
    headers = [SEALED, (LIFETIME, "77")]
    token = session.user_token
    document = await uploaded(gateway, session.path("t1"), token, sealed, headers=headers)

    assert 77 == lives_s(document)


async def test_a_file_of_blind_custody_lives_as_long_as_its_upload_asks(
    gateway: RunningGateway,
) -> None:
    session = await open_blind(gateway)
    documents = []
    for task, asked in (("t1", []), ("t2", [(LIFETIME, "77")]), ("t3", [(LIFETIME, "601")])):
        reservation = await session.reserve(task)
        envelope = sealed_for(reservation, b"content")
        path = f"{session.slot(task)}?reservation={reservation['urn']}"
        body = envelope.head + envelope.payload
        documents.append(await session.ask("POST", path, headers=[SEALED, *asked], body=body))

    assert [60, 77] == [lives_s(answer.json()) for answer in documents[:2]]
    documents[2].problem(422, "lifetime_too_long")


async def test_an_upload_that_was_late_lives_as_long_as_it_asks(tmp_path: Path) -> None:
    async with deployed(tmp_path, **SETTINGS) as late:
        document = await late.sent(headers=[(LIFETIME, "77")])
        late.two.go_on.set()
        committed = await late.ended(document)

    assert ("committed", 77) == (committed["state"], lives_s(committed))


@pytest.mark.parametrize(
    ("before", "asked", "after", "lives"),
    [
        ("brief", None, "stricter", 240),
        ("brief", "1", "strict", 120),
        ("brief", "300", "strict", 300),
        ("strict", "130", "stricter", 240),
        ("open", "700", "brief", 600),
        ("brief", "1", "forever", 1),
    ],
)
async def test_an_upload_that_began_under_other_terms_has_those_of_its_commit(
    gateway: RunningGateway, before: str, asked: str | None, after: str, lives: int
) -> None:
    session = await open_session(gateway, retention=before)
    headers = [EXPECT] + ([] if asked is None else [(LIFETIME, asked)])
    data = request("POST", session.path("t1"), session.user_token, headers=headers, body=b"x" * 99)
    async with connected(gateway.address) as connection:
        await connection.send(data[:-99])
        assert 100 == (await connection.answer()).status  # it was looked at: nothing was refused
        assert 200 == (await retain(gateway, session, after)).status
        await connection.send(data[-99:])
        answer = await connection.answer()
    shown = await Kept(gateway, session, answer.json()["urn"]).shown()

    assert 201 == answer.status
    assert (after, lives) == (shown["policy"], lives_s(shown))
    assert lives == lives_s(answer.json())


async def test_what_is_resealed_has_the_time_that_it_had(gateway: RunningGateway) -> None:
    held = await kept(gateway, lifetime_s=77)
    columns = (objects.c.keep_until_ms, objects.c.expires_ms, objects.c.terms_id)
    before = await gateway.catalog.read(lambda c: c.execute(select(*columns)).one())
    jobs = gateway.gateway.services.jobs
    job = await jobs.start("reseal", held.session.session_id, 0.0)
    async for _ in jobs.watch(job.job_id):
        pass
    manifest = (await held.ask("GET", "/manifest")).json()

    assert before == await gateway.catalog.read(lambda c: c.execute(select(*columns)).one())
    assert (2, 77) == (manifest["generation"], lives_s(manifest))
