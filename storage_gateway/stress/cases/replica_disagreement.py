"""``replica-disagreement``: stores that hold different bytes for the same key."""

from contextlib import AsyncExitStack

from crypto import LEAF_PLAINTEXT_SIZE, LEAF_SIZE
from storage_gateway.errors import BlobCorrupt
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import (
    Stored,
    complete,
    require_noted,
    require_refused,
    require_right,
    store_objects,
)
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.tampering import Change, blob_key, damaged, other_bytes, replaced
from storage_gateway.stress.trial import Trial

RIGHT = 1
"""The store that alone is right: neither the first that is asked nor one of the most."""
OF_TWO_LEAVES = LEAF_PLAINTEXT_SIZE + 1


class ReplicaDisagreement(Parameters, kw_only=True, frozen=True):
    """Parameters of ``replica-disagreement``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: ReplicaDisagreement) -> None:
    """Let one store of three be right; then each in another leaf; then none."""
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        mixed = trial.body(OF_TWO_LEAVES)
        stored = await store_objects(trial, customer)
        trial.begin_faults()
        await _judge_outvoted(trial, customer, stored)
        await _judge_mixed(trial, customer, mixed)
        await _judge_all_wrong(trial, customer, stored)
        criterion = "all is read again once the stores agree"
        await require_right(trial, customer, stored, criterion)


async def _judge_outvoted(trial: Trial, customer: Customer, stored: Stored) -> None:
    """Let all but one store agree on the same wrong bytes: it is not voted on."""
    others = [each for each in trial.world.stores if each is not trial.world.stores[RIGHT]]
    async with AsyncExitStack() as opened:
        for urn in stored:
            key = await blob_key(trial.world, urn)
            for each in others:
                wrong = replaced(f"{trial.seed}/{key}")
                await opened.enter_async_context(damaged(each, key, wrong))
        criterion = "what one store has right is read right, however many agree on something else"
        if await require_right(trial, customer, stored, criterion):
            await require_noted(trial, list(stored), {each.name for each in others})


async def _judge_mixed(trial: Trial, customer: Customer, body: Body) -> None:
    """Let each store be right in another leaf of an object: only a mix of them is the object."""
    task_id = trial.next_task()
    answer = await trial.deliver(customer, task_id, body)
    trial.require_all("every body is stored", [] if answer.urn else [f"{task_id} is not"])
    if not answer.urn:
        return
    await complete(trial)
    key = await blob_key(trial.world, answer.urn)
    async with AsyncExitStack() as opened:
        for number, each in enumerate(trial.world.stores):
            wrong = _right_in_one_leaf(number, f"{trial.seed}/{number}")
            await opened.enter_async_context(damaged(each, key, wrong))
        criterion = "what no store has whole is read right from all of them together"
        await require_right(trial, customer, {answer.urn: body}, criterion)


def _right_in_one_leaf(leaf: int, label: str) -> Change:
    """Return what spoils all but the leaf of that number, if there is one."""

    def change(data: bytes) -> bytes:
        begin, end = leaf * LEAF_SIZE, (leaf + 1) * LEAF_SIZE
        wrong = other_bytes(label, len(data))
        return wrong[:begin] + data[begin:end] + wrong[end:]

    return change


async def _judge_all_wrong(trial: Trial, customer: Customer, stored: Stored) -> None:
    """Let each store have wrong bytes of its own."""
    async with AsyncExitStack() as opened:
        for urn in stored:
            key = await blob_key(trial.world, urn)
            for each in trial.world.stores:
                wrong = replaced(f"{trial.seed}/{key}/{each.name}")
                await opened.enter_async_context(damaged(each, key, wrong))
        criterion = "what no store has right is refused"
        await require_refused(trial, customer, stored, BlobCorrupt, criterion)


CASE = Case(
    name="replica-disagreement",
    edge_case="Stores hold different bytes, each of the right size, for the same key.",
    fault="Two stores of three agree on wrong bytes; then each store is right in another leaf of an"
    " object; then each has wrong bytes of its own.",
    load="Clients that read while it is so, in clear and as sealed files.",
    passes_when="Tags decide, leaf by leaf, and not how many stores agree: what is right anywhere"
    " is read right, and what is right nowhere is refused.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ReplicaDisagreement,
    bytes_min=bytes_of_bodies(1, OF_TWO_LEAVES),
    expected_s=12.0,
    stores=3,
    quorum=2,
    run=run,
)
