"""Goal: after a rotation a job wraps every head anew, and what it cannot do it counts and goes on;
it is watched and stopped over HTTP, and goes on when its process dies.

Method: a real gateway; keys are rotated, heads are damaged below it, and every head that was
wrapped anew is opened with the identities that should, and should not, open it.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection, select, update

from crypto import NoIdentityMatch, open_file
from storage_gateway.catalog.tables import objects
from tests.gateway import MINER, OpenSession, RunningGateway, eventually, open_session
from tests.gateway import running_gateway as running
from tests.http.raw import Answer
from tests.http.steps import PLAINTEXT, fetch, uploaded
from tests.http.test_keys import ask, keys_of, rotated

pytestmark = pytest.mark.both_databases


async def filled(gateway: RunningGateway, session: OpenSession, count: int = 6) -> dict[str, bytes]:
    """Upload inputs and outputs; return their bodies by URN."""
    bodies = {}
    for number in range(count):
        direction = "output" if number % 3 == 2 else "input"
        token = session.miner_token if direction == "output" else session.user_token
        body = b"body %d" % number
        document = await uploaded(gateway, session.path(f"t{number}", direction), token, body)
        bodies[document["urn"]] = body
    return bodies


async def run_job(
    gateway: RunningGateway, token: str, kind: str = "rewrap", **wish: object
) -> dict[str, Any]:
    """Begin a job, and return it once it has ended."""
    begun = await ask(gateway, "POST", "/v1/jobs", token, {"kind": kind} | wish)
    assert 202 == begun.status, begun
    return await ended(gateway, token, begun.json()["id"])


async def ended(gateway: RunningGateway, token: str, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        found.update((await ask(gateway, "GET", f"/v1/jobs/{job_id}", token)).json())
        return "ended" in found

    await eventually(has_ended, what="the end of a job")
    return found


async def heads(gateway: RunningGateway) -> dict[str, bytes]:
    rows = await gateway.catalog.read(
        lambda c: c.execute(select(objects.c.object_id, objects.c.head)).all()
    )
    return {row.object_id: row.head for row in rows}


def put_head(connection: Connection, object_id: str, head: bytes) -> None:
    connection.execute(update(objects).where(objects.c.object_id == object_id).values(head=head))


async def test_every_head_is_wrapped_anew_and_no_payload_is_touched(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session)
    before = {urn: await fetch(gateway, urn, session.user_token) for urn in bodies}
    second = await rotated(gateway, session)
    job = await run_job(gateway, session.user_token)

    assert ("done", len(bodies), 0) == (
        job["state"],
        job["progress"]["done"],
        job["progress"]["failed"],
    )
    for urn, body in bodies.items():
        after = await fetch(gateway, urn, session.user_token)
        assert body == open_file(after.body, [second])
        with pytest.raises(NoIdentityMatch):
            open_file(after.body, [session.user])
        assert body == open_file(after.body, [session.miner])
        assert body == (await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])).body
        # All but the head is as it was.
        tail = len(body) + 16
        assert before[urn].body[-tail:] == after.body[-tail:]
        old, new = (str(answer.header("ETag")) for answer in (before[urn], after))
        assert old.replace(".g1", ".g2") == new
        manifest = (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
        versions = {p["role"]: p["version"] for p in manifest["wrapped_for"]}
        assert 2 == versions["user"]
        assert 1 == versions["router"]
    keys = await keys_of(gateway, session)
    assert {1: 0, 2: len(bodies)} == {number: key["heads"] for number, key in keys.items()}


async def test_a_dry_run_counts_and_does_nothing(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session)
    await rotated(gateway, session)
    before = await heads(gateway)
    wish = {"kind": "rewrap", "dry_run": True}
    answer = await ask(gateway, "POST", "/v1/jobs", gateway.operator_token, wish)

    assert 200 == answer.status
    assert len(bodies) == answer.json()["to_do"]
    assert {session.session_id: len(bodies)} == answer.json()["sessions"]
    assert before == await heads(gateway)
    assert [] == (await ask(gateway, "GET", "/v1/jobs", gateway.operator_token)).json()["jobs"]


async def test_a_poisoned_head_is_counted_and_told_and_the_rest_is_done(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session)
    by_id = {urn.rpartition(":")[2]: urn for urn in bodies}
    original = await heads(gateway)
    broken, swapped, *_ = sorted(by_id)
    poison = {broken: original[broken][:-40] + bytes(40), swapped: original[sorted(by_id)[2]]}
    for object_id, head in poison.items():
        await gateway.catalog.run(partial(put_head, object_id=object_id, head=head))
    await rotated(gateway, session)
    job = await run_job(gateway, session.user_token)

    assert "done" == job["state"]
    assert (len(bodies) - 2, 2) == (job["progress"]["done"], job["progress"]["failed"])
    path = f"/v1/jobs/{job['id']}/failures"
    failures = (await ask(gateway, "GET", path, session.user_token)).json()["failures"]
    assert [by_id[broken], by_id[swapped]] == [failure["urn"] for failure in failures]
    assert {"head_refused"} == {failure["code"] for failure in failures}
    assert "ContextMismatch" in failures[1]["detail"]
    now = await heads(gateway)
    assert {object_id: now[object_id] for object_id in poison} == poison


async def test_a_removed_miner_has_no_stanza_any_more(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session)
    path = f"/v1/sessions/{session.session_id}/miners/{MINER}"
    assert 200 == (await ask(gateway, "DELETE", path, gateway.operator_token)).status
    job = await run_job(gateway, gateway.operator_token, session_id=session.session_id)

    assert len(bodies) == job["progress"]["done"]
    for urn, body in bodies.items():
        sealed = (await fetch(gateway, urn, session.user_token)).body
        assert body == open_file(sealed, [session.user])
        with pytest.raises(NoIdentityMatch):
            open_file(sealed, [session.miner])


async def test_a_job_is_bound_to_its_session(gateway: RunningGateway) -> None:
    one, other = await open_session(gateway), await open_session(gateway)
    for session in (one, other):
        await filled(gateway, session, 2)
        await rotated(gateway, session)
    job = await run_job(gateway, one.user_token)

    assert (one.session_id, 2) == (job["session_id"], job["progress"]["done"])
    wish = {"kind": "rewrap", "session_id": one.session_id}
    (await ask(gateway, "POST", "/v1/jobs", other.user_token, wish)).problem(403, "forbidden")
    hidden = await ask(gateway, "GET", f"/v1/jobs/{job['id']}", other.user_token)
    hidden.problem(404, "unknown_job")
    assert [] == (await ask(gateway, "GET", "/v1/jobs", other.user_token)).json()["jobs"]
    left = await ask(
        gateway, "POST", "/v1/jobs", other.user_token, {"kind": "rewrap", "dry_run": True}
    )
    assert 2 == left.json()["to_do"]


async def test_a_job_can_be_watched_and_stopped(
    gateway: RunningGateway, session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.rewrap.PAGE", 1)
    await filled(gateway, session)
    await rotated(gateway, session)
    slow = {"kind": "rewrap", "rate": 0.5}
    begun = (await ask(gateway, "POST", "/v1/jobs", session.user_token, slow)).json()
    asked = await ask(gateway, "DELETE", f"/v1/jobs/{begun['id']}", session.user_token)

    assert (202, "stopping") == (asked.status, asked.json()["state"])
    headers = {"Authorization": f"Bearer {session.user_token}"}
    url = f"{gateway.url}{begun['events']}"
    async with aiohttp.ClientSession(headers=headers) as asking, asking.get(url) as answer:
        text = await answer.text()
    told = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert "stopped" == told[-1]["state"]
    assert told[-1]["progress"]["done"] < 6
    done = await run_job(gateway, session.user_token)
    assert 6 == told[-1]["progress"]["done"] + done["progress"]["done"]


async def test_a_job_of_a_process_that_ended_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.rewrap.PAGE", 1)
    async with running(tmp_path) as gateway:
        session = await open_session(gateway)
        bodies = await filled(gateway, session)
        second = await rotated(gateway, session)
        slow = {"kind": "rewrap", "rate": 2}
        begun = (await ask(gateway, "POST", "/v1/jobs", session.user_token, slow)).json()
    async with running(tmp_path) as gateway:
        job = await ended(gateway, session.user_token, begun["id"])
        assert ("done", len(bodies)) == (job["state"], job["progress"]["done"])
        for urn, body in bodies.items():
            sealed = (await fetch(gateway, urn, session.user_token)).body
            assert body == open_file(sealed, [second])


async def test_so_many_jobs_of_a_session_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.rewrap.PAGE", 1)
    async with running(tmp_path, jobs_max=2) as gateway:
        one, other = await open_session(gateway), await open_session(gateway)
        for session in (one, other):
            await filled(gateway, session, 2)
            await rotated(gateway, session)
        operator, slow = gateway.operator_token, {"kind": "rewrap", "rate": 0.01}

        async def begin(token: str) -> Answer:
            return await ask(gateway, "POST", "/v1/jobs", token, slow)

        # Those for all sessions count apart: whoever has one session keeps no operator away.
        for token in (one.user_token, operator):
            begun = [(await begin(token)).json()["id"] for _ in range(2)]
            problem = (await begin(token)).problem(409, "too_many_jobs")
            assert begun == problem["running"]
        assert 202 == (await begin(other.user_token)).status
        dry = await ask(gateway, "POST", "/v1/jobs", operator, slow | {"dry_run": True})
        assert 200 == dry.status
        await ask(gateway, "DELETE", f"/v1/jobs/{begun[0]}", operator)
        await ended(gateway, operator, begun[0])
        assert 202 == (await begin(operator)).status


async def test_a_kind_that_is_not_there_is_refused(
    gateway: RunningGateway, session: OpenSession
) -> None:
    wish = {"kind": "melt"}
    (await ask(gateway, "POST", "/v1/jobs", session.user_token, wish)).problem(422, "invalid_field")
    answer = await ask(gateway, "GET", "/v1/jobs/" + "a" * 32, gateway.operator_token)
    answer.problem(404, "unknown_job")


async def test_the_routers_key_is_rotated(gateway: RunningGateway, session: OpenSession) -> None:
    """Heads come to the router's new version; both identities are held meanwhile."""
    bodies = await filled(gateway, session)
    keyring = gateway.gateway.parts.keyring
    (old,) = keyring.opening()
    made = await ask(gateway, "POST", "/v1/admin/keys", gateway.operator_token, {})
    assert (201, 2, "proven") == (made.status, made.json()["version"], made.json()["proof"])
    new = keyring.identity_for(made.json()["recipient"])
    assert new is not None
    job = await run_job(gateway, gateway.operator_token)

    assert len(bodies) == job["progress"]["done"]
    for urn, body in bodies.items():
        sealed = (await fetch(gateway, urn, session.user_token)).body
        assert body == open_file(sealed, [new]) == open_file(sealed, [session.user])
        with pytest.raises(NoIdentityMatch):
            open_file(sealed, [old])
