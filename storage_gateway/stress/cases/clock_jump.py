"""``clock-jump``: the database's clock is set forward and back under two gateways at work."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial

WRITE_DELAY_S = 0.3
"""Uploads take so long that a jump falls within them."""
LEASE_S, RENEW_S = 2.0, 0.5


class ClockJump(Parameters, kw_only=True, frozen=True):
    """Parameters of ``clock-jump``."""

    sizes: Sizes = (4096, 70_000)
    jump_s: Annotated[
        float, msgspec.Meta(gt=0, le=30 * 86400, description="The clock jumps by up to so much")
    ] = 3600.0
    every_s: Annotated[
        float, msgspec.Meta(gt=0, le=600, description="From one jump to the next")
    ] = 0.5


async def run(trial: Trial, parameters: ClockJump) -> None:
    """Let two gateways share the load while leases run out, or never end, by the clock alone."""
    member = await trial.member("stress")
    unstored: list[str] = []
    leases = {"instance_lease_s": LEASE_S, "instance_renew_s": RENEW_S}
    async with trial.world.gateway(**leases) as one, trial.world.gateway(**leases) as other:
        customers = [trial.customer(gateway, member) for gateway in (one, other)]

        async def client(number: int) -> None:
            body = trial.body()
            task_id = trial.next_task()
            customer = customers[number % len(customers)]
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

        trial.begin_faults()
        trial.world.store.faults = StoreFaults(delay_s={"finish": WRITE_DELAY_S})
        jumps = asyncio.create_task(_jump(trial, parameters))
        try:
            await trial.crowd(client)
        finally:
            jumps.cancel()
            await asyncio.gather(jumps, return_exceptions=True)
            trial.world.store.heal()
    trial.require_all("every body is stored in the end", unstored)
    count = trial.notes.get("jumps", 0)
    trial.verdict.require("the clock jumped", met=count > 0, evidence=f"{count} jumps")


async def _jump(trial: Trial, parameters: ClockJump) -> None:
    """Jump forward, then anywhere; the clock is left at the latest time it has shown."""
    chance = trial.chance("jumps")
    clock = trial.world.clock
    latest_ms = 0
    try:
        for number in range(1_000_000):
            await asyncio.sleep(parameters.every_s * chance.fraction())
            # The first one goes forward, all the way: leases end in the midst of uploads.
            share = 1.0 if number == 0 else 2 * chance.fraction() - 1
            clock.shift_ms = int(share * parameters.jump_s * 1000)
            latest_ms = max(latest_ms, clock.shift_ms)
            trial.notes["jumps"] = number + 1
    finally:
        clock.shift_ms = latest_ms


CASE = Case(
    name="clock-jump",
    edge_case="The database's clock is set forward and back by an hour while uploads are under"
    " way, so that leases seem to have run out or never to end.",
    fault="The clock that all units see jumps; the store is slow, so that jumps fall into uploads.",
    load="Uploads through two gateways that share catalog and store, each sent again until stored.",
    passes_when="Whoever lost an upload to the other's recovery cannot commit it, every body is"
    " stored in the end and readable, and nothing is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ClockJump,
    expected_s=10.0,
    run=run,
)
