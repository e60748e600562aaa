"""Goal: keys are registered, rotated, disabled and destroyed one step at a time; stale ones are
told apart; a party that was removed gets nothing new.

Method: a real gateway, asked as its parties would; sealed files are opened by their identities.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from crypto import NoIdentityMatch, X25519Identity, open_file
from storage_gateway.catalog.tables import key_versions
from tests.gateway import MINER, OpenSession, RunningGateway, open_session, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.http.steps import PLAINTEXT, fetch, upload, uploaded
from tests.http.test_rebuild import dump, lose_catalog, rebuilt, settled

pytestmark = pytest.mark.both_databases

JSON = ("Content-Type", "application/json")


async def ask(
    gateway: RunningGateway,
    method: str,
    path: str,
    token: str,
    document: dict[str, Any] | None = None,
) -> Answer:
    body = None if document is None else _encoded(document)
    data = request(method, path, token, headers=[JSON] if body else [], body=body)
    return await exchange(gateway.address, data)


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


async def rotated(
    gateway: RunningGateway, session: OpenSession, *, token: str | None = None
) -> X25519Identity:
    """Register a new version of the user's key; return its identity."""
    new = X25519Identity.generate()
    answer = await ask(
        gateway,
        "POST",
        f"/v1/sessions/{session.session_id}/keys",
        token or session.user_token,
        {"party": "user", "recipient": str(new.recipient())},
    )
    assert 201 == answer.status, answer
    return new


async def keys_of(gateway: RunningGateway, session: OpenSession) -> dict[int, dict[str, Any]]:
    """Return the user's key versions by their numbers."""
    path = f"/v1/sessions/{session.session_id}/keys"
    answer = await ask(gateway, "GET", path, session.user_token)
    return {k["version"]: k for k in answer.json()["keys"] if k["party"] == "user"}


async def set_state(
    gateway: RunningGateway, session: OpenSession, version: int, state: str, *, urgent: bool = False
) -> Answer:
    wish = {"party": "user", "version": version, "state": state, "urgent": urgent}
    path = f"/v1/sessions/{session.session_id}/keys/states"
    return await ask(gateway, "POST", path, session.user_token, wish)


async def test_a_new_version_is_sealed_to_and_the_one_before_retires(
    gateway: RunningGateway, session: OpenSession
) -> None:
    old = await uploaded(gateway, session.path("t1"), session.user_token, b"before")
    identity = await rotated(gateway, session)
    new = await uploaded(gateway, session.path("t2"), session.user_token, b"after")

    before = (await fetch(gateway, old["urn"], session.user_token)).body
    after = (await fetch(gateway, new["urn"], session.user_token)).body
    assert b"before" == open_file(before, [session.user])
    assert b"after" == open_file(after, [identity])
    with pytest.raises(NoIdentityMatch):
        open_file(after, [session.user])
    keys = await keys_of(gateway, session)
    assert {1: "retiring", 2: "active"} == {n: key["state"] for n, key in keys.items()}
    assert {1: 1, 2: 1} == {n: key["heads"] for n, key in keys.items()}


async def test_possession_is_proven_by_opening_a_challenge(
    gateway: RunningGateway, session: OpenSession
) -> None:
    new, path = X25519Identity.generate(), f"/v1/sessions/{session.session_id}/keys"
    wish = {"party": "user", "recipient": str(new.recipient())}
    challenge = await ask(gateway, "POST", f"{path}/challenges", session.user_token, wish)
    sealed = base64.b64decode(challenge.json()["challenge"])
    answer = open_file(sealed, [new]).decode()
    other = {"party": "user", "recipient": str(X25519Identity.generate().recipient())}

    for wrong in (
        wish | {"answer": answer[:-2]},
        wish | {"answer": "x"},
        other | {"answer": answer},
    ):
        refused = await ask(gateway, "POST", path, session.user_token, wrong)
        refused.problem(422, "key_unproven")
    taken = await ask(gateway, "POST", path, session.user_token, wish | {"answer": answer})
    again = await ask(gateway, "POST", path, session.user_token, wish)

    assert (201, "proven") == (taken.status, taken.json()["proof"])
    assert taken.json() == again.json()
    assert "unproven" == (await keys_of(gateway, session))[1]["proof"]


