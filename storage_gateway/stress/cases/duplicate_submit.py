"""``duplicate-submit``: the same slot, several senders at once."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.errors import SlotBusy, SlotTaken
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Answer
from storage_gateway.stress.parameters import Parameters
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial


class DuplicateSubmit(Parameters, kw_only=True, frozen=True):
    """Parameters of ``duplicate-submit``."""

    copies: Annotated[
        int, msgspec.Meta(ge=2, le=16, description="Senders of one slot at one time")
    ] = 3


def bytes_of_a_slot(parameters: DuplicateSubmit) -> int:
    """Return what the bodies of one slot make, sent and read back."""
    return 2 * parameters.copies * max(parameters.sizes)


async def run(trial: Trial, parameters: DuplicateSubmit) -> None:
    """Send several bodies to one slot at one time: one is stored, the others are told which."""
    member = await trial.member("stress")
    duplicates = 0
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int) -> None:
            nonlocal duplicates
            task_id = trial.next_task()
            bodies = [trial.body() for _ in range(parameters.copies)]
            for body in bodies:
                trial.ledger.offer(member, task_id, "input", body)
            answers = await asyncio.gather(*(customer.upload(task_id, body) for body in bodies))
            stored = [n for n, answer in enumerate(answers) if answer.outcome == OK]
            duplicates += len(bodies) - 1
            if len(stored) != 1:
                said = ", ".join(answer.outcome for answer in answers)
                trial.verdict.broken(8, f"{len(stored)} of the bodies of {task_id} stored: {said}")
            for number in stored:
                trial.acknowledge(member, answers[number].urn, bodies[number])
            if stored:
                winner = answers[stored[0]].urn
                late = await customer.upload(task_id, bodies[0])
                _judge_refusals(trial, task_id, winner, [*answers, late])
                await trial.read_back(customer, winner, bodies[stored[0]])

        await trial.crowd(client)
    trial.verdict.require(
        "slots were sent to at one time", met=duplicates > 0, evidence=f"{duplicates} duplicates"
    )


def _judge_refusals(trial: Trial, task_id: str, winner: str, answers: list[Answer]) -> None:
    """See that whoever was refused was told why, and what is there instead."""
    for answer in answers:
        if answer.outcome == SlotTaken.code and answer.urn != winner:
            trial.verdict.broken(8, f"{task_id}: refused with {answer.urn}, stored is {winner}")
        elif answer.outcome not in {OK, SlotTaken.code, SlotBusy.code}:
            evidence = f"{task_id}: a duplicate came to {answer.outcome}"
            trial.verdict.require("duplicates are refused clearly", met=False, evidence=evidence)
    if answers[-1].outcome != SlotTaken.code:
        evidence = f"{task_id}: a late duplicate came to {answers[-1].outcome}"
        trial.verdict.require("duplicates are refused clearly", met=False, evidence=evidence)


CASE = Case(
    name="duplicate-submit",
    edge_case="A result is submitted twice, at the same moment, by clients that know nothing of"
    " each other.",
    fault="None: the race itself.",
    load="Several different bodies for each slot at one time, and one more afterwards.",
    passes_when="Exactly one body of each slot is stored and answered; all others are refused,"
    " late ones with the URN of the one that is there.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=DuplicateSubmit,
    bytes_min=bytes_of_a_slot,
    expected_s=6.0,
    run=run,
)
