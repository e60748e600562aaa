"""``backend-outage``: one store of three is gone for a time, then all of them."""

import asyncio

from storage_gateway.catalog.copies import PENDING
from storage_gateway.errors import BackendUnavailable, Erased
from storage_gateway.records import INPUT, ObjectState
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import erase_all, require_erased, require_erasing, trace_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import GONE
from storage_gateway.stress.tampering import copies_of
from storage_gateway.stress.trial import Trial

KEPT, ERASED_EARLY, ERASED_LATE = 2, 2, 1
"""Objects that are stored before, and read, or erased while one or all stores are gone."""
ASKED_MAX = 8
"""Objects that are stored while one is gone, and asked for one by one."""
REFUSED_SIZE = 4096
ERASING = "what is erased meanwhile is erasing, and unreadable from then on"


class BackendOutage(Parameters, kw_only=True, frozen=True):
    """Parameters of ``backend-outage``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: BackendOutage) -> None:
    """Let one store be gone under load, then all of them; then they come back."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        count = KEPT + ERASED_EARLY + ERASED_LATE
        stored = [await trial.round_trip(customer, unstored) for _ in range(count)]
        kept, erased, late = stored[:KEPT], stored[KEPT:-ERASED_LATE], stored[-ERASED_LATE:]
        traces = await trace_all(trial, erased + late)
        last, small = trial.body(), trial.body(REFUSED_SIZE)
        trial.begin_faults()
        await trial.world.stores[0].suffer(GONE)
        await erase_all(trial, customer, erased, ERASING, state=ObjectState.ERASING)
        kept += await _store_without_one(trial, customer, unstored)
        await require_erasing(trial, erased)
        for each in trial.world.stores[1:]:
            await each.suffer(GONE)
        sending = asyncio.create_task(trial.round_trip(customer, unstored, last))
        await erase_all(trial, customer, late, ERASING, state=ObjectState.ERASING)
        await _require_refused(trial, customer, small, kept, erased + late)
        await trial.world.heal()
        await sending
        criterion = "what was erased meanwhile is erased, and gone, once all stores are back"
        await require_erased(trial, traces, criterion)
        for urn in kept:
            await trial.read_back(customer, urn, trial.ledger.acknowledged[urn][1])
    trial.require_all("every body is stored in the end", unstored)


async def _store_without_one(trial: Trial, customer: Customer, unstored: list[str]) -> list[str]:
    """Upload and read back while the first store is gone; return some of what was stored."""
    before = {name: counted.copy() for name, counted in trial.record.outcomes.items()}
    stored: list[str] = []

    async def client(_number: int) -> None:
        stored.append(await trial.round_trip(customer, unstored))

    await trial.crowd(client)
    seen = {name: dict(trial.record.outcomes[name] - before[name]) for name in ("upload", "fetch")}
    trial.verdict.require(
        "one store that is gone makes no request fail",
        met=all(set(counted) == {OK} for counted in seen.values()),
        evidence=f"requests while it was gone: {seen}",
    )
    stored = [urn for urn in stored if urn][:ASKED_MAX]
    gone = trial.world.stores[0].name
    lacking = [urn for urn in stored if gone in await copies_of(trial.world, urn, PENDING)]
    trial.verdict.require(
        "the store that is gone has nothing of what was stored meanwhile",
        met=bool(stored) and lacking == stored,
        evidence=f"{len(lacking)} of {len(stored)} objects are still to come to it",
    )
    return stored


async def _require_refused(
    trial: Trial, customer: Customer, body: Body, kept: list[str], erased: list[str]
) -> None:
    """Require that, with all stores gone, it is said so, and that nothing is called lost."""
    wrong = []
    task_id = trial.next_task()
    trial.ledger.offer(customer.member, task_id, INPUT, body)
    answers = {task_id: await customer.upload(task_id, body)}
    for urn in kept:
        answers[urn] = await customer.fetch(urn, size=0)
    for what, answer in answers.items():
        if (answer.status, answer.outcome) != (503, BackendUnavailable.code):
            wrong.append(f"{what} came to {answer.status} {answer.outcome}")
    for urn in erased:
        answer = await customer.fetch(urn, size=0)
        if answer.outcome != Erased.code:
            wrong.append(f"{urn}, which is erased, came to {answer.outcome}")
    trial.require_all("without a store the answer is 503, and nothing is called lost", wrong)


CASE = Case(
    name="backend-outage",
    edge_case="A store cannot be reached for a time, and then none can.",
    fault="One store of three is out of reach; then all of them; then they come back.",
    load="Clients that upload, read back and erase.",
    passes_when="One store that is gone is not noticed, but that nothing counts as erased before it"
    " was seen clean; without any the answer is 503 and nothing is called lost; everything is"
    " stored, readable and erased once they are back.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=BackendOutage,
    bytes_min=bytes_of_bodies(KEPT + ERASED_EARLY + ERASED_LATE + 2, REFUSED_SIZE),
    expected_s=10.0,
    stores=3,
    quorum=2,
    run=run,
)
