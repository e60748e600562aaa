"""``tiny-objects``: very many very small objects."""

from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial


class TinyObjects(Parameters, kw_only=True, frozen=True):
    """Parameters of ``tiny-objects``."""

    clients: Clients = 32
    sizes: Sizes = (0, 1, 100, 4096)


async def run(trial: Trial, _parameters: TinyObjects) -> None:
    """Store and read back, as many at one time as there are clients."""
    member = await trial.member("stress")
    refused: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int) -> None:
            body = trial.body()
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.outcome != OK:
                refused.append(f"{task_id} came to {answer.outcome}")
            elif answer.document.get("size") != body.size:
                trial.verdict.broken(8, f"{answer.urn} has another size than was sent")
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)

        await trial.crowd(client)
    trial.require_all("every upload is taken at once", refused)
    stored = len(trial.ledger.acknowledged)
    trial.notes["objects_per_s"] = round(stored / trial.parameters.duration_s, 1)
    trial.verdict.require("objects were stored", met=stored > 0, evidence=f"{stored} objects")


CASE = Case(
    name="tiny-objects",
    edge_case="Very many objects of a few bytes are committed at once: on SQLite many commits share"
    " one transaction, on PostgreSQL they wait for one flush of its log.",
    fault="None: the number of commits at one time.",
    load="Uploads of 0 to 4,096 bytes from many clients, each read back at once.",
    passes_when="Each is taken at the first attempt and readable, empty ones too; nothing is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=TinyObjects,
    expected_s=7.0,
    run=run,
)
