"""``huge-object``: bodies whose sizes and counts do not fit into 32 bits."""

from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import LoadSpent, Trial

BEYOND_32_BITS = (1 << 32) + 7_866_241
"""More than 4 GiB, and a byte more than whole segments and chunks of it would be."""


class HugeObject(Parameters, kw_only=True, frozen=True):
    """Parameters of ``huge-object``."""

    clients: Clients = 1
    sizes: Sizes = (BEYOND_32_BITS,)


async def run(trial: Trial, parameters: HugeObject) -> None:
    """Store one body of each size, and read each back to its last byte."""
    member = await trial.member("stress")
    refused: list[str] = []
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        for size in parameters.sizes:
            try:
                body = trial.body(size)
            except LoadSpent:
                refused.append(f"{size} bytes are over the run's budget")
                break
            task_id = trial.next_task()
            answer = await trial.deliver(customer, task_id, body)
            if answer.outcome != OK:
                refused.append(f"{size} bytes came to {answer.outcome}")
                continue
            told = answer.document
            if told.get("size") != size or told.get("sealed_size", 0) <= size:
                trial.verdict.broken(8, f"{answer.urn} has another size than was sent")
            read = await trial.read_back(customer, answer.urn, body)
            if read.size != size:
                trial.verdict.broken(8, f"{answer.urn} was read with {read.size} of {size} bytes")
    trial.require_all("every body is stored", refused)


CASE = Case(
    name="huge-object",
    edge_case="An object is larger than 32 bits can count, and ends within a chunk, a leaf and a"
    " segment.",
    fault="None: the size.",
    load="One upload of each size, streamed, and read back.",
    passes_when="It is taken, told and read with its exact size and bytes, and every segment of it"
    " is where the catalog says.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=HugeObject,
    expected_s=300.0,
    run=run,
)
