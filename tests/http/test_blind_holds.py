"""Goal: under a hold no head goes, nor one that a user has replaced: what they put in its place
is not opened here, and may open nothing.

Method: blind sessions whose clients replace heads and confirm them, over HTTP; recovery passes, by
hand, once the time of what is kept is over.
"""

from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage_gateway.catalog.blind_tables import kept_headers
from storage_gateway.catalog.tables import objects
from tests.gateway import MINER, OTHER_MINER, RunningGateway, eventually, running_gateway
from tests.http.blind_world import BlindSession, open_blind
from tests.http.claims_world import SETTINGS, ask

pytestmark = pytest.mark.both_databases

HOLD = {"who": "the court", "why": "case 7"}
SOON = {"kept_header_s": 0.2, "recovery_interval_s": 3600}


async def kept(gateway: RunningGateway) -> list[str]:
    """Return the objects of which a former head is kept."""
    query = select(kept_headers.c.object_id)
    return await gateway.catalog.read(lambda c: list(c.execute(query).scalars()))


async def replaced(blind: BlindSession, task: str) -> str:
    """Upload an object, give it a new head; return its URN."""
    made = await blind.put(task, b"content")
    await blind.rotate("router")
    await blind.rewrap(made["urn"], blind.identities["user"])
    return str(made["urn"])


def object_id_of(urn: str) -> str:
    return urn.rpartition(":")[2]


async def operate(gateway: RunningGateway, path: str, part: str = "") -> str:
    answer = await ask(gateway, "POST", f"{path}/holds{part}", gateway.operator_token, HOLD)
    assert answer.status in {200, 201}, answer
    return str(answer.json()["hold_id"])


async def passed_over(gateway: RunningGateway, left: list[str]) -> None:
    """Wait until the passes have dropped all former heads but those."""

    async def are_left() -> bool:
        await gateway.gateway.recovery.run_once()
        return sorted(await kept(gateway)) == sorted(map(object_id_of, left))

    await eventually(are_left, what=f"{len(left)} former heads")


@pytest.mark.parametrize("scope", ["object", "session"])
async def test_a_head_that_was_replaced_stays_as_long_as_a_hold(tmp_path: Path, scope: str) -> None:
    async with running_gateway(tmp_path, **SOON) as gateway:
        blind, other = await open_blind(gateway, "101"), await open_blind(gateway, "102")
        held = await replaced(blind, "t1")
        path = f"/v1/objects/{held}" if scope == "object" else "/v1/sessions/101"
        hold_id = await operate(gateway, path)
        for who in ("router", MINER, OTHER_MINER):
            assert 200 == (await blind.confirm(held, 2, who)).status
        assert [object_id_of(held)] == await kept(gateway)
        # One that came later has gone by its time: that of the held one was over before.
        await replaced(other, "t1")
        await passed_over(gateway, [held])
        former = await blind.get(held, part="/header?generation=1")
        assert 200 == former.status

        await operate(gateway, path, f"/{hold_id}/release")
        await passed_over(gateway, [])


async def test_a_hold_on_one_keeps_no_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, **SOON) as gateway:
        blind = await open_blind(gateway, "101")
        held, free = await replaced(blind, "t1"), await replaced(blind, "t2")
        await operate(gateway, f"/v1/objects/{held}")
        await passed_over(gateway, [held])
        for who in ("router", MINER, OTHER_MINER):
            assert 200 == (await blind.confirm(free, 2, who)).status
        assert [object_id_of(held)] == await kept(gateway)


async def test_a_head_that_was_replaced_stays_as_long_as_compliance_keeps_it(
    tmp_path: Path,
) -> None:
    async with running_gateway(
        tmp_path, **SOON | SETTINGS | {"retention_policy": "strict"}
    ) as gateway:
        blind = await open_blind(gateway, "101")
        urn = await replaced(blind, "t1")
        for who in ("router", MINER, OTHER_MINER):
            assert 200 == (await blind.confirm(urn, 2, who)).status
        await passed_over(gateway, [urn])
        over = update(kept_headers).values(keep_until_ms=0)
        await gateway.catalog.run(lambda c: c.execute(over).close())
        await gateway.gateway.recovery.run_once()
        assert [object_id_of(urn)] == await kept(gateway)

        over = update(objects).values(keep_until_ms=1, expires_ms=1)
        await gateway.catalog.run(lambda c: c.execute(over).close())
        await passed_over(gateway, [])
