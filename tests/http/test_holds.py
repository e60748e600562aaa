"""Goal: what the operator holds is erased by nobody until they release it; everybody may see that
something is held, the operator alone who holds it and why; what is refused changes nothing.

Method: a real gateway, asked by the operator and by the parties of a session.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crypto import CopySealer, recovery_identity
from storage_gateway.backends import LocalStore
from storage_gateway.catalog.high_water import clear_behind, set_behind
from storage_gateway.errors import BackendUnavailable
from storage_gateway.manifest_copies import RETENTION, RetentionCopy, decode_copy
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.claims_world import SETTINGS, Kept, ask, kept, ms_of
from tests.http.raw import Answer
from tests.http.steps import fetch, uploaded
from tests.http.test_manifest_copies import copies, is_brought, pass_over_copies
from tests.http.test_replicas import NAMES, Folders, folders, running

__all__ = ["folders"]  # a fixture

pytestmark = pytest.mark.both_databases

HOLD = {"who": "the court", "why": "case 7 of 2026"}
RELEASE = {"who": "the clerk", "why": "case 7 is over"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, **SETTINGS) as running:
        yield running


def path_of(held: Kept, scope: str) -> str:
    return held.path if scope == "object" else f"/v1/sessions/{held.session.session_id}"


async def operate(
    held: Kept, scope: str, method: str, part: str = "", document: object = None
) -> Answer:
    """Ask of holds as the operator."""
    path = f"{path_of(held, scope)}/holds{part}"
    return await ask(held.gateway, method, path, held.gateway.operator_token, document)


async def place(held: Kept, scope: str) -> dict[str, Any]:
    answer = await operate(held, scope, "POST", document=HOLD)
    assert 201 == answer.status, answer
    return answer.json()


@pytest.mark.parametrize("scope", ["object", "session"])
async def test_what_is_held_is_erased_by_nobody_until_it_is_released(
    gateway: RunningGateway, scope: str
) -> None:
    held = await kept(gateway)
    placed = await place(held, scope)
    assert HOLD.items() <= placed.items()
    assert (None, None) == (placed["released"], placed["released_by"])
    for token in (held.session.user_token, gateway.operator_token):
        refused = await held.ask("DELETE", "", token=token)
        problem = refused.problem(409, "held")
        assert ms_of(problem["held_since"]) == ms_of(placed["since"])
        assert b"court" not in refused.body
        assert b"case" not in refused.body
    read = await fetch(gateway, held.urn, held.session.user_token)
    assert 200 == read.status

    release = f"/{placed['hold_id']}/release"
    answer = await operate(held, scope, "POST", release, RELEASE)
    released = answer.json()
    assert (200, "the clerk", "case 7 is over") == (
        answer.status,
        released["released_by"],
        released["release_why"],
    )
    again = await operate(held, scope, "POST", release, HOLD)
    assert (200, released) == (again.status, again.json())
    assert 202 == (await held.ask("DELETE", "")).status


async def test_holds_are_listed_with_those_of_the_session(gateway: RunningGateway) -> None:
    held = await kept(gateway)
    on_object = [await place(held, "object") for _ in range(2)]
    on_session = await place(held, "session")
    await operate(held, "object", "POST", f"/{on_object[0]['hold_id']}/release", RELEASE)

    listed = (await operate(held, "object", "GET")).json()
    states = {hold["hold_id"]: hold["released"] is not None for hold in listed["holds"]}
    assert states == {on_object[0]["hold_id"]: True, on_object[1]["hold_id"]: False}
    assert [on_session] == listed["session_holds"]
    assert {"holds": [on_session]} == (await operate(held, "session", "GET")).json()


async def test_the_parties_see_that_their_session_is_held(gateway: RunningGateway) -> None:
    held = await kept(gateway)
    session = held.session

    async def shown() -> list[bool]:
        path = f"/v1/sessions/{session.session_id}"
        answers = [await ask(gateway, "GET", path, t) for t in (session.user_token,)]
        answers.append(await ask(gateway, "GET", path, session.miner_token))
        assert all(b"court" not in answer.body for answer in answers)
        return [answer.json()["held"] for answer in answers]

    assert [False, False] == await shown()
    placed = await place(held, "session")
    assert [True, True] == await shown()
    await operate(held, "session", "POST", f"/{placed['hold_id']}/release", RELEASE)
    assert [False, False] == await shown()


@pytest.mark.parametrize("scope", ["object", "session"])
@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"who": "", "why": "case 7"}, "who"),
        ({"who": "the court", "why": ""}, "why"),
        ({"who": "   ", "why": "case 7"}, "who"),
        ({"who": "the\0court", "why": "case 7"}, "who"),
        ({"who": "the court", "why": "case 7\n"}, "why"),
        ({"who": "the \x1b[31mcourt", "why": "case 7"}, "who"),
        ({"who": "a" * 201, "why": "case 7"}, "who"),
        ({"who": "the court", "why": "a" * 1001}, "why"),
        ({"who": "the court"}, "body"),
        ({"who": 7, "why": "case 7"}, "who"),
        ({"who": "the court", "why": None}, "why"),
        ({"who": "the court", "why": "case 7", "until": 9}, "body"),
        ([], "body"),
    ],
    ids=str,
)
async def test_a_hold_says_who_and_why(
    gateway: RunningGateway, scope: str, document: object, field: str
) -> None:
    held = await kept(gateway)
    placed = await place(held, scope)
    for part in ("", f"/{placed['hold_id']}/release"):
        answer = await operate(held, scope, "POST", part, document)
        assert field == answer.problem(422, "invalid_field")["field"]
    found = (await operate(held, scope, "GET")).json()["holds"]
    assert [placed] == found


async def test_what_is_long_and_what_is_short_is_taken(gateway: RunningGateway) -> None:
    held = await kept(gateway)
    for document in ({"who": "é" * 200, "why": "\N{SNOWMAN}" * 1000}, {"who": "a", "why": "b"}):
        answer = await operate(held, "object", "POST", document=document)
        assert 201 == answer.status, answer
        assert document.items() <= answer.json().items()


async def test_a_hold_of_something_else_is_not_found(gateway: RunningGateway) -> None:
    held, other = await kept(gateway), await kept(gateway)
    on_object, on_session = await place(held, "object"), await place(held, "session")
    for one, scope, placed in (
        (held, "session", on_object),
        (held, "object", on_session),
        (other, "object", on_object),
        (other, "session", on_session),
        (other, "session", on_object),
        (held, "object", {"hold_id": "a" * 32}),
        (held, "object", {"hold_id": "%00"}),
    ):
        answer = await operate(one, scope, "POST", f"/{placed['hold_id']}/release", RELEASE)
        answer.problem(404, "no_such_hold")
    (await held.ask("DELETE", "")).problem(409, "held")


async def test_what_is_not_there_is_not_held(gateway: RunningGateway) -> None:
    held = await kept(gateway)
    assert 202 == (await held.ask("DELETE", "")).status
    (await operate(held, "object", "POST", document=HOLD)).problem(410, "erased")
    listed = await operate(held, "object", "GET")
    assert (200, []) == (listed.status, listed.json()["holds"])
    # A session can be held, whatever was erased in it.
    await place(held, "session")
    assert 202 == (await held.ask("DELETE", "")).status
    token = gateway.operator_token
    unknown = f"/v1/objects/{held.urn[:-4]}aaaa/holds"
    (await ask(gateway, "POST", unknown, token, HOLD)).problem(404, "not_found")
    (await ask(gateway, "POST", "/v1/objects/urn:x/holds", token, HOLD)).problem(400, "invalid_urn")
    nowhere = "/v1/sessions/nowhere/holds"
    (await ask(gateway, "POST", nowhere, token, HOLD)).problem(404, "unknown_session")
    (await ask(gateway, "GET", nowhere, token)).problem(404, "unknown_session")


@pytest.mark.parametrize("scope", ["object", "session"])
async def test_nobody_but_the_operator_holds_or_releases(
    gateway: RunningGateway, scope: str
) -> None:
    held = await kept(gateway)
    placed = await place(held, scope)
    for token in (held.session.user_token, held.session.miner_token):
        for method, part in (("POST", ""), ("GET", ""), ("POST", f"/{placed['hold_id']}/release")):
            document = RELEASE if method == "POST" else None
            path = f"{path_of(held, scope)}/holds{part}"
            (await ask(gateway, method, path, token, document)).problem(403, "forbidden")
    (await held.ask("DELETE", "")).problem(409, "held")


async def test_what_compliance_keeps_is_erased_by_nobody_before(gateway: RunningGateway) -> None:
    held = await kept(gateway, "strict")
    expires = (await held.shown())["expires"]
    for token in (held.session.user_token, gateway.operator_token):
        refused = await held.ask("DELETE", "", token=token)
        assert expires == refused.problem(409, "retained")["retained_until"]
    # A hold is told first: it has no end.
    placed = await place(held, "object")
    (await held.ask("DELETE", "")).problem(409, "held")
    await operate(held, "object", "POST", f"/{placed['hold_id']}/release", RELEASE)
    await held.expire()
    assert 202 == (await held.ask("DELETE", "")).status


async def test_an_old_catalog_erases_nothing_as_it_does_not_know_what_is_held(
    gateway: RunningGateway,
) -> None:
    made = await kept(gateway)
    await gateway.catalog.run(set_behind)
    for token in (made.session.user_token, gateway.operator_token):
        (await made.ask("DELETE", "", token=token)).problem(503, "catalog_behind")
    assert 200 == (await made.ask("GET", "")).status
    await gateway.catalog.run(lambda c: clear_behind(c, 0))
    assert 202 == (await made.ask("DELETE", "")).status


def refusing(patch: pytest.MonkeyPatch, folder: str, *names: str) -> None:
    """Have stores refuse what comes to a folder, and nothing else."""
    true_put = LocalStore.put

    async def put(self: LocalStore, key: str, data: bytes) -> None:
        if self.name in names and f"/{folder}/" in key:
            raise BackendUnavailable(f"{self.name} refuses copies")
        await true_put(self, key, data)

    patch.setattr(LocalStore, "put", put)


@pytest.mark.parametrize(("scope", "folder"), [("object", "retentions"), ("session", "sessions")])
async def test_a_hold_is_told_to_be_placed_once_enough_stores_know(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, scope: str, folder: str
) -> None:
    async with running(folders, header_copies=2) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        held = Kept(gateway, session, made["urn"])
        with monkeypatch.context() as patch:
            patch.setattr("storage_gateway.outbox.WAIT_S_MAX", 0.3)
            refusing(patch, folder, *NAMES)
            late = await operate(held, scope, "POST", document=HOLD)
            hold_id = late.problem(503, "copies_late")["hold_id"]
            refusing(patch, folder, NAMES[0])
            assert 200 == (await operate(held, scope, "GET")).status
        (await held.ask("DELETE", "")).problem(409, "held")
        (placed,) = (await operate(held, scope, "GET")).json()["holds"]
        assert hold_id == placed["hold_id"]
        await pass_over_copies(gateway)
        assert await is_brought(gateway)
        found = await copies(folders, gateway, NAMES[0])
        assert found == await copies(folders, gateway, NAMES[1])
        assert any(f"/{folder}/" in key for key in found)
        answer = await operate(held, scope, "POST", f"/{hold_id}/release", RELEASE)
        assert 200 == answer.status, answer


async def said_of(folders: Folders, gateway: RunningGateway, name: str) -> list[RetentionCopy]:
    """Return what the copies of claims in a folder say."""
    parts = gateway.gateway.parts
    sealer = CopySealer(parts.copies_identity, parts.deployment_id)
    recovery = recovery_identity(parts.copies_identity)
    found = await copies(folders, gateway, name)
    said = [
        decode_copy(await asyncio.to_thread(sealer.open, key, data, recovery))
        for key, data in found.items()
    ]
    return [copy for copy in said if isinstance(copy, RetentionCopy)]


async def test_stores_have_the_newest_claims_alone_and_no_lease_of_what_is_erased(
    folders: Folders,
) -> None:
    async with running(folders, header_copies=3) as (gateway, _):
        session = await open_session(gateway, "claimed")
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        held = Kept(gateway, session, made["urn"])
        for for_s in (100, 200, 300):
            assert 200 == (await held.leased(for_s)).status
        assert 200 == (await held.lives(50)).status
        placed = await place(held, "object")
        for name in NAMES:
            (copy,) = await said_of(folders, gateway, name)
            (lease,), (hold,) = copy.leases, copy.holds
            assert (5, placed["hold_id"], None) == (
                copy.generation,
                hold.hold_id,
                hold.released_ms,
            )
            expires = (await held.shown())["expires"]
            assert ("user", ms_of(expires)) == (lease.holder, lease.until_ms)
            assert copy.keep_until_ms is not None
            assert copy.keep_until_ms < lease.until_ms
        await operate(held, "object", "POST", f"/{placed['hold_id']}/release", RELEASE)
        assert 202 == (await held.ask("DELETE", "")).status
        await eventually(lambda: is_brought(gateway), what="the copies")
        for name in NAMES:
            (copy,) = await said_of(folders, gateway, name)
            assert (7, ()) == (copy.generation, copy.leases)
            assert ["the clerk"] == [hold.released_by for hold in copy.holds]
    assert RETENTION == copy.kind
