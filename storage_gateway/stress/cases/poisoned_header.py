"""``poisoned-header``: heads in the catalog are damaged while a job wraps them anew."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from storage_gateway.errors import BlobCorrupt
from storage_gateway.records import MINER
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import require_right
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.poisoning import Poisoned, poison
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import Keys, open_keys, opens_to
from storage_gateway.stress.trial import Trial

BATCH = 6
FIRST = 6
"""Of both batches so many are poisoned before the job begins, the others while it goes on."""
JOB_S = 3.0
"""About how long the job takes: it rests between two steps."""
STEP_S_MAX = 30.0
PAUSE_S = 0.05

Stored = dict[str, Body]


class PoisonedHeader(Parameters, kw_only=True, frozen=True):
    """Parameters of ``poisoned-header``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    """What clients saw that nobody may see."""

    unstored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


async def run(trial: Trial, _parameters: PoisonedHeader) -> None:
    """Rotate the miner's key, poison heads, and have a job wrap all of them anew, under load."""
    seen, rounds = _Seen(), 0
    async with trial.world.gateway() as gateway:
        keys = await open_keys(trial, gateway)
        while rounds == 0 or trial.goes_on():
            await _round(trial, keys, seen)
            rounds += 1
    keys.hand_over()
    trial.notes["rounds"] = rounds
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("meanwhile reads are right, or refused as damage", seen.unread)


async def _round(trial: Trial, keys: Keys, seen: _Seen) -> None:
    older = await _store(trial, keys, seen)
    await keys.rotate(MINER)
    newer = await _store(trial, keys, seen)
    await keys.rotate(MINER)
    # From both batches: they are wrapped for two sets of keys, which the job does in two steps.
    mixed = [urn for pair in zip(older, newer, strict=False) for urn in pair]
    stored = older | newer
    if trial.fault_began is None:
        trial.begin_faults()
    first = await _poison(trial, keys, mixed[:FIRST])
    job_id = await keys.begin("rewrap", rate=len(trial.ledger.acknowledged) / JOB_S)
    job = asyncio.create_task(keys.ended(job_id))
    load = asyncio.create_task(_load_while(trial, keys, job, stored, seen))
    try:
        await trial.eventually(lambda: _has_begun(keys, job_id), within_s=STEP_S_MAX)
        meanwhile = await _poison(trial, keys, mixed[FIRST:])
        document = await job
    finally:
        await load
    poisoned = Poisoned(first.right | meanwhile.right, first.wrong | meanwhile.wrong)
    # What the job had read before it was poisoned has a right head again: the new one.
    left = await poisoned.left(trial.world)
    provoked = set(first.wrong) <= left and bool(left & set(meanwhile.wrong))
    await _judge_job(trial, keys, job_id, document, left, provoked=provoked)
    await _judge_poisoned(trial, keys, {urn: stored[urn] for urn in left})
    await _judge_wrapped(trial, keys, {u: body for u, body in stored.items() if u not in left})
    await _judge_mended(trial, keys, poisoned, stored)


async def _poison(trial: Trial, keys: Keys, urns: list[str]) -> Poisoned:
    active = str(keys.held[MINER][-1].recipient())
    chance = trial.chance("heads", len(keys.held[MINER]), len(urns))
    return await poison(trial.world, urns, active=active, chance=chance)


async def _store(trial: Trial, keys: Keys, seen: _Seen) -> Stored:
    bodies = [trial.body() for _ in range(BATCH)]
    urns = [await trial.round_trip(keys.customer, seen.unstored, body) for body in bodies]
    return {urn: body for urn, body in zip(urns, bodies, strict=True) if urn}


async def _has_begun(keys: Keys, job_id: str) -> bool:
    progress = (await keys.job_now(job_id)).get("progress", {})
    return bool(progress.get("done") or progress.get("failed"))


async def _load_while(
    trial: Trial, keys: Keys, job: "asyncio.Task[Any]", stored: Stored, seen: _Seen
) -> None:
    """Upload, and read what may be poisoned, for as long as the job goes on."""
    urns, picks = list(stored), trial.chance("reads")

    async def client(_number: int) -> None:
        await trial.round_trip(keys.customer, seen.unstored)
        urn = urns[picks.below(len(urns))]
        answer = await keys.customer.fetch(urn, size=stored[urn].size)
        if answer.outcome == OK and answer.digest != stored[urn].digest:
            trial.verdict.broken(8, f"{urn} was read with other content than was sent for it")
        if answer.outcome not in (OK, BlobCorrupt.code):
            seen.unread.append(f"{urn} came to {answer.outcome}")

    while not job.done():
        await trial.crowd(client)
        await asyncio.sleep(PAUSE_S)


