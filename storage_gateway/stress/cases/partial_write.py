"""``partial-write``: bodies that break off, and stores that keep a part."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.parameters import Parameters, Share, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial

LEAF = 983_040
GONE_AFTER_S = 0.02
FIRST_SIZE = 4096


class PartialWrite(Parameters, kw_only=True, frozen=True):
    """Parameters of ``partial-write``."""

    sizes: Sizes = (
        1,
        4096,
        65_537,
        LEAF + 1,
    )
    torn_bodies: Annotated[
        Share, msgspec.Meta(description="Uploads that break off in the midst of their body")
    ] = 0.3
    torn_writes: Annotated[
        Share, msgspec.Meta(description="Writes of which the store keeps a part, then fails")
    ] = 0.2
    lost_answers: Annotated[
        Share, msgspec.Meta(description="Segments that are kept, while the store says they are not")
    ] = 0.1


class BodyBrokenOff(ConnectionError):
    """A client that goes away."""


async def run(trial: Trial, parameters: PartialWrite) -> None:
    """Break bodies off, tear writes; then send each body again until it is stored."""
    member = await trial.member("stress")
    torn = trial.chance("torn")
    unstored: list[str] = []
    broken_off = 0
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        trial.begin_faults()

        async def break_off(task_id: str, body: Body, kept: int) -> None:
            nonlocal broken_off
            broken_off += 1
            trial.ledger.offer(member, task_id, "input", body)
            answer = await customer.upload(task_id, body, source=_part(body, kept))
            if answer.outcome == OK:
                trial.verdict.broken(8, f"{answer.urn} was answered for a part of its body")

        async def store(task_id: str, body: Body) -> None:
            answer = await trial.deliver(customer, task_id, body)
            if answer.urn:
                await trial.read_back(customer, answer.urn, body)
            else:
                unstored.append(f"{task_id} ended in {answer.outcome}")

        if parameters.torn_bodies:
            # With a store that is well, so that nothing but the body keeps it from being stored.
            body, task_id = trial.body(FIRST_SIZE), trial.next_task()
            await break_off(task_id, body, FIRST_SIZE // 2)
            await store(task_id, body)
        trial.world.store.faults = StoreFaults(
            torn=parameters.torn_writes, lost_answer={"finish": parameters.lost_answers}
        )

        async def client(_number: int) -> None:
            body, task_id = trial.body(), trial.next_task()
            if body.size > 1 and torn.fraction() < parameters.torn_bodies:
                await break_off(task_id, body, 1 + torn.below(body.size - 1))
            await store(task_id, body)

        await trial.crowd(client)
        trial.world.store.heal()
    trial.notes["bodies_broken_off"] = broken_off
    trial.require_all("every body is stored in the end", unstored)
    wanted = bool(parameters.torn_bodies), bool(parameters.torn_writes)
    happened = bool(broken_off), bool(trial.world.store.injected["torn write"])
    trial.verdict.require(
        "bodies broke off and writes were torn",
        met=all(h or not w for w, h in zip(wanted, happened, strict=True)),
        evidence=f"{broken_off} bodies, {trial.world.store.injected['torn write']} writes",
    )


async def _part(body: Body, kept: int) -> AsyncIterator[bytes]:
    """Send the first bytes of a body that was announced whole, then go away."""
    for piece in body.pieces():
        if kept <= len(piece):
            yield piece[:kept]
            # What was sent is on its way, not waiting to be sent with more.
            await asyncio.sleep(GONE_AFTER_S)
            raise BodyBrokenOff
        kept -= len(piece)
        yield piece


CASE = Case(
    name="partial-write",
    edge_case="A body breaks off, or the store keeps only a part of what it was given.",
    fault="Clients go away within their bodies; the store tears writes and loses answers.",
    load="Uploads of several sizes, each sent again until stored, each read back at once.",
    passes_when="Nothing partial is ever answered or readable, every body is stored in the end,"
    " and nothing of the failed attempts is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=PartialWrite,
    expected_s=8.0,
    run=run,
)
