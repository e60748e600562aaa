"""Goal: who seals to the router's key before they have heard of its newer version is served for a
while, and then told what to seal to; nobody else's file is opened for that.

Method: a real gateway; files are sealed by another implementation, as a client would.
"""

from pathlib import Path

import pytest
from sqlalchemy import update

from crypto import open_file
from storage_gateway.catalog.tables import key_versions
from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.http.raw import SEALED, Answer
from tests.http.steps import fetch, sealed_by_stock_tool, upload, upload_sealed
from tests.http.test_keys import ask

pytestmark = pytest.mark.both_databases


async def rotate_router(gateway: RunningGateway) -> None:
    made = await ask(gateway, "POST", "/v1/admin/keys", gateway.operator_token, {})
    assert 201 == made.status


async def sealed_to(
    gateway: RunningGateway, session: OpenSession, task: str, recipient: str
) -> Answer:
    return await upload_sealed(gateway, session, task, sealed_by_stock_tool(b"body", recipient))


async def current_recipient(gateway: RunningGateway, session: OpenSession) -> str:
    path = f"/v1/sessions/{session.session_id}"
    shown = (await ask(gateway, "GET", path, session.user_token)).json()
    return str(shown["parties"]["router"]["recipient"])


async def test_what_is_sealed_to_the_version_before_is_taken_and_wrapped_anew(
    gateway: RunningGateway, session: OpenSession
) -> None:
    await rotate_router(gateway)
    await rotate_router(gateway)
    taken = await sealed_to(gateway, session, "t1", session.router_recipient)

    assert 201 == taken.status
    urn = taken.json()["urn"]
    sealed = (await fetch(gateway, urn, session.user_token)).body
    keyring = gateway.gateway.parts.keyring
    newest = keyring.opening()[-1]
    assert b"body" == open_file(sealed, [newest]) == open_file(sealed, [session.user])
    manifest = (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
    assert [3] == [p["version"] for p in manifest["wrapped_for"] if p["role"] == "router"]


async def test_it_is_refused_with_what_to_seal_to_when_its_time_is_over(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_retiring_s=0) as gateway:
        session = await open_session(gateway)
        await rotate_router(gateway)
        made = key_versions.update().where(key_versions.c.version == 1)
        await gateway.catalog.run(lambda c: c.execute(made.values(changed_ms=1)))
        refused = await sealed_to(gateway, session, "t1", session.router_recipient)

        problem = refused.problem(409, "stale_key_writer")
        current = await current_recipient(gateway, session)
        assert (1, current) == (problem["sealed_version"], problem["current_recipient"])
        assert 201 == (await sealed_to(gateway, session, "t1", current)).status


async def test_a_version_that_is_disabled_is_not_taken_however_young(
    gateway: RunningGateway, session: OpenSession
) -> None:
    await rotate_router(gateway)
    first = update(key_versions).where(key_versions.c.session_id == "", key_versions.c.version == 1)
    await gateway.catalog.run(lambda c: c.execute(first.values(state="disabled")))

    refused = await sealed_to(gateway, session, "t1", session.router_recipient)
    refused.problem(409, "stale_key_writer")


async def test_a_file_for_another_session_is_opened_by_no_version(
    gateway: RunningGateway, session: OpenSession
) -> None:
    other = await open_session(gateway)
    await rotate_router(gateway)

    refused = await sealed_to(gateway, other, "t1", session.router_recipient)
    refused.problem(422, "not_for_router")
    again = await upload(
        gateway,
        session.path("t1"),
        session.user_token,
        sealed_by_stock_tool(b"body", session.router_recipient),
        headers=[SEALED],
    )
    assert 201 == again.status
