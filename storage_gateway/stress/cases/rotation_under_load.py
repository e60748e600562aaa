"""``rotation-under-load``: keys are rotated again and again while clients upload and read."""

import asyncio
from dataclasses import dataclass, field

from storage_gateway.records import INPUT, OUTPUT
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.held import HELD_SIZE, Held
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import ROLES, Keys, open_keys
from storage_gateway.stress.trial import Trial

ROUNDS_MIN = 2
PAUSE_S = 0.05
"""Between two rotations: one upload is wrapped anew a few times at most while it is committed."""
SEEN_S_MAX = 30.0
BEGUN = 3
"""Objects that are there before the first rotation."""


class RotationUnderLoad(Parameters, kw_only=True, frozen=True):
    """Parameters of ``rotation-under-load``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    stored: dict[str, Body] = field(default_factory=dict)
    unstored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


async def run(trial: Trial, _parameters: RotationUnderLoad) -> None:
    """Rotate all keys in turns, with a job after each round, beside clients; then look at all."""
    seen = _Seen()
    async with trial.world.gateway() as gateway:
        keys = await open_keys(trial, gateway)
        for _ in range(BEGUN):
            await _round_trip(trial, keys, seen, 0)
        trial.begin_faults()
        await _store_over_rotations(trial, keys, seen)
        crowd = asyncio.create_task(
            trial.crowd(lambda number: _round_trip(trial, keys, seen, number))
        )
        try:
            rounds = await _rotate_until_done(keys, crowd, seen)
        finally:
            await crowd
        await keys.rewrap(seen.jobs)
        await keys.require_exact(seen.stored, newest=True)
        await keys.require_idle()
        for urn, body in seen.stored.items():
            await keys.read_as_all(seen.unread, urn, body)
    keys.hand_over()
    trial.notes["rotations"] = sum(len(held) for held in keys.held.values()) - len(ROLES)
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("every read is served, and opens for its reader", seen.unread)
    trial.require_all("every job ends, and fails for nothing", seen.jobs)
    trial.verdict.require(
        "all keys were rotated under load",
        met=rounds >= ROUNDS_MIN,
        evidence=f"{rounds} rounds; {len(seen.stored)} objects",
    )


async def _rotate_until_done(keys: Keys, crowd: "asyncio.Task[None]", seen: _Seen) -> int:
    rounds = 0
    while rounds < ROUNDS_MIN or not crowd.done():
        for role in ROLES:
            await keys.rotate(role)
            await asyncio.sleep(PAUSE_S)
        await keys.rewrap(seen.jobs)
        rounds += 1
    return rounds


async def _round_trip(trial: Trial, keys: Keys, seen: _Seen, number: int) -> None:
    """Store a body, as the user or as the miner, and read it, and one that was there before."""
    body, task_id = trial.body(), trial.next_task()
    direction = OUTPUT if number % 2 else INPUT
    answer = await trial.deliver(keys.customer, task_id, body, direction=direction)
    if not answer.urn:
        seen.unstored.append(f"{task_id} ended in {answer.outcome}")
        return
    seen.stored[answer.urn] = body
    await keys.read_as_all(seen.unread, answer.urn, body)
    urns = list(seen.stored)
    old = urns[trial.chance("old", task_id).below(len(urns))]
    await keys.read_as_all(seen.unread, old, seen.stored[old])


async def _store_over_rotations(trial: Trial, keys: Keys, seen: _Seen) -> None:
    """Have an upload under way while each key is rotated, and wrapped anew before its commit."""
    held, task_id = Held(trial.body(HELD_SIZE)), trial.next_task()
    trial.ledger.offer(keys.member, task_id, INPUT, held.body)
    sent = asyncio.create_task(keys.customer.upload(task_id, held.body, source=held.pieces()))
    try:
        await trial.eventually(trial.world.unsettled, within_s=SEEN_S_MAX)
        for role in ROLES:
            await keys.rotate(role)
    finally:
        held.goes_on.set()
        answer = await sent
    if answer.outcome != OK:
        seen.unstored.append(f"an upload over rotations came to {answer.outcome}")
        return
    trial.acknowledge(keys.member, answer.urn, held.body)
    seen.stored[answer.urn] = held.body
    await keys.require_exact({answer.urn: held.body}, newest=True)


CASE = Case(
    name="rotation-under-load",
    edge_case="Keys of all parties are rotated again and again while clients upload and read.",
    fault="The user's, the miner's and the router's keys are rotated in turns, in the midst of an"
    " upload too; after each round a job wraps everything anew.",
    load="Clients that store inputs and outputs, and read what is there, in clear and as sealed"
    " files, as both parties.",
    passes_when="No upload and no read fails; in the end nothing depends on older versions, and"
    " each head opens with the newest identities and with no older one.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=RotationUnderLoad,
    bytes_min=bytes_of_bodies(BEGUN + 1, HELD_SIZE),
    expected_s=15.0,
    run=run,
)
