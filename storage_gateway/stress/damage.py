"""What the cases of damage at rest have in common: objects are stored, damaged, read, put right."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from storage_gateway.catalog.copies import BAD, load_placements

from .bodies import Body
from .load import Customer
from .record import OK
from .tampering import manifest_of
from .trial import LoadSpent, Trial

OBJECTS_MAX = 64
NOTED_S_MAX = 10.0

Damage = Callable[[str, int, AsyncExitStack], Awaitable[None]]
"""Damages an object (its URN) in the store of that number until the stack is closed."""


async def read_under_damage(trial: Trial, damage: Damage) -> None:
    """Store objects; damage each in the first of the run's stores, and read; then in all of them.

    Requires that every read is right as long as one copy is, that each bad copy that was read is
    noted in the catalog, that a read of nothing but bad copies fails, and that all is right again
    once the damage is undone.
    """
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = await _stored(trial, customer)
        trial.begin_faults()
        async with AsyncExitStack() as opened:
            for urn in stored:
                await damage(urn, 0, opened)
            wrong = [urn for urn, body in stored.items() if not await _reads(customer, urn, body)]
            trial.require_all("what one store has right is read right", wrong)
            await _require_noted(trial, list(stored), within_s=0 if wrong else NOTED_S_MAX)
            for store in range(1, len(trial.world.stores)):
                for urn in stored:
                    await damage(urn, store, opened)
            await _require_refused(trial, customer, stored)
        wrong = [urn for urn, body in stored.items() if not await _reads(customer, urn, body)]
        trial.require_all("all is read again once the damage is undone", wrong)


async def _stored(trial: Trial, customer: Customer) -> dict[str, Body]:
    """Return as many objects as clients can store in the time there is, by their URNs."""
    stored: dict[str, Body] = {}
    unstored: list[str] = []

    async def client(_number: int) -> None:
        if len(stored) >= OBJECTS_MAX:
            raise LoadSpent
        body, task_id = trial.body(), trial.next_task()
        answer = await trial.deliver(customer, task_id, body)
        if answer.urn:
            stored[answer.urn] = body
        else:
            unstored.append(f"{task_id} ended in {answer.outcome}")

    await trial.crowd(client)
    trial.require_all("every body is stored", unstored)
    return stored


async def _reads(customer: Customer, urn: str, body: Body) -> bool:
    answer = await customer.fetch(urn, size=body.size)
    return answer.outcome == OK and answer.digest == body.digest


async def _require_noted(trial: Trial, urns: list[str], *, within_s: float) -> None:
    """Require that reads noted bad copies: not of all, since they go where the answer is quick."""

    async def noted() -> int:
        count = 0
        for urn in urns:
            payload_id = (await manifest_of(trial.world, urn)).payload_id
            bad = await trial.world.catalog.inner.read(
                partial(load_placements, payload_id=payload_id, state=BAD)
            )
            count += bool(bad)
        return count

    await trial.eventually(noted, within_s=within_s)
    count = await noted()
    trial.verdict.require(
        "bad copies are noted", met=count > 0, evidence=f"of {count} of {len(urns)} objects"
    )


async def _require_refused(trial: Trial, customer: Customer, stored: dict[str, Body]) -> None:
    outcomes: dict[str, int] = {}
    for urn, body in stored.items():
        answer = await customer.fetch(urn, size=body.size)
        outcomes[answer.outcome] = outcomes.get(answer.outcome, 0) + 1
        if answer.outcome == OK:
            trial.verdict.broken(8, f"{urn} was answered whole although no copy of it is right")
    trial.verdict.require(
        "what no store has right is refused", met=OK not in outcomes, evidence=f"{outcomes}"
    )
