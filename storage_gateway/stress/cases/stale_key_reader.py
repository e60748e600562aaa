"""``stale-key-reader``: readers hold another version of their key than objects are sealed for."""

import asyncio
from dataclasses import dataclass, field

from storage_gateway.errors import StaleKeyReader
from storage_gateway.records import MINER, USER
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.load import Answer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import Keys, open_keys, opens_to, versions_of
from storage_gateway.stress.tampering import manifest_of
from storage_gateway.stress.trial import Trial

READERS = (USER, MINER)
PAUSE_S = 0.05
"""Between rotations."""
ROUNDS_MIN = 2
TRIES_MAX = 10
"""Of who reads with the version that was told to be right, while jobs wrap objects anew."""


class StaleKeyReaders(Parameters, kw_only=True, frozen=True):
    """Parameters of ``stale-key-reader``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    stored: dict[str, Body] = field(default_factory=dict)
    unstored: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    shut_out: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    behind: int = 0
    ahead: int = 0


async def run(trial: Trial, _parameters: StaleKeyReaders) -> None:
    """Read with versions that are too old and too new, once for certain, then under load."""
    seen = _Seen()
    async with trial.world.gateway() as gateway:
        keys = await open_keys(trial, gateway)
        trial.begin_faults()
        await _judge_both_ways(keys, seen)
        crowd = asyncio.create_task(trial.crowd(lambda _: _read_as_it_comes(keys, seen)))
        try:
            rounds = 0
            while rounds < ROUNDS_MIN or not crowd.done():
                for role in READERS:
                    await keys.rotate(role)
                    await asyncio.sleep(PAUSE_S)
                rounds += 1
                if rounds % 2 == 0:  # between two jobs some are sealed for older versions
                    await keys.rewrap(seen.jobs)
        finally:
            await crowd
        await keys.rewrap(seen.jobs)
        await _judge_newest(keys, seen)
        await keys.require_exact(seen.stored, newest=False)
    keys.hand_over()
    trial.notes["rounds"] = rounds
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("who holds another version is told which is needed", seen.untold)
    trial.require_all("who has the right identity always reads", seen.shut_out)
    trial.require_all("every job ends, and fails for nothing", seen.jobs)
    trial.verdict.require(
        "readers held versions that were too old, and too new",
        met=min(seen.behind, seen.ahead) > 0,
        evidence=f"{seen.behind} reads with older versions, {seen.ahead} with newer ones",
    )


async def _judge_both_ways(keys: Keys, seen: _Seen) -> None:
    """Read with the version after that of an object, and with the one before; then after a job."""
    old = await _store(keys, seen)
    for role in READERS:
        await keys.rotate(role)
    new = await _store(keys, seen)
    for role in READERS:
        for urn in (old, new):
            for version in (1, 2):
                await _judge_read(keys, seen, role, urn, version)
    before = seen.behind, seen.ahead
    keys.trial.verdict.require(
        "a reader that is behind, and one that is ahead, are refused for certain",
        met=before == (len(READERS), len(READERS)),
        evidence=f"{before[0]} behind and {before[1]} ahead",
    )
    await keys.rewrap(seen.jobs)
    await _judge_newest(keys, seen)


async def _judge_newest(keys: Keys, seen: _Seen) -> None:
    """Require that after a job the newest identities, and no older ones, are told to be right."""
    for urn, body in seen.stored.items():
        for role in READERS:
            newest = keys.active[role]
            answer = await _judge_read(keys, seen, role, urn, newest)
            if answer.outcome != OK:
                seen.shut_out.append(f"{urn} with the newest version came to {answer.outcome}")
            await _judge_read(keys, seen, role, urn, newest - 1)
        plain = await keys.customer.fetch(urn, size=body.size)
        if (plain.outcome, plain.digest) != (OK, body.digest):
            seen.shut_out.append(f"{urn} in clear came to {plain.outcome}")


async def _store(keys: Keys, seen: _Seen) -> str:
    body, task_id = keys.trial.body(), keys.trial.next_task()
    answer = await keys.trial.deliver(keys.customer, task_id, body)
    if answer.urn:
        seen.stored[answer.urn] = body
    else:
        seen.unstored.append(f"{task_id} ended in {answer.outcome}")
    return answer.urn


async def _read_as_it_comes(keys: Keys, seen: _Seen) -> None:
    """Store a body; read it and an older one, as a party, with any version and with the right."""
    new = await _store(keys, seen)
    urns = list(seen.stored)
    picks = keys.trial.chance("reads", len(urns))
    for urn in dict.fromkeys((new, urns[picks.below(len(urns))])):
        if urn not in seen.stored:
            continue
        role = READERS[picks.below(len(READERS))]
        version = 1 + picks.below(keys.active[role])
        await _judge_read(keys, seen, role, urn, version)
        await _follow(keys, seen, role, urn, version)
        plain = await keys.customer.fetch(urn, size=seen.stored[urn].size)
        if (plain.outcome, plain.digest) != (OK, seen.stored[urn].digest):
            seen.shut_out.append(f"{urn} in clear came to {plain.outcome}")


async def _judge_read(keys: Keys, seen: _Seen, role: str, urn: str, version: int) -> Answer:
    """Read with one version, and judge the answer by what the object is sealed for just before and
    just after: a job may wrap it anew meanwhile.
    """
    body, held = seen.stored[urn], keys.identity(role, version)
    first, current = await _sealed_for(keys, role, urn), keys.active[role]
    answer = await keys.fetch_sealed(role, urn, body, held)
    sealed = range(first, await _sealed_for(keys, role, urn) + 1)
    if answer.outcome == OK:
        if version not in sealed or not opens_to(answer.content, [held], body):
            seen.untold.append(f"{urn} came to who holds version {version} of {list(sealed)}")
        return answer
    told = [answer.document.get(f"{name}_version", 0) for name in ("held", "sealed", "current")]
    newest = range(current, keys.version(role) + 1)
    right = told[0] == version != told[1] and told[1] in sealed and told[2] in newest
    if answer.outcome != StaleKeyReader.code or not right:
        seen.untold.append(f"{urn}, held {version}, sealed {list(sealed)}: {answer.outcome} {told}")
    elif told[1] > version:
        seen.behind += 1
    else:
        seen.ahead += 1
    return answer


async def _sealed_for(keys: Keys, role: str, urn: str) -> int:
    """Return the version of a party's key that an object is sealed for; each job raises it."""
    return max(versions_of(await manifest_of(keys.trial.world, urn), role), default=0)


async def _follow(keys: Keys, seen: _Seen, role: str, urn: str, version: int) -> None:
    """Read with the version that was told to be right, until it is."""
    body, outcomes = seen.stored[urn], []
    for _ in range(TRIES_MAX):
        held = keys.identity(role, version)
        answer = await keys.fetch_sealed(role, urn, body, held)
        if answer.outcome == OK:
            if not opens_to(answer.content, [held], body):
                seen.shut_out.append(f"{urn} does not open with version {version}")
            return
        outcomes.append(answer.outcome)
        version = int(answer.document.get("sealed_version") or version)
    seen.shut_out.append(f"{urn} came to {outcomes}")


CASE = Case(
    name="stale-key-reader",
    edge_case="A reader holds an older, or a newer, version of its key than the object is sealed"
    " for.",
    fault="Keys of the user and of the miner are rotated again and again, and wrapped anew now and"
    " then; readers say that they hold any of the versions.",
    load="Clients that upload, read with one of the versions, and then with the one that was told.",
    passes_when="Each is told which version it holds, which the object is sealed for and which is"
    " current; with the right one, or after the job, it reads byte for byte; in clear always.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=StaleKeyReaders,
    bytes_min=bytes_of_bodies(2),
    expected_s=12.0,
    run=run,
)
