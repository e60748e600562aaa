"""``catalog-stall``: a database that hangs, refuses, and does what it says it did not."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.catalog.faulty import COMMITTED, CatalogFaults
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Parameters, Share, Sizes
from storage_gateway.stress.trial import Trial

HEALTHY_SHARE = 0.2
"""Of the time, at the beginning and between stalls."""


class CatalogStall(Parameters, kw_only=True, frozen=True):
    """Parameters of ``catalog-stall``."""

    sizes: Sizes = (4096, 70_000)
    stall_s: Annotated[
        float, msgspec.Meta(ge=0, le=60, description="Transactions wait up to so long to begin")
    ] = 0.5
    refused: Annotated[Share, msgspec.Meta(description="Transactions that fail at once")] = 0.1
    lost_answers: Annotated[
        Share, msgspec.Meta(description="Transactions that take effect, and fail all the same")
    ] = 0.2


async def run(trial: Trial, parameters: CatalogStall) -> None:
    """Stall for most of the time; every client goes on until its body is stored."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int = 0) -> None:
            body = trial.body()
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

        trial.begin_faults()
        if parameters.lost_answers:
            # The one answer that matters most is lost for certain, whatever the draws say.
            trial.world.catalog.faults = CatalogFaults(at_point=_lose_commit)
            await client()
            trial.world.catalog.heal()
        faults = asyncio.create_task(_stalls(trial, parameters))
        try:
            await trial.crowd(client)
        finally:
            faults.cancel()
            await asyncio.gather(faults, return_exceptions=True)
            trial.world.catalog.heal()
    injected = trial.world.catalog.injected
    trial.require_all("every body is stored in the end", unstored)
    trial.verdict.require(
        "the catalog stalled and lost answers",
        met=injected["stall"] > 0 and (injected["lost_answer"] > 0 or not parameters.lost_answers),
        evidence=f"{injected['stall']} stalls, {injected['lost_answer']} answers lost",
    )


def _lose_commit(point: str) -> None:
    if point == COMMITTED:
        raise CatalogUnavailable("the answer of a commit was lost (injected)")


async def _stalls(trial: Trial, parameters: CatalogStall) -> None:
    """Let the catalog be ill from the beginning, with short times of health between."""
    period_s = max(0.2, parameters.duration_s / 4)
    while True:
        trial.world.catalog.faults = CatalogFaults(
            stall_s=parameters.stall_s,
            refused=parameters.refused,
            lost_answer=parameters.lost_answers,
        )
        await asyncio.sleep(period_s * (1 - HEALTHY_SHARE))
        trial.world.catalog.heal()
        await asyncio.sleep(period_s * HEALTHY_SHARE)


CASE = Case(
    name="catalog-stall",
    edge_case="The database hangs, refuses, or commits and loses the answer, in the midst of"
    " uploads.",
    fault="Transactions and reads wait, fail, or take effect and fail all the same.",
    load="An upload whose commit loses its answer; then uploads, each sent again until stored, each"
    " read back at once.",
    passes_when="Failures are told as such, a commit whose answer was lost is found again, every"
    " body is stored in the end, and nothing of the failed attempts is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CatalogStall,
    expected_s=10.0,
    run=run,
)
