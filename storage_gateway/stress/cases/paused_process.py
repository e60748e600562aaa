"""``paused-process``: a process sleeps through its lease and wakes up in the midst of a commit."""

import asyncio
import signal

from storage_gateway.stress.children import Child
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Member
from storage_gateway.stress.orders import Order
from storage_gateway.stress.parameters import Clients, Parameters, Sizes
from storage_gateway.stress.pausing import (
    CLAIMED_S_MAX,
    LEASES,
    PASSES_S,
    stop_between_transactions,
    was_claimed,
)
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import Reachable

PLACED = "finish done"
"""The payload is durable, the commit is next."""


class PausedProcess(Parameters, kw_only=True, frozen=True):
    """Parameters of ``paused-process``."""

    clients: Clients = 1
    sizes: Sizes = (4096, 1_000_000)


async def run(trial: Trial, _parameters: PausedProcess) -> None:
    """Stop a process right before a commit until its upload is claimed; then let it go on."""
    member = await trial.member("stress")
    pauses = 0
    async with (
        trial.world.gateway(**LEASES) as gateway,
        trial.children.child(recovery_interval_s=PASSES_S, **LEASES) as child,
    ):
        await child.wait_ready()
        while pauses == 0 or trial.goes_on():
            await _pause(trial, member, child, gateway)
            pauses += 1
    trial.notes["pauses"] = pauses
    trial.verdict.require(
        "a process was paused before its commit", met=pauses > 0, evidence=f"{pauses} times"
    )


async def _pause(trial: Trial, member: Member, child: Child, gateway: Reachable) -> None:
    body, task_id = trial.body(), trial.next_task()
    trial.ledger.offer(member, task_id, "input", body)
    await child.order(Order(at=PLACED))
    sent = asyncio.create_task(trial.customer(child, member).upload(task_id, body))
    try:
        await child.wait_at_point()
        if trial.fault_began is None:
            trial.begin_faults()
        await stop_between_transactions(trial, child)
        claimed = await was_claimed(trial)
        answer = await trial.deliver(trial.customer(gateway, member), task_id, body)
    finally:
        child.signal(signal.SIGCONT)
        await child.order(Order(go=True))
    late = await sent
    trial.verdict.require(
        "the upload of a paused process is claimed and cleared away",
        met=claimed,
        evidence=f"{task_id}, within {CLAIMED_S_MAX:g} s",
    )
    trial.judge_late(member, task_id, body, late)
    stored = f"{task_id} came to {answer.outcome} while its first sender was paused"
    trial.verdict.require(
        "the slot of a lost upload is free", met=bool(answer.urn), evidence=stored
    )
    if answer.urn:
        await trial.read_back(trial.customer(gateway, member), answer.urn, body)


CASE = Case(
    name="paused-process",
    edge_case="A process is paused (a stopped container, a swapped-out machine) right before a"
    " commit, longer than its lease, and then goes on as if nothing had been.",
    fault="SIGSTOP of a gateway process when the payload is durable; SIGCONT when another process"
    " has claimed the upload and cleared it away.",
    load="One upload to the process that is paused, the same to the other one meanwhile.",
    passes_when="The paused process cannot commit and says so; what the other one stored meanwhile"
    " is the one object of the slot.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=PausedProcess,
    expected_s=15.0,
    run=run,
)
