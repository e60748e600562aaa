"""Goal: a session comes from classic to hybrid keys in one job: what was sealed is sealed anew,
what comes is hybrid at once, nobody mixes the two; a hybrid session can be opened as such.

Method: a real gateway on both databases; files are opened with the identities of both classes.
"""

from typing import Any

import pytest

from crypto import (
    HybridIdentity,
    NoIdentityMatch,
    open_file,
    parse_recipient,
    seal_file,
)
from storage_gateway.client import Client, ClientError
from tests.gateway import MINER, OTHER_MINER, OpenSession, RunningGateway
from tests.http.raw import SEALED
from tests.http.steps import PLAINTEXT, fetch, upload, uploaded
from tests.http.test_jobs import filled, run_job
from tests.http.test_keys import ask

pytestmark = pytest.mark.both_databases


async def register(
    gateway: RunningGateway, session_id: str, party: dict[str, str]
) -> HybridIdentity:
    identity = HybridIdentity.generate()
    wish = party | {"recipient": str(identity.recipient())}
    path = f"/v1/sessions/{session_id}/keys"
    answer = await ask(gateway, "POST", path, gateway.operator_token, wish)
    assert (201, "hybrid") == (answer.status, answer.json()["key_class"])
    return identity


async def hybrid_router(gateway: RunningGateway) -> None:
    made = await ask(
        gateway, "POST", "/v1/admin/keys", gateway.operator_token, {"key_class": "hybrid"}
    )
    assert (201, "hybrid") == (made.status, made.json()["key_class"])


async def states(gateway: RunningGateway, session: OpenSession) -> dict[str, list[str]]:
    """Return the states of the parties' versions by class, without the router's."""
    path = f"/v1/sessions/{session.session_id}/keys"
    found: dict[str, list[str]] = {}
    for key in (await ask(gateway, "GET", path, session.user_token)).json()["keys"]:
        found.setdefault(key["key_class"], []).append(key["state"])
    return found


async def test_a_session_is_migrated_once_everybody_has_a_key(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session)
    wish: dict[str, Any] = {"kind": "migrate", "session_id": session.session_id}
    refused = await ask(gateway, "POST", "/v1/jobs", session.user_token, wish)
    lacking = refused.problem(409, "no_key_of_class")["parties"]
    assert {"router", "user", f"miner {MINER}", f"miner {OTHER_MINER}"} == set(lacking)

    user = await register(gateway, session.session_id, {"party": "user"})
    miner = await register(gateway, session.session_id, {"party": "miner", "miner": MINER})
    await register(gateway, session.session_id, {"party": "miner", "miner": OTHER_MINER})
    await hybrid_router(gateway)
    # Registered and not yet used: the session is classic until the job begins.
    early = await uploaded(gateway, session.path("early"), session.user_token, b"early")
    bodies[early["urn"]] = b"early"
    job = await run_job(gateway, session.user_token, "migrate", session_id=session.session_id)

    assert ("done", len(bodies), 0) == (
        job["state"],
        job["progress"]["done"],
        job["progress"]["failed"],
    )
    late = await uploaded(gateway, session.path("late"), session.user_token, b"late")
    bodies[late["urn"]] = b"late"
    for urn, body in bodies.items():
        sealed = (await fetch(gateway, urn, session.user_token)).body
        assert body == open_file(sealed, [user]) == open_file(sealed, [miner])
        with pytest.raises(NoIdentityMatch):
            open_file(sealed, [session.user])
        assert body == (await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])).body
        shown = (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
        assert "hybrid" == shown["key_class"]
    assert {"classic": ["retiring"] * 3, "hybrid": ["active"] * 3} == await states(gateway, session)
    again = await run_job(gateway, session.user_token, "migrate", session_id=session.session_id)
    assert ("done", 0) == (again["state"], again["progress"]["done"])


async def test_a_migration_names_its_session(gateway: RunningGateway) -> None:
    wish = {"kind": "migrate"}
    refused = await ask(gateway, "POST", "/v1/jobs", gateway.operator_token, wish)
    assert "session_id" == refused.problem(422, "invalid_field")["field"]


async def test_a_hybrid_session_is_hybrid_from_its_beginning(gateway: RunningGateway) -> None:
    user, miner = HybridIdentity.generate(), HybridIdentity.generate()
    document = {
        "parties": {
            "user": {"recipient": str(user.recipient())},
            "miners": [{"id": MINER, "recipient": str(miner.recipient())}],
        }
    }
    async with Client(gateway.url, gateway.operator_token) as client:
        with pytest.raises(ClientError, match="no hybrid key"):
            await client.open_session(document)
        await hybrid_router(gateway)
        opened = await client.open_session(document)
    token = opened["tokens"]["user"]
    path = f"/v1/sessions/{opened['session_id']}/tasks/t1/input"
    clear = await uploaded(gateway, path, token, b"in clear")
    intake = parse_recipient(opened["parties"]["router"]["recipient"])
    assert "hybrid" == opened["key_class"] == intake.key_class

    taken = await upload(
        gateway, path.replace("t1", "t2"), token, seal_file(b"sealed", [intake]), headers=[SEALED]
    )
    assert 201 == taken.status, taken
    for urn, body in ((clear["urn"], b"in clear"), (taken.json()["urn"], b"sealed")):
        sealed = (await fetch(gateway, urn, token)).body
        assert body == open_file(sealed, [user]) == open_file(sealed, [miner])
