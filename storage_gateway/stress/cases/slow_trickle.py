"""``slow-trickle``: a store that answers everything, very slowly."""

import asyncio
import collections
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Answer, Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import LoadSpent, Trial

Sent = tuple[str, Answer, Body]
ANSWER_BYTES = 250
"""About what a bucket says to a put."""
SLOW_READS_MAX = 0.25
"""Share of the reads that may go to the slow store once it is known: some, to measure it again."""


class SlowTrickle(Parameters, kw_only=True, frozen=True):
    """Parameters of ``slow-trickle``."""

    sizes: Sizes = (4096, 70_000)
    slow_s: Annotated[
        float, msgspec.Meta(ge=1, le=30, description="What a call of the slow store takes at most")
    ] = 2.0


def bytes_of_a_wave(parameters: SlowTrickle) -> int:
    """Return what a body of each client makes, sent and read back."""
    return 2 * parameters.clients * max(parameters.sizes)


async def run(trial: Trial, parameters: SlowTrickle) -> None:
    """Let one of three stores be slow under load: writes have a quorum without it."""
    member = await trial.member("stress")
    first = trial.world.stores[0]
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        trial.begin_faults()
        await first.suffer(_ailment(parameters.slow_s))
        at_work: list[int] = []
        reads: collections.Counter[str] = collections.Counter()
        while not at_work or trial.goes_on():
            try:
                sent = await _upload(trial, customer)
            except LoadSpent:
                break
            at_work.append(first.faulty.finishing)
            reads += await _read(trial, customer, sent, skipped=0 if len(at_work) > 1 else 1)
    outcomes = dict(trial.record.outcomes["upload"])
    trial.verdict.require(
        "one slow store makes no upload fail", met=set(outcomes) == {OK}, evidence=f"{outcomes}"
    )
    trial.verdict.require(
        "uploads do not wait for the slow store",
        met=any(at_work),
        evidence=f"writes that it had not ended when all were answered: {at_work[:10]}",
    )
    trial.verdict.require(
        "reads go to the quicker stores",
        met=reads[first.name] <= SLOW_READS_MAX * reads.total(),
        evidence=f"reads of each store once the slow one was known: {dict(reads)}",
    )
    slowed = dict(first.injected())
    trial.verdict.require("a store was slow", met=bool(slowed), evidence=f"{slowed}")


def _ailment(slow_s: float) -> Ailment:
    operations = ("finish", "read", "stat", "delete", "list")
    return Ailment(
        calls=StoreFaults(delay_s=dict.fromkeys(operations, slow_s)),
        wire=ProxyFault(kind=FaultKind.TRICKLE, trickle_bytes_per_s=ANSWER_BYTES / slow_s),
    )


async def _upload(trial: Trial, customer: Customer) -> list[Sent]:
    """Upload a body of each client, all at one time."""
    sent = [(trial.next_task(), trial.body()) for _ in range(trial.parameters.clients)]
    answers = await asyncio.gather(*(trial.deliver(customer, task, body) for task, body in sent))
    unstored = [answer.outcome for answer in answers if not answer.urn]
    trial.require_all("every body is stored", unstored)
    return [(task, answer, body) for (task, body), answer in zip(sent, answers, strict=True)]


async def _read(
    trial: Trial, customer: Customer, sent: list[Sent], *, skipped: int
) -> "collections.Counter[str]":
    """Read what was stored; count the reads of each store but for the ``skipped`` first objects."""

    async def read(part: list[Sent]) -> "collections.Counter[str]":
        before = [each.faulty.asked["read"] for each in trial.world.stores]
        for _, answer, body in part:
            await trial.read_back(customer, answer.urn, body)
        return collections.Counter(
            {
                each.name: each.faulty.asked["read"] - had
                for each, had in zip(trial.world.stores, before, strict=True)
            }
        )

    await read(sent[:skipped])
    return await read(sent[skipped:])


CASE = Case(
    name="slow-trickle",
    edge_case="A store answers everything, but bit by bit.",
    fault="Answers of one of three stores take long; of a bucket they come byte by byte.",
    load="Clients that upload and read back.",
    passes_when="Uploads take no longer than the other two stores need, reads go to these once it"
    " is known which is slow, and nothing fails.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=SlowTrickle,
    bytes_min=bytes_of_a_wave,
    expected_s=10.0,
    stores=3,
    quorum=2,
    run=run,
)
