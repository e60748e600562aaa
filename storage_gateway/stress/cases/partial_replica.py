"""``partial-replica``: a store that has some segments of an object and not the others."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES, SEGMENT_SIZE
from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.catalog.copies import BAD, PENDING
from storage_gateway.errors import BlobMissing
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import Stored, require_right
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tampering import copies_of, manifest_of
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import LoadSpent, Trial

SEGMENT = SEGMENT_LEAVES * LEAF_PLAINTEXT_SIZE
BEYOND = 128 << 10
"""What of a body is sent after its first segment before the store fails: that the segment is not
the last is known only then, and the next leaf is not whole."""
SIZE_MIN = SEGMENT + 2 * BEYOND
REACHED_S_MAX = 30.0


REFUSES = Ailment(
    calls=StoreFaults(refused={"write": 1.0, "finish": 1.0, "put": 1.0}),
    wire=ProxyFault(kind=FaultKind.REFUSE),
)


class PartialReplica(Parameters, kw_only=True, frozen=True):
    """Parameters of ``partial-replica``."""

    clients: Annotated[
        int, msgspec.Meta(ge=1, le=16, description="Bodies at one time, all of which stop midway")
    ] = 2
    sizes: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=SIZE_MIN)], ...],
        msgspec.Meta(min_length=1, max_length=16, description="Bodies, in bytes, by turns"),
    ] = (SIZE_MIN, 2 * SEGMENT + 1)


def bytes_of_a_wave(parameters: PartialReplica) -> int:
    """Return what a body of each client makes, sent and read back."""
    return 2 * parameters.clients * max(parameters.sizes)


@dataclass(slots=True)
class _Midway:
    """Where bodies wait until the store that is to fail has their first segments."""

    finished: list[str] = field(default_factory=list)
    passed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, point: str) -> None:
        """Count the segments that the store has."""
        if point == "finish done":
            self.finished.append(point)

    async def pieces(self, body: Body) -> AsyncIterator[bytes]:
        """Yield a body that stops for a while when its first segment is sent."""
        sent = 0
        for piece in body.pieces():
            yield piece
            sent += len(piece)
            if sent >= SEGMENT + BEYOND:
                await self.passed.wait()
            else:
                await asyncio.sleep(0)  # others have a turn


async def run(trial: Trial, parameters: PartialReplica) -> None:
    """Let one store of three fail when it has the first segment of each body, and no other."""
    member = await trial.member("stress")
    first = trial.world.stores[0]
    midway, stored = _Midway(), Stored()
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        first.faulty.faults = StoreFaults(at_point=midway.note)
        async with asyncio.TaskGroup() as group:
            sending = _begin(trial, customer, midway, stored, group)
            wanted = len(sending)
            reached = await trial.eventually(
                lambda: len(midway.finished) >= wanted or all(task.done() for task in sending),
                within_s=REACHED_S_MAX,
            )
            trial.begin_faults()
            await first.suffer(REFUSES)
            midway.passed.set()
        unstored = [why for task in sending if (why := task.result())]
        trial.require_all("every body is stored at once", unstored)
        await trial.world.wait_late()
        await require_right(trial, customer, stored, "all is read right while the store fails")
        await first.heal()
        await require_right(
            trial, customer, stored, "all is read right although one has parts of it"
        )
        await _judge_parts(trial, stored)
    trial.verdict.require(
        "the store failed in the midst of objects",
        met=reached and len(midway.finished) >= wanted == parameters.clients,
        evidence=f"it had the first segments of {len(midway.finished)} of {wanted} bodies",
    )


def _begin(
    trial: Trial, customer: Customer, midway: _Midway, stored: Stored, group: asyncio.TaskGroup
) -> "list[asyncio.Task[str]]":
    """Begin as many uploads as there are clients; each returns why it was not stored."""

    async def send(task_id: str, body: Body) -> str:
        trial.ledger.offer(customer.member, task_id, "input", body)
        answer = await customer.upload(task_id, body, source=midway.pieces(body))
        if answer.outcome != OK:
            return f"{task_id} ended in {answer.outcome}"
        trial.acknowledge(customer.member, answer.urn, body)
        stored[answer.urn] = body
        return ""

    sending = []
    for _ in range(trial.parameters.clients):
        try:
            sending.append(group.create_task(send(trial.next_task(), trial.body())))
        except LoadSpent:
            break
    return sending


async def _judge_parts(trial: Trial, stored: Stored) -> None:
    """Require that the store has parts of each object, and that the catalog knows what it lacks."""
    wrong: list[str] = []
    parts: list[str] = []
    first = trial.world.stores[0]
    for urn in stored:
        manifest = await manifest_of(trial.world, urn)
        pending, bad = [await copies_of(trial.world, urn, state) for state in (PENDING, BAD)]
        prefix = f"{trial.world.parts.payloads}{manifest.payload_id}/"
        everything = set(range(-(-manifest.payload_size // SEGMENT_SIZE)))
        lacking = {index for index in everything if not await _has(trial, f"{prefix}{index}")}
        if lacking == everything - {0}:
            parts.append(urn)
        known = pending.get(first.name, frozenset())
        if not lacking <= known or bad:
            wrong.append(f"{urn} lacks {sorted(lacking)}, and pending are {sorted(known)}")
    trial.require_all("what the store lacks is pending there", wrong)
    trial.verdict.require(
        "the store has the first segment of each object, and no other one",
        met=bool(parts) and len(parts) == len(stored),
        evidence=f"so it is with {len(parts)} of {len(stored)} objects",
    )


async def _has(trial: Trial, key: str) -> bool:
    try:
        await trial.world.stores[0].store.stat(key)
    except BlobMissing:
        return False
    return True


CASE = Case(
    name="partial-replica",
    edge_case="A store fails in the midst of an object of several segments, and so has some of them"
    " and not the others.",
    fault="One store of three refuses from when it has the first segment of each body.",
    load="Uploads of more than a segment, which wait for the store to fail; reads while it does,"
    " and afterwards.",
    passes_when="No upload notices, each object is read right from the other stores, and the"
    " catalog says what the store lacks.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=PartialReplica,
    bytes_min=bytes_of_a_wave,
    expected_s=12.0,
    stores=3,
    quorum=2,
    run=run,
)
