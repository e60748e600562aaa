"""``queue-spike``: everybody comes at the same moment."""

import asyncio
import itertools

from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.trial import LoadSpent, Trial

CALM_UPLOADS, CALM_SIZE = 5, 4096


class QueueSpike(Parameters, kw_only=True, frozen=True):
    """Parameters of ``queue-spike``."""

    clients: Clients = 200
    sizes: Sizes = (4096, 70_000, 1_000_000)


def bytes_of_a_wave(parameters: QueueSpike) -> int:
    """Return what one body of each client makes, sent and read back."""
    return 2 * sum(itertools.islice(itertools.cycle(parameters.sizes), parameters.clients))


async def run(trial: Trial, parameters: QueueSpike) -> None:
    """Let all clients begin at once, one body each, over and over; then see that calm returns."""
    member = await trial.member("stress")
    unstored: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def one(body: Body) -> None:
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

        waves = 0
        while waves == 0 or trial.goes_on():
            try:  # a whole wave or none: its end must not cut off what has begun
                bodies = [trial.body() for _ in range(parameters.clients)]
            except LoadSpent:
                break
            async with asyncio.TaskGroup() as group:
                for body in bodies:
                    group.create_task(one(body))
            waves += 1
        trial.notes["waves"] = waves
        for number in range(CALM_UPLOADS):
            body, task_id = Body(f"{trial.seed}/calm/{number}", CALM_SIZE), trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if not answer.urn:
                unstored.append(f"{task_id}, after the spike, ended in {answer.outcome}")
    trial.require_all("every body is stored in the end", unstored)
    stored = len(trial.ledger.acknowledged)
    trial.verdict.require(
        "as many were stored as came at once",
        met=waves > 0 and stored >= parameters.clients,
        evidence=f"{stored} objects, in {waves} waves of {parameters.clients}",
    )


CASE = Case(
    name="queue-spike",
    edge_case="A queue is drained at once: hundreds of uploads begin at the same moment.",
    fault="None: the number of bodies at one time.",
    load="Waves of uploads, all clients at once; refused ones come again; some uploads afterwards.",
    passes_when="Each waits or is refused with a reason to come again, all are stored in the end,"
    " and afterwards the gateway takes uploads as before.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=QueueSpike,
    bytes_min=bytes_of_a_wave,
    expected_s=12.0,
    run=run,
)