async def _judge_job(
    trial: Trial,
    keys: Keys,
    job_id: str,
    document: dict[str, Any],
    left: Collection[str],
    *,
    provoked: bool,
) -> None:
    listed, failed = await keys.failures(job_id), document["progress"]["failed"]
    counted = document["state"] == "done" and failed == len(left)
    trial.verdict.require(
        "the job ends, and counts and lists the heads that are poisoned, and no other",
        met=counted and sorted(listed) == sorted(left),
        evidence=f"{len(left)} poisoned, {failed} counted, {len(listed)} listed; the job is"
        f" {document['state']}",
    )
    trial.verdict.require(
        "heads were poisoned before the job, and while it went on",
        met=provoked,
        evidence=f"{len(left)} are left",
    )
    outdated = await _outdated(keys)
    trial.verdict.require(
        "no key counts as free that a poisoned head is wrapped for",
        met=outdated == len(left),
        evidence=f"{outdated} heads, of {len(left)}, are counted for versions before",
    )


async def _outdated(keys: Keys) -> int:
    """Return how many heads are wrapped for versions that are not active."""
    return sum(key["heads"] for key in await keys.census() if key["state"] != "active")


async def _judge_poisoned(trial: Trial, keys: Keys, ill: Stored) -> None:
    """Require that nothing of a poisoned object is answered in clear, nor opens as a file."""
    wrong: list[str] = []
    for urn, body in ill.items():
        plain = await keys.customer.fetch(urn, size=body.size)
        if plain.outcome == OK:
            trial.verdict.broken(8, f"{urn} was read with a head that is not its own")
        if plain.outcome != BlobCorrupt.code:
            wrong.append(f"{urn} came to {plain.outcome}, not {BlobCorrupt.code}")
        sealed = await keys.fetch_sealed(MINER, urn, body, None)
        if sealed.outcome not in (OK, BlobCorrupt.code):
            wrong.append(f"{urn} as a sealed file came to {sealed.outcome}")
        elif sealed.outcome == OK and opens_to(sealed.content, keys.held[MINER], body):
            wrong.append(f"{urn} opens as a sealed file")
    trial.require_all("what is poisoned is refused, or does not open", wrong)


async def _judge_wrapped(trial: Trial, keys: Keys, sound: Stored) -> None:
    """Require that objects open as sealed files with the miner's newest identity, and no other."""
    wrong: list[str] = []
    *before, newest = keys.held[MINER]
    for urn, body in sound.items():
        sealed = await keys.fetch_sealed(MINER, urn, body, newest)
        if sealed.outcome != OK or not opens_to(sealed.content, [newest], body):
            wrong.append(f"{urn} as a sealed file came to {sealed.outcome}")
        elif opens_to(sealed.content, before, body):
            wrong.append(f"{urn} opens with an identity from before")
    trial.require_all("all others are wrapped anew", wrong)
    await keys.require_exact(sound, newest=True)


async def _judge_mended(trial: Trial, keys: Keys, poisoned: Poisoned, stored: Stored) -> None:
    """Put the right heads back; require that another job does what the first one could not."""
    await poisoned.put_back(trial.world)
    customer, criterion = keys.customer, "all is read again once the right heads are put back"
    await require_right(trial, customer, stored, criterion)
    document, outdated = await keys.job(), await _outdated(keys)
    failed = document["progress"]["failed"]
    trial.verdict.require(
        "with the right heads put back another job does the rest",
        met=document["state"] == "done" and not failed and not outdated,
        evidence=f"it is {document['state']}, {failed} failed, {outdated} heads are outdated",
    )
    await _judge_wrapped(trial, keys, stored)
    await require_right(trial, customer, stored, criterion)


CASE = Case(
    name="poisoned-header",
    edge_case="Heads in the catalog are damaged, cut, or another object's, while a job wraps all"
    " of them anew for a new key.",
    fault="Heads of which a bit turns over, that are cut, or that are another object's, written"
    " into the run's catalog before a job rewrap begins and while it goes on.",
    load="Clients that upload and read while the job goes on.",
    passes_when="The job ends, and counts and lists exactly those; all others are wrapped anew;"
    " those are refused, count for the old key, and are read and wrapped anew once the right heads"
    " are put back.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=PoisonedHeader,
    bytes_min=bytes_of_bodies(2 * BATCH),
    expected_s=15.0,
    run=run,
)
