"""``backend-full``: a store has no space left, then too few have any."""

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import StorageFull
from storage_gateway.records import INPUT, ObjectState
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tampering import manifest_of
from storage_gateway.stress.trial import Trial

RUNS_FULL = Ailment(calls=StoreFaults(full=0.3))
"""Some of its writes still find space, so that it keeps parts."""
FULL = Ailment(calls=StoreFaults(full=1.0))
KEPT, ERASED = 2, 2
"""Objects that are stored before, and read or erased while there is no space."""
REFUSED_SIZE = 4096
CLEAN_S_MAX = 20.0


class BackendFull(Parameters, kw_only=True, frozen=True):
    """Parameters of ``backend-full``."""

    sizes: Sizes = (4096, 1_500_000)


def bytes_of_all(parameters: BackendFull) -> int:
    """Return what is sent and read back before the load, by one client, and after it."""
    sizes = parameters.sizes
    return 2 * ((KEPT + ERASED + 2) * max(sizes) + REFUSED_SIZE + sum(sizes))


async def run(trial: Trial, _parameters: BackendFull) -> None:
    """Let one store of three be full under load, then too many; then there is space again."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = [await trial.round_trip(customer, unstored) for _ in range(KEPT + ERASED)]
        trial.begin_faults()
        refused = _bodies(trial)
        await _store_with_one_full(trial, customer, unstored)
        for each in trial.world.decisive:
            await each.suffer(FULL)
        await _require_refused(trial, customer, refused)
        await _require_of_use(trial, customer, stored[:KEPT], stored[KEPT:])
        await trial.world.heal()
        before = trial.record.outcomes["upload"].copy()
        for task_id, body in refused.items():
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")
    after = dict(trial.record.outcomes["upload"] - before)
    trial.verdict.require(
        "what was refused is taken as soon as there is space",
        met={OK} == set(after),
        evidence=f"the same, sent again: {after}",
    )
    trial.require_all("every body is stored in the end", unstored)


async def _store_with_one_full(trial: Trial, customer: Customer, unstored: list[str]) -> None:
    """Upload when the first store takes nothing, then while it takes some of it."""
    first = trial.world.stores[0]
    before = trial.record.outcomes["upload"].copy()
    await first.suffer(FULL)
    body, task_id = trial.body(), trial.next_task()
    trial.ledger.offer(customer.member, task_id, INPUT, body)
    answer = await customer.upload(task_id, body)
    if answer.outcome == OK:
        trial.acknowledge(customer.member, answer.urn, body)
    await first.suffer(RUNS_FULL)

    async def client(_number: int) -> None:
        await trial.round_trip(customer, unstored)

    await trial.crowd(client)
    seen, faults = dict(trial.record.outcomes["upload"] - before), dict(first.injected())
    trial.verdict.require(
        "one store that is full makes no upload fail",
        met=set(seen) == {OK} and bool(faults),
        evidence=f"uploads while one was full: {seen}; {faults}",
    )


def _bodies(trial: Trial) -> dict[str, Body]:
    """Return a body of each size, by the task that it is for."""
    sizes = REFUSED_SIZE, *trial.parameters.sizes
    return {trial.next_task(): trial.body(size) for size in sizes}


async def _require_refused(trial: Trial, customer: Customer, bodies: dict[str, Body]) -> None:
    """Send bodies while no quorum has space."""
    wrong = []
    for task_id, body in bodies.items():
        trial.ledger.offer(customer.member, task_id, INPUT, body)
        answer = await customer.upload(task_id, body)
        if (answer.status, answer.outcome) != (507, StorageFull.code):
            wrong.append(f"{task_id} of {body.size} bytes came to {answer.status} {answer.outcome}")
    trial.require_all("without space for a quorum the answer is 507", wrong)


async def _require_of_use(
    trial: Trial, customer: Customer, kept: list[str], erased: list[str]
) -> None:
    """Require that what needs no space works: reading, erasing, clearing failed uploads away."""
    wrong = []
    for urn in kept:
        body = trial.ledger.acknowledged[urn][1]
        read = await customer.fetch(urn, size=body.size)
        if read.outcome != OK or read.digest != body.digest:
            wrong.append(f"reading {urn} came to {read.outcome}")
    criterion = "reads and erasures go on without space"
    trial.require_all(criterion, wrong)
    await erase_all(trial, customer, erased, criterion)

    async def is_clean() -> bool:
        states = {(await manifest_of(trial.world, urn)).state for urn in erased}
        return states == {ObjectState.ERASED} and not await _unnamed(trial)

    within_s = trial.world.config.late_write_horizon_s + CLEAN_S_MAX
    trial.verdict.require(
        "what failed or was erased is removed while there is no space",
        met=await trial.eventually(is_clean, within_s=within_s),
        evidence=f"blobs that no object needs: {await _unnamed(trial)}",
    )


async def _unnamed(trial: Trial) -> list[str]:
    """Return what lies in the stores under no object that was acknowledged and not erased."""
    needed = set(trial.ledger.acknowledged) - trial.ledger.erased
    payloads = {(await manifest_of(trial.world, urn)).payload_id for urn in needed}
    prefix = trial.world.parts.payloads
    return [
        f"{blob.key} in {each.name}"
        for each in trial.world.stores
        async for blob in each.store.list(prefix)
        if blob.key.removeprefix(prefix).partition("/")[0] not in payloads
    ]


CASE = Case(
    name="backend-full",
    edge_case="A store has no space left, and then so few have any that no quorum can be had.",
    fault="Writes of one store of three find no space, at any of their steps; then all those of two"
    " stores.",
    load="Clients that upload and read back; uploads, reads and erasures while there is no space.",
    passes_when="One full store is not noticed; without space for a quorum the answer is 507, reads"
    " and erasures go on, and nothing of what failed is left; with space again the same is taken.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=BackendFull,
    bytes_min=bytes_of_all,
    expected_s=10.0,
    stores=3,
    quorum=2,
    run=run,
)