async def test_a_challenge_of_another_party_or_one_that_ran_out_proves_nothing(
    gateway: RunningGateway, session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, path = X25519Identity.generate(), f"/v1/sessions/{session.session_id}/keys"
    of_miner = {"party": "miner", "miner": MINER, "recipient": str(new.recipient())}
    of_user = {"party": "user", "recipient": str(new.recipient())}
    answers = []
    for wish, lasts_s in ((of_miner, 600), (of_user, -1)):
        monkeypatch.setattr("storage_gateway.registry.CHALLENGE_S", lasts_s)
        made = await ask(gateway, "POST", f"{path}/challenges", gateway.operator_token, wish)
        answers.append(open_file(base64.b64decode(made.json()["challenge"]), [new]).decode())

    foreign = of_user | {"answer": answers[0]}
    (await ask(gateway, "POST", path, session.user_token, foreign)).problem(422, "key_unproven")
    late = of_user | {"answer": answers[1]}
    (await ask(gateway, "POST", path, session.user_token, late)).problem(422, "key_unproven")


async def test_states_are_passed_one_by_one_and_not_too_soon(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_retiring_s=3600, key_disabled_s=3600) as gateway:
        session = await open_session(gateway)
        await rotated(gateway, session)

        for version, state in ((1, "destroyed"), (2, "disabled"), (2, "retiring"), (1, "active")):
            refused = await set_state(gateway, session, version, state)
            refused.problem(409, "key_state_skipped")
        (await set_state(gateway, session, 3, "disabled")).problem(404, "not_found")
        too_soon = await set_state(gateway, session, 1, "disabled")
        assert 3590 < too_soon.problem(409, "key_dwelling")["left_s"] <= 3600
        urgent = await set_state(gateway, session, 1, "disabled", urgent=True)
        assert (200, "disabled") == (urgent.status, urgent.json()["state"])
        refused = await set_state(gateway, session, 1, "destroyed", urgent=True)
        refused.problem(409, "key_dwelling")
        back = await set_state(gateway, session, 1, "retiring")
        assert "retiring" == back.json()["state"]


async def test_a_version_that_heads_are_wrapped_for_is_not_destroyed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_retiring_s=0, key_disabled_s=0) as gateway:
        session = await open_session(gateway)
        document = await uploaded(gateway, session.path("t1"), session.user_token, b"a prompt")
        await rotated(gateway, session)
        await settled(gateway)

        assert 200 == (await set_state(gateway, session, 1, "disabled")).status
        in_use = await set_state(gateway, session, 1, "destroyed")
        assert 1 == in_use.problem(409, "key_in_use")["dependents"]
        assert not (await keys_of(gateway, session))[1]["safe_to_destroy"]
        erasing = await ask(gateway, "DELETE", f"/v1/objects/{document['urn']}", session.user_token)
        assert 202 == erasing.status
        await settled(gateway, erased=1)
        assert (await keys_of(gateway, session))[1]["safe_to_destroy"]
        assert 200 == (await set_state(gateway, session, 1, "destroyed")).status


