"""Goal: after a rebuild nobody has lost the router, and no identity that was given up is active
again; a reseal passes over nothing; a job is never lost hold of, nor what it could not do.

Method: a real gateway on both databases, brought into the states that a reader found by thinking.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from crypto import HybridIdentity, open_file
from storage_gateway.catalog.jobs import FailureRow, begin_job, tell_job
from storage_gateway.catalog.tables import jobs, key_versions
from storage_gateway.client import Client
from storage_gateway.ids import new_random_id
from storage_gateway.records import Manifest
from storage_gateway.reseal import Reseal
from tests.gateway import OpenSession, RunningGateway, eventually, running_gateway
from tests.http.steps import PLAINTEXT, fetch, uploaded
from tests.http.test_jobs import ended, filled, run_job
from tests.http.test_keys import ask, rotated
from tests.http.test_migration import hybrid_router
from tests.http.test_rebuild import lose_catalog, new_token, rebuilt, settled

pytestmark = pytest.mark.both_databases


async def test_hybrid_objects_keep_their_router_over_a_rebuild(tmp_path: Path) -> None:
    user = HybridIdentity.generate()
    async with running_gateway(tmp_path) as gateway:
        await hybrid_router(gateway)
        document = {"session_id": "101", "parties": {"user": {"recipient": str(user.recipient())}}}
        async with Client(gateway.url, gateway.operator_token) as client:
            token = (await client.open_session(document))["tokens"]["user"]
        path = "/v1/sessions/101/tasks/t1/input"
        urn = (await uploaded(gateway, path, token, b"content"))["urn"]
        await settled(gateway)
    await asyncio.to_thread(lose_catalog, tmp_path / "data")
    assert 0 == (await rebuilt(tmp_path / "data")).status
    async with running_gateway(tmp_path) as gateway:
        token = await new_token(gateway)
        new = HybridIdentity.generate()
        wish = {"party": "user", "recipient": str(new.recipient())}
        assert 201 == (await ask(gateway, "POST", "/v1/sessions/101/keys", token, wish)).status
        job = await run_job(gateway, token)
        assert (1, 0) == (job["progress"]["done"], job["progress"]["failed"])
        shown = (await fetch(gateway, urn, token, part="/manifest")).json()
        assert {"user", "router"} == {party["role"] for party in shown["wrapped_for"]}
        assert b"content" == (await fetch(gateway, urn, token, headers=[PLAINTEXT])).body
        assert b"content" == open_file((await fetch(gateway, urn, token)).body, [new])
        await uploaded(gateway, "/v1/sessions/101/tasks/t2/input", token, b"more")


async def test_a_router_without_an_active_key_keeps_its_place_in_heads(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session, 3)
    second = await rotated(gateway, session)
    of_router = update(key_versions).where(key_versions.c.session_id == "")
    await gateway.catalog.run(lambda c: c.execute(of_router.values(state="retiring")))
    job = await run_job(gateway, session.user_token)

    assert len(bodies) == job["progress"]["done"]
    for urn, body in bodies.items():
        opened = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
        sealed = await fetch(gateway, urn, session.user_token)
        assert body == opened.body == open_file(sealed.body, [second])


async def test_what_the_provider_holds_from_before_is_never_active_again(
    gateway: RunningGateway,
) -> None:
    """Version 1 may have leaked, and a catalog that was rebuilt knows of version 2 alone."""
    (first,) = (str(one.recipient()) for one in gateway.gateway.parts.keyring.opening())
    forgotten = delete(key_versions).where(key_versions.c.recipient == first)
    made = []
    for _ in range(2):
        answer = await ask(gateway, "POST", "/v1/admin/keys", gateway.operator_token, {})
        assert 201 == answer.status
        made.append(answer.json()["recipient"])
        await gateway.catalog.run(lambda c: c.execute(forgotten))

    assert first not in made
    assert 2 == len(set(made))


async def test_a_reseal_does_not_pass_over_what_is_wrapped_anew_meanwhile(
    gateway: RunningGateway, session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await filled(gateway, session, 2)
    before = {
        urn: (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
        for urn in bodies
    }
    real, touched = Reseal.reseal, set[str]()

    async def reseal(self: Reseal, manifest: Manifest) -> Manifest:
        if manifest.object_id not in touched:
            touched.add(manifest.object_id)
            await rotated(gateway, session)
            await run_job(gateway, session.user_token)
        return await real(self, manifest)

    monkeypatch.setattr(Reseal, "reseal", reseal)
    job = await run_job(gateway, session.user_token, "reseal")

    assert (2, 0, 0) == tuple(job["progress"][what] for what in ("done", "changed", "failed"))
    for urn, manifest in before.items():
        now = (await fetch(gateway, urn, session.user_token, part="/manifest")).json()
        assert manifest["payload_id"] != now["payload_id"]


def begun(gateway: RunningGateway, job_id: str, instance_id: str) -> Any:  # noqa: ANN401
    return partial(
        begin_job,
        job_id=job_id,
        kind="reseal",
        parameters={"session_id": None, "rate": 0.0},
        instance_id=instance_id,
        jobs_max=4,
    )


async def test_a_job_that_is_taken_up_knows_what_could_not_be_done_before(
    gateway: RunningGateway, session: OpenSession
) -> None:
    bodies = await filled(gateway, session, 2)
    failed = next(iter(bodies)).rpartition(":")[2]
    job = await gateway.catalog.run(begun(gateway, new_random_id(), "a dead process"))
    counts = {"done": 0, "position": f"{session.session_id}~1"}
    rows = [FailureRow(failed, "blob_missing", "for this test")]
    await gateway.catalog.run(partial(tell_job, job=job, counts=counts, failures=rows))

    await gateway.gateway.services.jobs.recover()
    now = await ended(gateway, gateway.operator_token, job.job_id)
    assert ("done", 1, 1, 2) == (
        now["state"],
        now["progress"]["done"],
        now["progress"]["failed"],
        now["progress"]["to_do"],
    )


async def test_a_job_that_no_task_of_its_process_carries_out_is_taken_up(
    gateway: RunningGateway, session: OpenSession
) -> None:
    """That it began was written down, and the answer of COMMIT was lost."""
    bodies = await filled(gateway, session, 2)
    services = gateway.gateway.services
    job = await gateway.catalog.run(begun(gateway, new_random_id(), services.jobs._instance_id))
    now = await ended(gateway, gateway.operator_token, job.job_id)

    assert ("done", len(bodies)) == (now["state"], now["progress"]["done"])


async def test_a_slow_job_hears_that_it_is_to_stop(
    gateway: RunningGateway, session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it waits for hours, so as not to be faster than it was told."""
    monkeypatch.setattr("storage_gateway.rewrap.PAGE", 1)
    await filled(gateway, session, 3)
    await rotated(gateway, session)
    slow = {"kind": "rewrap", "rate": 0.0001}
    begun = (await ask(gateway, "POST", "/v1/jobs", session.user_token, slow)).json()
    path = f"/v1/jobs/{begun['id']}"

    async def has_done_one() -> bool:
        shown = (await ask(gateway, "GET", path, session.user_token)).json()
        return bool(shown["progress"].get("done"))

    await eventually(has_done_one, what="the first head")
    await ask(gateway, "DELETE", path, session.user_token)
    job = await ended(gateway, session.user_token, begun["id"])

    assert "stopped" == job["state"]
    fences = await gateway.catalog.read(lambda c: c.execute(jobs.select()).all())
    assert [1] == [row.fence for row in fences]
