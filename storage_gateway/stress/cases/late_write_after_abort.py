"""``late-write-after-abort``: a write comes to a store when its upload was given up long ago."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import msgspec

from crypto import LEAF_PLAINTEXT_SIZE
from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.catalog.work import has_grave, list_intents
from storage_gateway.errors import BlobMissing
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.children import Child
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Answer, Member
from storage_gateway.stress.orders import Order
from storage_gateway.stress.parameters import Clients, Parameters
from storage_gateway.stress.pausing import (
    CLAIMED_S_MAX,
    LEASES,
    PASSES_S,
    stop_between_transactions,
    was_claimed,
)
from storage_gateway.stress.trial import WORTH_RETRYING, Trial
from storage_gateway.stress.world import Reachable

BEGUN, LANDED = "write begins", "finish done"
LONG_HORIZON_S = 60.0
"""Of the gateway that is to have the grave open when the write comes, however slow the machine."""
GONE_S_MAX = 5.0


class LateWriteAfterAbort(Parameters, kw_only=True, frozen=True):
    """Parameters of ``late-write-after-abort``."""

    clients: Clients = 1
    sizes: Annotated[
        # Of one leaf: before another one the process would ask whether it has its lease.
        tuple[Annotated[int, msgspec.Meta(ge=1, le=LEAF_PLAINTEXT_SIZE)], ...],
        msgspec.Meta(min_length=1, max_length=16, description="Bodies, in bytes, by turns"),
    ] = (4096, 900_000)


@dataclass(frozen=True, slots=True)
class _Late:
    """An upload whose first write is in the hands of a process that is stopped."""

    child: Child
    member: Member
    payload_id: str
    task_id: str
    body: Body
    sent: "asyncio.Task[Answer]"

    async def let_it_land(self) -> bool:
        """Let the process go on until a store has what it wrote; False when none took it."""
        self.child.signal(signal.SIGCONT)
        await self.child.order(Order(at=LANDED, go=True))
        landing = asyncio.create_task(self.child.wait_at_point())
        await asyncio.wait([landing, self.sent], return_when=asyncio.FIRST_COMPLETED)
        if landing.done():
            await landing
            return True
        landing.cancel()
        await asyncio.gather(landing, return_exceptions=True)
        return False


async def run(trial: Trial, _parameters: LateWriteAfterAbort) -> None:
    """Let a write come after its grave was closed, then while it is open, from who dies then."""
    member = await trial.member("stress")
    landed = 0
    while landed == 0 or trial.goes_on():
        async with trial.children.child(recovery_interval_s=PASSES_S, **LEASES) as child:
            await child.wait_ready()
            async with trial.world.gateway(**LEASES) as gateway:
                await _land_beyond_horizon(trial, member, child, gateway)
            settings = LEASES | {"late_write_horizon_s": LONG_HORIZON_S}
            async with trial.world.gateway(**settings) as gateway:
                await _land_within_horizon(trial, member, child, gateway)
        landed += 2
    trial.verdict.require(
        "writes came late", met=landed > 0, evidence=f"{landed} after their uploads were given up"
    )


async def _land_beyond_horizon(
    trial: Trial, member: Member, child: Child, gateway: Reachable
) -> None:
    """Let the process sleep until the grave is closed; it is to bury what it wrote itself."""
    async with _sleeping(trial, member, child, gateway) as late:

        async def is_closed() -> bool:
            return not await trial.world.unsettled()

        closed = await trial.eventually(is_closed, within_s=CLAIMED_S_MAX)
        landed = await late.let_it_land()
        is_there = await _is_there(trial, late)
        await child.order(Order(go=True))
    # A node is not asked to keep what nothing names any more.
    may_refuse = all(isinstance(s.backend, IPFSBackend) for s in trial.world.stores)
    trial.verdict.require(
        "a write came after its grave was closed",
        met=closed and ((landed and is_there) or (may_refuse and not landed and not is_there)),
        evidence=f"grave closed: {closed}; landed: {landed}; a store has it: {is_there}",
    )
    trial.judge_late(member, late.task_id, late.body, await late.sent)
    await _require_gone(trial, late)


async def _land_within_horizon(
    trial: Trial, member: Member, child: Child, gateway: Reachable
) -> None:
    """Let the write land in an open grave that was found empty, and its process die at once."""
    async with _sleeping(trial, member, child, gateway) as late:
        open_before = await _is_buried(trial, late)
        landed = await late.let_it_land()
        open_after = await _is_buried(trial, late)
        await child.kill()
    trial.verdict.require(
        "a write came while its grave was open",
        met=landed and open_before and open_after,
        evidence=f"landed: {landed}; grave open before: {open_before}, after: {open_after}",
    )
    await asyncio.gather(late.sent)
    await _require_gone(trial, late)


@asynccontextmanager
async def _sleeping(
    trial: Trial, member: Member, child: Child, gateway: Reachable
) -> AsyncIterator[_Late]:
    """Stop a process with a write in its hands until its upload is claimed and cleared away, and
    its slot taken by who sends the same to another process; it goes on at the end in any case.
    """
    body, task_id = trial.body(), trial.next_task()
    trial.ledger.offer(member, task_id, "input", body)
    await child.order(Order(at=BEGUN))
    reached = asyncio.Event()

    async def send() -> Answer:
        answer = await trial.customer(child, member).upload(task_id, body)
        # A process that lost its lease, asleep or on a busy machine, may refuse before it writes.
        while answer.outcome in WORTH_RETRYING and not (reached.is_set() or child.is_dead()):
            trial.record.retries += 1
            answer = await trial.customer(child, member).upload(task_id, body)
        return answer

    sent = asyncio.create_task(send())
    try:
        await child.wait_at_point()
        reached.set()
        if trial.fault_began is None:
            trial.begin_faults()
        (intent,) = await trial.world.catalog.inner.read(partial(list_intents, after="", limit=2))
        await stop_between_transactions(trial, child)
        claimed = await was_claimed(trial)
        answer = await trial.deliver(trial.customer(gateway, member), task_id, body)
        trial.verdict.require(
            "the upload is cleared away while its first write is still to come",
            met=claimed and bool(answer.urn),
            evidence=f"claimed: {claimed}; sent again, {task_id} came to {answer.outcome}",
        )
        yield _Late(child, member, intent.payload_id, task_id, body, sent)
    finally:
        child.signal(signal.SIGCONT)
        await child.order(Order(go=True))


async def _is_there(trial: Trial, late: _Late) -> bool:
    """Tell whether any store has what was written late."""
    for each in trial.world.stores:
        try:
            await each.store.stat(f"{trial.world.parts.payloads}{late.payload_id}/0")
        except BlobMissing:
            continue
        return True
    return False


async def _is_buried(trial: Trial, late: _Late) -> bool:
    return await trial.world.catalog.inner.read(partial(has_grave, payload_id=late.payload_id))


async def _require_gone(trial: Trial, late: _Late) -> None:
    async def is_gone() -> bool:
        return not await _is_there(trial, late)

    gone = await trial.eventually(is_gone, within_s=GONE_S_MAX)
    trial.verdict.require(
        "what came too late is found and removed",
        met=gone,
        evidence=f"of {late.task_id}, within {GONE_S_MAX:g} s",
    )


CASE = Case(
    name="late-write-after-abort",
    edge_case="A write that was sent before its upload was given up comes to the store after"
    " recovery has cleared that away, and found nothing.",
    fault="SIGSTOP of a process with a write in its hands, until another one has claimed and buried"
    " the upload; it goes on after the grave was closed; then once more while the grave is open,"
    " and is killed when the store has the write.",
    load="One upload to the process that is stopped, the same to the other one meanwhile.",
    passes_when="The late upload is refused; what it wrote is removed, by who wrote it where the"
    " grave was closed, and by the next pass where it was open.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=LateWriteAfterAbort,
    expected_s=15.0,
    run=run,
)