async def test_stale_readers_are_told_apart(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_retiring_s=0) as gateway:
        session = await open_session(gateway)
        old = (await uploaded(gateway, session.path("t1"), session.user_token, b"old"))["urn"]
        second = await rotated(gateway, session)
        new = (await uploaded(gateway, session.path("t2"), session.user_token, b"new"))["urn"]

        async def read(urn: str, held: X25519Identity | None, kind: str = "") -> Answer:
            headers = [] if held is None else [("Held-Recipient", str(held.recipient()))]
            headers += [PLAINTEXT] if kind else []
            return await fetch(gateway, urn, session.user_token, headers=headers)

        assert 200 == (await read(old, session.user)).status
        assert 200 == (await read(new, second)).status
        behind = (await read(new, session.user)).problem(409, "stale_key_reader")
        assert (1, 2, 2) == tuple(
            behind[name] for name in ("held_version", "sealed_version", "current_version")
        )
        ahead = (await read(old, second)).problem(409, "stale_key_reader")
        assert (2, 1, 2) == tuple(
            ahead[name] for name in ("held_version", "sealed_version", "current_version")
        )
        (await read(old, X25519Identity.generate())).problem(409, "unknown_key")
        assert 200 == (await set_state(gateway, session, 1, "disabled")).status
        for held in (None, session.user, second):
            disabled = (await read(old, held)).problem(409, "key_disabled")
            assert (1, 2) == (disabled["sealed_version"], disabled["current_version"])
        assert 200 == (await read(old, None, "plaintext")).status
        assert 200 == (await read(new, second)).status
        assert 200 == (await set_state(gateway, session, 1, "retiring")).status
        assert b"old" == open_file((await read(old, session.user)).body, [session.user])


async def test_a_router_key_that_is_disabled_opens_nothing(gateway: RunningGateway) -> None:
    session = await open_session(gateway)
    urn = (await uploaded(gateway, session.path("t1"), session.user_token, b"content"))["urn"]
    router = key_versions.c.session_id == ""
    await gateway.catalog.run(
        lambda c: c.execute(update(key_versions).where(router).values(state="disabled"))
    )

    opened = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
    opened.problem(409, "key_disabled")
    sealed = await fetch(gateway, urn, session.user_token)
    assert b"content" == open_file(sealed.body, [session.user])


async def test_a_miner_that_was_removed_gets_nothing_more(
    gateway: RunningGateway, session: OpenSession
) -> None:
    urn = (await uploaded(gateway, session.path("t1"), session.user_token, b"before"))["urn"]
    etag = (await fetch(gateway, urn, session.miner_token)).header("ETag")
    path = f"/v1/sessions/{session.session_id}/miners/{MINER}"
    for _ in range(2):
        assert 200 == (await ask(gateway, "DELETE", path, gateway.operator_token)).status
    later = (await uploaded(gateway, session.path("t2"), session.user_token, b"after"))["urn"]

    cached = [("If-None-Match", str(etag))]
    for headers in ([], cached):
        answer = await fetch(gateway, urn, session.miner_token, headers=headers)
        answer.problem(403, "party_removed")
    result = await upload(gateway, session.path("t1", "output"), session.miner_token, b"late")
    result.problem(403, "party_removed")
    sealed = (await fetch(gateway, later, session.user_token)).body
    with pytest.raises(NoIdentityMatch):
        open_file(sealed, [session.miner])

    back = await ask(
        gateway,
        "POST",
        f"/v1/sessions/{session.session_id}/miners",
        gateway.operator_token,
        {"id": MINER, "recipient": str(X25519Identity.generate().recipient())},
    )
    assert (201, 2) == (back.status, back.json()["version"])
    assert 200 == (await fetch(gateway, later, str(back.json()["token"]))).status
    (await fetch(gateway, later, session.miner_token)).problem(401, "token_expired")


async def test_a_recipient_is_registered_once(
    gateway: RunningGateway, session: OpenSession
) -> None:
    await rotated(gateway, session)
    path = f"/v1/sessions/{session.session_id}/keys"
    wish = {"party": "user", "recipient": str(session.user.recipient())}
    (await ask(gateway, "POST", path, session.user_token, wish)).problem(409, "key_exists")


async def test_keys_come_back_with_a_lost_catalog(tmp_path: Path) -> None:
    """The copies of a session tell of all versions and their states, in its newest generation."""
    async with running_gateway(tmp_path, key_retiring_s=0) as gateway:
        session = await open_session(gateway, "101")
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await rotated(gateway, session)
        assert 200 == (await set_state(gateway, session, 1, "disabled")).status
        await settled(gateway)
    data_dir = tmp_path / "data"
    before = await asyncio.to_thread(dump, data_dir)
    await asyncio.to_thread(lose_catalog, data_dir)
    assert 0 == (await rebuilt(data_dir)).status
    assert before == await asyncio.to_thread(dump, data_dir)
