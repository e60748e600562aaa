"""``backend-flapping``: stores go and come in turns, faster than who failed is asked again."""

import asyncio
import collections
from typing import Annotated

import msgspec

from storage_gateway.backends.health import FAILURES_MAX
from storage_gateway.errors import BackendUnavailable
from storage_gateway.records import INPUT
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import GONE
from storage_gateway.stress.trial import WORTH_RETRYING, Trial

REFUSED_SIZE = 4096
AFTERWARDS = 3
"""Bodies that are sent as soon as all stores are back for good."""


class BackendFlapping(Parameters, kw_only=True, frozen=True):
    """Parameters of ``backend-flapping``."""

    sizes: Sizes = (4096, 1_500_000)
    flap_s: Annotated[
        float, msgspec.Meta(gt=0, le=60, description="Others are gone after up to so long")
    ] = 0.3


async def run(trial: Trial, parameters: BackendFlapping) -> None:
    """Ask for what only stores have that are gone; then let any of them go and come under load."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        trial.begin_faults()
        await _ask_who_lacks_it(trial, customer, unstored)
        refused = [trial.body(REFUSED_SIZE) for _ in range(FAILURES_MAX)]
        taken = [trial.body() for _ in range(AFTERWARDS)]

        async def client(_number: int) -> None:
            await trial.round_trip(customer, unstored)

        flapping = asyncio.create_task(_flap(trial, parameters.flap_s))
        try:
            await trial.crowd(client)
        finally:
            flapping.cancel()
            await asyncio.gather(flapping, return_exceptions=True)
            await trial.world.heal()
        await _write_to_who_failed(trial, customer, refused, taken, unstored)
    wrong = [
        f"{operation} came to {outcome}"
        for operation, counted in trial.record.outcomes.items()
        for outcome in counted
        if outcome != OK and outcome not in WORTH_RETRYING
    ]
    trial.require_all("nothing is answered but what to try again after", wrong)
    trial.require_all("every body is stored in the end", unstored)
    flaps = trial.notes["flaps"]
    trial.verdict.require(
        "stores went and came",
        met=bool(flaps.total()),
        evidence=f"calls of stores that were gone: {dict(flaps)}",
    )


async def _ask_who_lacks_it(trial: Trial, customer: Customer, unstored: list[str]) -> None:
    """Store a body while one store is gone; read it when that one is back and the others gone."""
    lacking, *having = trial.world.stores
    await lacking.suffer(GONE)
    body, task_id = trial.body(), trial.next_task()
    stored = await trial.deliver(customer, task_id, body)
    if not stored.urn:
        unstored.append(f"{task_id} ended in {stored.outcome}")
        return
    await trial.world.wait_late()
    await lacking.heal()
    for each in having:
        await each.suffer(GONE)
    answer = await customer.fetch(stored.urn, size=body.size)
    trial.verdict.require(
        "what may be in a store that is gone is not called lost",
        met=answer.outcome == BackendUnavailable.code,
        evidence=f"{stored.urn} came to {answer.outcome}",
    )
    await trial.world.heal()
    await trial.read_back(customer, stored.urn, body)


async def _write_to_who_failed(
    trial: Trial, customer: Customer, refused: list[Body], taken: list[Body], unstored: list[str]
) -> None:
    """Let all stores fail so often that they would be left alone; then send as they are back."""
    for each in trial.world.stores:
        await each.suffer(GONE)
    for body in refused:
        task_id = trial.next_task()
        trial.ledger.offer(customer.member, task_id, INPUT, body)
        await customer.upload(task_id, body)
    await trial.world.heal()
    before = trial.record.outcomes["upload"].copy()
    for body in taken:
        await trial.round_trip(customer, unstored, body)
    after = trial.record.outcomes["upload"] - before
    trial.verdict.require(
        "stores that are back are written to at once, however often they failed",
        met=set(after) == {OK},
        evidence=f"uploads once all were back: {dict(after)}",
    )


async def _flap(trial: Trial, flap_s: float) -> None:
    """Let others be gone, any number of them, over and over; count what they were asked then."""
    chance, stores = trial.chance("flaps"), trial.world.stores
    flaps: collections.Counter[str] = collections.Counter()
    trial.notes["flaps"] = flaps
    while True:
        drawn = chance.below(1 << len(stores))
        gone = [each for number, each in enumerate(stores) if drawn >> number & 1]
        for each in stores:
            await (each.suffer(GONE) if each in gone else each.heal())
        asked = [each.faulty.asked.total() for each in gone]
        try:
            await asyncio.sleep(flap_s * chance.fraction())
        finally:
            for each, before in zip(gone, asked, strict=True):
                flaps[each.name] += each.faulty.asked.total() - before


CASE = Case(
    name="backend-flapping",
    edge_case="Stores go and come again and again, in turns, for shorter times than one that failed"
    " is left alone.",
    fault="First those are gone that have a body, while the one that lacks it is back; then any of"
    " three stores, one, two or all, for moments.",
    load="Clients that upload, each until it is stored, and read back.",
    passes_when="No answer is wrong: what may be in a store that is gone is not called lost; every"
    " body is stored in the end; stores that are back are used at once where no quorum is without"
    " them.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=BackendFlapping,
    bytes_min=bytes_of_bodies(AFTERWARDS + 2, *[REFUSED_SIZE] * FAILURES_MAX),
    expected_s=12.0,
    stores=3,
    quorum=2,
    run=run,
)
