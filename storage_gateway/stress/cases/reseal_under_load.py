"""``reseal-under-load``: objects get new file keys and payloads while clients upload and read."""

import asyncio
from dataclasses import dataclass, field

from storage_gateway.errors import CIDSuperseded
from storage_gateway.records import INPUT, OUTPUT, USER, Manifest
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.reading import SLOW_SIZE, pausing
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import ROLES, Keys, note_job, open_keys, opens_to
from storage_gateway.stress.tampering import manifest_of
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import Reachable

BEGUN = 4
"""Objects that are there before the first job, beside a long one."""
GRACE_S = 6.0
"""How long what was superseded may be read."""
HELD_S = 2.0
"""For so long a read pauses when its object has another payload already."""
WAITED_S_MAX = 30.0


class ResealUnderLoad(Parameters, kw_only=True, frozen=True):
    """Parameters of ``reseal-under-load``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    stored: dict[str, Body] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)
    """By URN the name that pins the payload that it was stored with."""
    long: str = ""
    """The URN of the object that takes long to read."""
    superseded: set[str] = field(default_factory=set)
    """Payloads that others came in the place of."""
    unstored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    over_switch: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


async def run(trial: Trial, _parameters: ResealUnderLoad) -> None:
    """Reseal everything again and again, and rotate keys, beside clients and long reads."""
    seen, rounds = _Seen(), 0
    async with trial.world.gateway(read_grace_s=GRACE_S) as gateway:
        keys = await open_keys(trial, gateway)
        for number in range(BEGUN):
            await _round_trip(trial, keys, seen, number)
        seen.long = await _store(trial, keys, seen, trial.body(SLOW_SIZE), INPUT)
        await _judge_pins(trial, keys, dict(seen.pinned), OK)
        at_first = dict(seen.pinned)
        trial.begin_faults()
        crowd = asyncio.create_task(
            trial.crowd(lambda number: _round_trip(trial, keys, seen, number))
        )
        try:
            while seen.long and (rounds == 0 or not crowd.done()):
                await _reseal(trial, gateway, keys, seen, ROLES[rounds % len(ROLES)])
                rounds += 1
        finally:
            await crowd
        # What was stored before the last rotation, and after the last job had begun.
        await keys.rewrap(seen.jobs)
        await _judge_pins(trial, keys, at_first, CIDSuperseded.code)
        await _judge_gone(trial, seen)
        for urn, body in list(seen.stored.items()):
            await keys.read_as_all(seen.unread, urn, body)
        await keys.require_exact(seen.stored, newest=True)
    keys.hand_over()
    trial.notes["rounds"], trial.notes["superseded"] = rounds, len(seen.superseded)
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("every read is served, and opens for its reader", seen.unread)
    trial.require_all("what is being read is read to its end", seen.over_switch)
    trial.require_all("a job gives each object a new file key and payload", seen.jobs)
    trial.verdict.require(
        "objects were resealed under load",
        met=rounds > 0 and len(seen.superseded) > BEGUN,
        evidence=f"{rounds} jobs, {len(seen.superseded)} payloads",
    )


async def _reseal(trial: Trial, gateway: Reachable, keys: Keys, seen: _Seen, role: str) -> None:
    """Reseal all that is there, while a long object is being read, and rotate a key meanwhile."""
    long = seen.long
    switched, begun = asyncio.Event(), asyncio.Semaphore(0)
    before = {urn: await manifest_of(trial.world, urn) for urn in list(seen.stored)}

    async def midway() -> None:
        begun.release()
        await switched.wait()

    async def is_switched() -> bool:
        now = await manifest_of(trial.world, long)
        return now.payload_id != before[long].payload_id

    async with pausing(trial, gateway, keys.member) as slow:
        reads = [
            asyncio.create_task(slow.fetch(long, size=SLOW_SIZE, sealed=sealed, midway=midway))
            for sealed in (False, True)
        ]
        try:
            async with asyncio.timeout(WAITED_S_MAX):
                for _ in reads:
                    await begun.acquire()
            job_id = await keys.begin("reseal")
            await keys.rotate(role)
            met = await trial.eventually(is_switched, within_s=WAITED_S_MAX)
            await asyncio.sleep(HELD_S)
        finally:
            switched.set()
            plain, sealed = await asyncio.gather(*reads)
    body = seen.stored[long]
    if not met or plain.outcome != OK or plain.digest != body.digest:
        seen.over_switch.append(f"in clear it came to {plain.outcome}; resealed: {met}")
    if sealed.outcome != OK or not opens_to(sealed.content, keys.held[USER], body):
        seen.over_switch.append(f"the sealed file came to {sealed.outcome}")
    note_job(await keys.ended(job_id), seen.jobs)
    await _note_superseded(trial, seen, before)


async def _note_superseded(trial: Trial, seen: _Seen, before: dict[str, Manifest]) -> None:
    for urn, old in before.items():
        now = await manifest_of(trial.world, urn)
        seen.superseded.add(old.payload_id)
        if now.payload_id == old.payload_id or now.cid == old.cid:
            seen.jobs.append(f"{urn} has the payload that it had")
        if now.file_key_print == old.file_key_print:
            seen.jobs.append(f"{urn} has the file key that it had")


async def _store(trial: Trial, keys: Keys, seen: _Seen, body: Body, direction: str) -> str:
    task_id = trial.next_task()
    answer = await trial.deliver(keys.customer, task_id, body, direction=direction)
    if not answer.urn:
        seen.unstored.append(f"{task_id} ended in {answer.outcome}")
        return ""
    seen.stored[answer.urn] = body
    if answer.outcome == OK:
        seen.pinned[answer.urn] = str(answer.document["urn_pinned"])
    return answer.urn


async def _round_trip(trial: Trial, keys: Keys, seen: _Seen, number: int) -> None:
    """Store a body, as the user or as the miner, and read it, and one that was there before."""
    body = trial.body()
    urn = await _store(trial, keys, seen, body, OUTPUT if number % 2 else INPUT)
    if not urn:
        return
    await keys.read_as_all(seen.unread, urn, body)
    shorter = [urn for urn, body in seen.stored.items() if body.size < SLOW_SIZE]
    old = shorter[trial.chance("old", urn).below(len(shorter))]
    await keys.read_as_all(seen.unread, old, seen.stored[old])


async def _judge_pins(trial: Trial, keys: Keys, pinned: dict[str, str], expected: str) -> None:
    """Require that names that pin the payloads from before the first job come to that."""
    wrong: list[str] = [] if pinned else ["there are none"]
    for urn, name in pinned.items():
        answer = await keys.customer.fetch(name.replace("?", "%3F"), size=SLOW_SIZE)
        if answer.outcome != expected:
            wrong.append(f"{urn}, pinned, came to {answer.outcome}")
    trial.require_all(f"names that pin a payload come to {expected}", wrong)


async def _judge_gone(trial: Trial, seen: _Seen) -> None:
    """Require that no store has anything of what was superseded, soon after the grace."""
    prefix, left = trial.world.parts.payloads, set[str]()

    async def are_gone() -> bool:
        left.clear()
        for each in trial.world.stores:
            keys = [blob.key async for blob in each.store.list(prefix)]
            left.update(key.removeprefix(prefix).partition("/")[0] for key in keys)
        left.intersection_update(seen.superseded)
        return not left

    met = await trial.eventually(are_gone, within_s=GRACE_S + WAITED_S_MAX)
    trial.verdict.require(
        "what was superseded is gone from every store once readers had their time",
        met=met,
        evidence=f"of {len(seen.superseded)} payloads {len(left)} are left",
    )


CASE = Case(
    name="reseal-under-load",
    edge_case="All objects get new file keys and payloads while clients upload them and read them.",
    fault="Jobs reseal, one after the other, while keys are rotated; the old payloads are deleted a"
    " few seconds after the new ones are there.",
    load="Clients that store inputs and outputs, and read what is there as both parties; long reads"
    " that pause until their object has its new payload.",
    passes_when="No upload and no read fails, and all content is what it was; names that pin an old"
    " payload are superseded; of the old payloads nothing is left in any store.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ResealUnderLoad,
    bytes_min=bytes_of_bodies(BEGUN, SLOW_SIZE),
    expected_s=20.0,
    run=run,
)
