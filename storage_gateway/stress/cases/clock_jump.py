"""``clock-jump``: the database's clock is set forward and back under two gateways at work."""

import asyncio
import threading
import time
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Member
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import Reachable

WRITE_DELAY_S = 0.3
"""Uploads take so long that a jump falls within them."""
LEASE_S, RENEW_S = 2.0, 0.5
PLACED = "finish done"
"""The payload is durable, the commit is next."""
HELD_S_MAX = 30.0
HELD_SIZE = 4096
POLL_S = 0.05


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
    """Jump within two commits for certain, then while two gateways share a load."""
    member = await trial.member("stress")
    unstored: list[str] = []
    leases = {"instance_lease_s": LEASE_S, "instance_renew_s": RENEW_S}
    async with trial.world.gateway(**leases) as one, trial.world.gateway(**leases) as other:
        trial.begin_faults()
        for set_back in (False, True):
            await _jump_within_commit(trial, parameters, member, one, set_back=set_back)
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


async def _jump_within_commit(
    trial: Trial, parameters: ClockJump, member: Member, gateway: Reachable, *, set_back: bool
) -> None:
    """Hold an upload right before its commit, jump until the other gateway has claimed it and
    cleared it away, then let it go on. With the clock set back, its lease seems to hold again.
    """
    body, task_id = trial.body(HELD_SIZE), trial.next_task()
    trial.ledger.offer(member, task_id, "input", body)
    customer = trial.customer(gateway, member)
    there, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(point: str) -> None:
        if point == PLACED:
            loop.call_soon_threadsafe(there.set)
            go.wait(HELD_S_MAX)

    began_ms = trial.world.clock.shift_ms
    trial.world.store.faults = StoreFaults(at_point=hold)
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(customer.upload(task_id, body))
        sent.add_done_callback(lambda _sent: there.set())  # refused, it never gets there
        try:
            await there.wait()
            claimed = not sent.done() and await _jump_until_claimed(trial, parameters)
            if set_back:
                trial.world.clock.shift_ms = began_ms
        finally:
            trial.world.store.heal()
            go.set()
    late = sent.result()
    trial.verdict.require(
        "an upload was claimed by the clock alone, right before its commit",
        met=claimed,
        evidence=f"{task_id}, the clock {'set back' if set_back else 'left'} afterwards",
    )
    trial.judge_late(member, task_id, body, late)
    answer = await trial.deliver(customer, task_id, body)
    stored = f"{task_id} then came to {answer.outcome}"
    trial.verdict.require("its slot is free again", met=bool(answer.urn), evidence=stored)


async def _jump_until_claimed(trial: Trial, parameters: ClockJump) -> bool:
    """Jump forward faster than leases are renewed; tell whether the intent went away by it."""
    began = time.monotonic()
    while "intents" in await trial.world.unsettled():
        if time.monotonic() - began > HELD_S_MAX / 2:
            return False
        trial.world.clock.shift_ms += int(max(parameters.jump_s, 2 * LEASE_S) * 1000)
        trial.notes["jumps"] = trial.notes.get("jumps", 0) + 1
        await asyncio.sleep(POLL_S)
    return True


async def _jump(trial: Trial, parameters: ClockJump) -> None:
    """Jump forward, then anywhere; the clock is left at the latest time it has shown."""
    chance = trial.chance("jumps")
    clock = trial.world.clock
    began_ms = latest_ms = clock.shift_ms
    try:
        for number in range(1_000_000):
            await asyncio.sleep(parameters.every_s * chance.fraction())
            # The first one goes forward, all the way: leases end in the midst of uploads.
            share = 1.0 if number == 0 else 2 * chance.fraction() - 1
            clock.shift_ms = began_ms + int(share * parameters.jump_s * 1000)
            latest_ms = max(latest_ms, clock.shift_ms)
            trial.notes["jumps"] = trial.notes.get("jumps", 0) + 1
    finally:
        clock.shift_ms = latest_ms


CASE = Case(
    name="clock-jump",
    edge_case="The database's clock is set forward and back by an hour while uploads are under"
    " way, so that leases seem to have run out or never to end.",
    fault="The clock that all units see jumps: first while an upload is held right before its"
    " commit, until it is claimed, then at any time, with a slow store, so that jumps fall into"
    " uploads.",
    load="Two uploads that are held; then uploads through two gateways that share catalog and"
    " store, each sent again until stored.",
    passes_when="Whoever lost an upload to the other's recovery cannot commit it, every body is"
    " stored in the end and readable, and nothing is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ClockJump,
    expected_s=10.0,
    run=run,
)
