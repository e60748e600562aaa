"""``slow-client``: senders that drip, and such that fall silent, among ordinary ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

from storage_gateway.errors import BodyTimeout
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import BROKEN
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial

DRIP_S = 0.1
SILENCE_S = 3600.0
PATIENCE = 8
"""A slow client is not cut off in time when it is still there after so many idle times."""


class SlowClient(Parameters, kw_only=True, frozen=True):
    """Parameters of ``slow-client``."""

    sizes: Sizes = (4096, 70_000)
    slow_clients: Annotated[
        int, msgspec.Meta(ge=1, le=256, description="Senders that drip or fall silent")
    ] = 20
    idle_s: Annotated[
        float, msgspec.Meta(gt=0, le=60, description="How long the gateway waits for a byte")
    ] = 1.0


async def run(trial: Trial, parameters: SlowClient) -> None:
    """Let slow senders come beside ordinary ones; each is cut off, the others notice nothing."""
    member = await trial.member("stress")
    hurt: list[str] = []
    not_cut_off: list[str] = []
    cut_off = 0
    async with trial.world.gateway(body_idle_s=parameters.idle_s) as gateway:
        customer = trial.customer(gateway, member)

        async def ordinary() -> None:
            body = trial.body()
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.outcome != OK:
                hurt.append(f"{task_id} came to {answer.outcome}")
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)

        async def slow(number: int) -> None:
            nonlocal cut_off
            body = trial.body()
            task_id = trial.next_task()
            trial.ledger.offer(member, task_id, "input", body)
            source = _drip(body) if number % 2 else _fall_silent(body)
            limit_s = PATIENCE * parameters.idle_s
            answer = await customer.upload(task_id, body, source=source, timeout_s=limit_s)
            if answer.outcome in {BodyTimeout.code, BROKEN}:
                cut_off += 1
            elif answer.outcome != OK:  # who was quick enough after all is stored
                not_cut_off.append(f"{task_id} came to {answer.outcome}")
            again = await trial.deliver(customer, task_id, body)
            if not again.urn:
                hurt.append(f"the slot of {task_id} came to {again.outcome} afterwards")

        async def client(number: int) -> None:
            # The first clients are ordinary ones, all others slow.
            await (ordinary() if number < parameters.clients else slow(number))

        trial.begin_faults()
        await trial.crowd(client, parameters.clients + parameters.slow_clients)
    trial.require_all("slow clients are cut off", not_cut_off)
    trial.require_all("ordinary clients notice nothing", hurt)
    trial.verdict.require(
        "there were slow clients", met=cut_off > 0, evidence=f"{cut_off} were cut off"
    )


async def _drip(body: Body) -> AsyncIterator[bytes]:
    """Send a byte at a time."""
    for piece in body.pieces():
        for at in range(len(piece)):
            yield piece[at : at + 1]
            await asyncio.sleep(DRIP_S)


async def _fall_silent(body: Body) -> AsyncIterator[bytes]:
    """Send half of it, then nothing."""
    first = next(body.pieces(), b"")
    yield first[: max(1, len(first) // 2)]
    await asyncio.sleep(SILENCE_S)


CASE = Case(
    name="slow-client",
    edge_case="Some senders drip a byte at a time or fall silent within a body, and hold what"
    " others need.",
    fault="Slow and silent senders.",
    load="Ordinary uploads beside many slow ones; the slot of a slow one is then used by a quick"
    " one.",
    passes_when="Slow senders are cut off with a reason, their slots are free again, and ordinary"
    " uploads are taken at once all the while.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=SlowClient,
    expected_s=12.0,
    run=run,
)
