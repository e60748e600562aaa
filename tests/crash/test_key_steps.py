"""Goal: a gateway may die between any two transactions of rotations, a rewrap and a reseal: an
object always opens with exactly what its manifest says, and all comes to its end after a restart.

Method: a real gateway whose catalog does nothing more from its n-th transaction on, before or after
that took effect; for each n until the script comes to its end. Another gateway on the same folder
then goes on.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from crypto import Identity, NoIdentityMatch, X25519Identity, open_file, parse_recipient
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.jobs import list_jobs
from storage_gateway.catalog.tables import graves, intents, key_versions, objects
from storage_gateway.errors import CatalogUnavailable, GatewayError
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import exchange, request
from tests.http.steps import fetch, uploaded
from tests.http.test_jobs import run_job
from tests.http.test_keys import ask

LEASE = {"instance_lease_s": 1.5, "instance_renew_s": 0.4, "read_grace_s": 0.1}
OBJECTS = 3
STEPS_MAX = 400
DEATHS_MIN = 20


@dataclass
class Death:
    """Ends the writing of whoever has a catalog at one of its transactions."""

    at: int
    takes_effect: bool
    count: int = 0
    is_dead: bool = False

    def stop(self, catalog: Catalog) -> None:
        of_catalog: Any = catalog
        run: Callable[..., Awaitable[Any]] = catalog.run

        async def dying(unit: Callable[..., Any]) -> Any:  # noqa: ANN401 - as the unit answers
            if self.is_dead:
                raise CatalogUnavailable("dead")
            self.count += 1
            if self.count < self.at:
                return await run(unit)
            self.is_dead = True
            if self.takes_effect:
                await run(unit)
            raise CatalogUnavailable("dies")

        of_catalog.run = dying


@dataclass
class Held:
    """What the parties hold: every identity that was ever registered or tried, by its recipient."""

    session_id: str
    token: str
    identities: dict[str, Identity]
    bodies: dict[str, bytes] = field(default_factory=dict)

    def new(self) -> str:
        identity = X25519Identity.generate()
        recipient = str(identity.recipient())
        self.identities[recipient] = identity
        return recipient


async def script(gateway: RunningGateway, held: Held, death: Death) -> None:
    """Rotate the user's and the router's key, wrap anew, reseal; give up at the first refusal."""
    operator, keys = gateway.operator_token, f"/v1/sessions/{held.session_id}/keys"
    wish = {"party": "user", "recipient": held.new()}
    for path, document in ((keys, wish), ("/v1/admin/keys", {})):
        if (await ask(gateway, "POST", path, operator, document)).status != 201:
            return
    for kind in ("rewrap", "reseal"):
        begun = await ask(gateway, "POST", "/v1/jobs", operator, {"kind": kind})
        if begun.status != 202:
            return
        path = f"/v1/jobs/{begun.json()['id']}"

        async def is_over(path: str = path) -> bool:
            shown = await exchange(gateway.address, request("GET", path, operator))
            return death.is_dead or "ended" in shown.json()

        await eventually(is_over, what="the end of a job")


async def lived_through(tmp_path: Path, death: Death) -> Held:
    """Let a gateway die; return what its parties hold."""
    with suppress(GatewayError):
        async with running_gateway(tmp_path, **LEASE) as gateway:
            session = await open_session(gateway, "101")
            parties = (session.user, session.miner, session.other_miner)
            held = Held("101", session.user_token, {str(p.recipient()): p for p in parties})
            for number in range(OBJECTS):
                body = b"content %d" % number
                path = session.path(f"t{number}")
                urn = (await uploaded(gateway, path, session.user_token, body))["urn"]
                held.bodies[urn] = body
            death.stop(gateway.catalog)
            await script(gateway, held, death)
    return held


async def assert_all_well(gateway: RunningGateway, held: Held) -> None:
    """One active version each; every object opens for those in its manifest, for nobody else."""
    active = await gateway.catalog.read(
        lambda c: c.execute(
            select(key_versions.c.session_id, key_versions.c.role, key_versions.c.miner)
            .where(key_versions.c.state == "active")
            .order_by(key_versions.c.session_id, key_versions.c.role, key_versions.c.miner)
        ).all()
    )
    assert len(active) == len(set(active)) == 4
    known = {str(i.recipient()): i for i in gateway.gateway.parts.keyring.opening()}
    everyone = held.identities | known
    for urn, body in held.bodies.items():
        shown = (await fetch(gateway, urn, held.token, part="/manifest")).json()
        sealed = (await fetch(gateway, urn, held.token)).body
        opened = {r for r, identity in everyone.items() if _opens(sealed, identity, body)}
        assert {p["recipient"] for p in shown["wrapped_for"]} == opened
        assert all(parse_recipient(recipient) for recipient in opened)


def _opens(sealed: bytes, identity: Identity, body: bytes) -> bool:
    try:
        assert body == open_file(sealed, [identity])
    except NoIdentityMatch:
        return False
    return True


async def assert_comes_to_its_end(gateway: RunningGateway, held: Held) -> None:
    async def all_ended() -> bool:
        jobs = await gateway.catalog.read(list_jobs)
        return all(job.ended_ms is not None for job in jobs)

    await eventually(all_ended, what="the end of jobs that were taken up")
    assert {"done"} >= {job.state.value for job in await gateway.catalog.read(list_jobs)}
    await assert_all_well(gateway, held)
    job = await run_job(gateway, gateway.operator_token)
    assert 0 == job["progress"]["failed"]
    await assert_all_well(gateway, held)
    versions = (await ask(gateway, "GET", "/v1/sessions/101/keys", held.token)).json()["keys"]
    assert {0} >= {key["heads"] for key in versions if key["state"] == "retiring"}

    async def is_clean() -> bool:
        counts = [select(func.count()).select_from(table) for table in (graves, intents)]
        return await gateway.catalog.read(
            lambda c: not any(c.execute(count).scalar_one() for count in counts)
        )

    await eventually(is_clean, what="the end of what was given up")
    named = await gateway.catalog.read(
        lambda c: set(c.execute(select(objects.c.payload_id)).scalars())
    )
    prefix = gateway.gateway.parts.payloads
    stored = [blob.key async for blob in gateway.store.list(prefix)]
    assert named == {key.removeprefix(prefix).partition("/")[0] for key in stored}


@pytest.mark.nightly
@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
async def test_dying_at_any_transaction_loses_nobody_their_objects(
    tmp_path: Path,
    nightly: bool,
    takes_effect: bool,
) -> None:
    deaths = 0
    for at in range(1, STEPS_MAX):
        folder = tmp_path / str(at)
        death = Death(at, takes_effect=takes_effect)
        held = await lived_through(folder, death)
        async with running_gateway(folder, **LEASE) as gateway:
            await assert_comes_to_its_end(gateway, held)
        if not death.is_dead:
            break
        deaths += 1
    else:
        pytest.fail("the script did not come to its end")
    assert deaths >= DEATHS_MIN
