"""``stale-key-writer``: writers seal to the router's former key, in time and too late."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from crypto import intake_identity
from storage_gateway.errors import StaleKeyWriter
from storage_gateway.key_states import KeyState
from storage_gateway.records import INPUT, ROUTER
from storage_gateway.stress.bodies import Body, sealed_to
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.held import HELD_SIZE, Held
from storage_gateway.stress.load import Answer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import SETTLED_S_MAX, Keys, KeysRefused, open_keys
from storage_gateway.stress.trial import Trial

LONG_S = 86400.0
ROUNDS_MIN = 4
VERSIONS_BACK = 4
"""The oldest version that writers seal to, counted from the newest."""
TRIES_MAX = 10
"""Of who seals to the recipient that was told, while keys are rotated."""


class StaleKeyWriters(Parameters, kw_only=True, frozen=True):
    """Parameters of ``stale-key-writer``."""

    sizes: Sizes = (4096, 70_000)
    retiring_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=60, description="How long what is sealed to a version is taken"),
    ] = 1.0


@dataclass(slots=True)
class _Seen:
    stored: dict[str, Body] = field(default_factory=dict)
    retired: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By version of the router's key: between which moments it began to retire."""
    untaken: list[str] = field(default_factory=list)
    too_late: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    shut_out: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    taken: int = 0
    refused: int = 0


async def run(trial: Trial, parameters: StaleKeyWriters) -> None:
    """Seal to former versions that are taken for long, then to some that are taken for a moment."""
    seen = _Seen()
    async with trial.world.gateway(key_retiring_s=LONG_S) as gateway:
        keys = await open_keys(trial, gateway)
        trial.begin_faults()
        await _store_over_rotation(keys, seen)
        await _judge_in_time(keys, seen)
        await _judge_disabled(keys, seen)
        await _load(keys, seen, retiring_s=LONG_S, pause_s=parameters.retiring_s / 2)
    before = seen.taken
    async with trial.world.gateway(key_retiring_s=parameters.retiring_s) as gateway:
        keys.customer = trial.customer(gateway, keys.member)
        await _judge_too_late(keys, seen, parameters.retiring_s)
        retiring_s = parameters.retiring_s
        await _load(keys, seen, retiring_s=retiring_s, pause_s=retiring_s / 2)
        await keys.require_exact(seen.stored, newest=False)
        await keys.rewrap(seen.jobs)
        await keys.require_idle()
    trial.require_all("what is sealed to a version that just retires is taken", seen.untaken)
    trial.require_all("what is sealed to a version whose time is over is refused", seen.too_late)
    trial.require_all("who is refused is told the version, and whom to seal to", seen.untold)
    trial.require_all("who seals to the recipient that was told is served", seen.shut_out)
    trial.require_all("every job ends, and fails for nothing", seen.jobs)
    trial.verdict.require(
        "writers sealed to former versions in time, and too late",
        met=before > 0 and seen.refused > 0,
        evidence=f"{seen.taken} taken, {seen.refused} refused",
    )


async def _rotate(keys: Keys, seen: _Seen) -> None:
    version, began = keys.active[ROUTER], time.monotonic()
    seen.retired[version] = began, math.inf
    await keys.rotate(ROUTER)
    seen.retired[version] = began, time.monotonic()


def _recipient(keys: Keys, version: int) -> str:
    """Return what the router's party was shown with while a version was active."""
    identity = keys.identity(ROUTER, version)
    return str(intake_identity(identity, keys.member.session_id).recipient())


async def _send(keys: Keys, seen: _Seen, task_id: str, body: Body, recipient: str) -> Answer:
    sealed = await asyncio.to_thread(sealed_to, body, recipient)
    answer = await keys.trial.deliver(keys.customer, task_id, body, sealed=sealed)
    if answer.urn and answer.outcome == OK:
        seen.stored[answer.urn] = body
        plain = await keys.trial.read_back(keys.customer, answer.urn, body)
        if plain.outcome != OK:
            seen.untaken.append(f"{answer.urn} was taken, and reading it said {plain.outcome}")
    return answer


async def _store_over_rotation(keys: Keys, seen: _Seen) -> None:
    """Rotate while a sealed file is under way: its head is wrapped anew before its commit."""
    held, task_id = Held(keys.trial.body(HELD_SIZE)), keys.trial.next_task()
    sealed = await asyncio.to_thread(sealed_to, held.body, _recipient(keys, 1))
    keys.trial.ledger.offer(keys.member, task_id, INPUT, held.body)
    sent = asyncio.create_task(
        keys.customer.upload(task_id, held.body, source=held.pieces_of(sealed), sealed=sealed)
    )
    try:
        await keys.trial.eventually(keys.trial.world.unsettled, within_s=SETTLED_S_MAX)
        await _rotate(keys, seen)
    finally:
        held.goes_on.set()
        answer = await sent
    if answer.outcome != OK:
        seen.untaken.append(f"a file under way while its key retired came to {answer.outcome}")
        return
    keys.trial.acknowledge(keys.member, answer.urn, held.body)
    seen.stored[answer.urn] = held.body
    await keys.require_exact({answer.urn: held.body}, newest=True)


async def _judge_in_time(keys: Keys, seen: _Seen) -> None:
    """Seal to each former version: it is taken, and wrapped for the newest one alone."""
    await _rotate(keys, seen)
    for version in range(1, keys.active[ROUTER]):
        body, task_id = keys.trial.body(), keys.trial.next_task()
        answer = await _send(keys, seen, task_id, body, _recipient(keys, version))
        if answer.outcome != OK:
            seen.untaken.append(f"version {version} came to {answer.outcome}")
            continue
        seen.taken += 1
        await keys.require_exact({answer.urn: body}, newest=True)


async def _judge_disabled(keys: Keys, seen: _Seen) -> None:
    """Seal to a version that is disabled: it is refused, however young; then brought back."""
    for state in (KeyState.DISABLED, KeyState.RETIRING):
        brought = await keys.set_state(ROUTER, 1, state, urgent=True)
        if brought.outcome != OK:
            raise KeysRefused(f"bringing version 1 to {state} came to {brought.outcome}")
        if state is KeyState.DISABLED:
            await _judge_refused(keys, seen, 1)


async def _judge_too_late(keys: Keys, seen: _Seen, retiring_s: float) -> None:
    """Rotate, wait until the time of the version before is over, and seal to it."""
    await _rotate(keys, seen)
    version = keys.active[ROUTER] - 1
    over = seen.retired[version][1] + retiring_s
    await keys.trial.eventually(
        lambda: time.monotonic() > over, within_s=SETTLED_S_MAX + retiring_s
    )
    await _judge_refused(keys, seen, version)


async def _judge_refused(keys: Keys, seen: _Seen, version: int) -> None:
    body, task_id = keys.trial.body(), keys.trial.next_task()
    answer = await _send(keys, seen, task_id, body, _recipient(keys, version))
    if answer.outcome == OK:
        seen.too_late.append(f"version {version} was taken")
        return
    await _judge_told(keys, seen, version, answer, keys.active[ROUTER])
    again = await _send(keys, seen, task_id, body, str(answer.document.get("current_recipient")))
    if again.outcome != OK:
        seen.shut_out.append(f"{task_id} ended in {again.outcome}")


async def _judge_told(
    keys: Keys, seen: _Seen, version: int, answer: Answer, newest_before: int
) -> None:
    """Judge what somebody was told who sealed to a version; the newest was that, or is since."""
    told = answer.document.get("sealed_version"), answer.document.get("current_recipient")

    def is_current() -> bool:
        # Of a rotation that is just being answered the recipient is known in a moment.
        newer = range(newest_before, keys.version(ROUTER) + 1)
        return told[1] in {_recipient(keys, each) for each in newer}

    right = (answer.outcome, told[0]) == (StaleKeyWriter.code, version)
    patience_s = 0.0 if seen.untold else SETTLED_S_MAX
    if not right or not await keys.trial.eventually(is_current, within_s=patience_s):
        seen.untold.append(f"version {version}: {answer.outcome}, {told[0]}, {told[1]}")
    seen.refused += 1


async def _load(keys: Keys, seen: _Seen, *, retiring_s: float, pause_s: float) -> None:
    """Rotate again and again beside writers who seal to the newest versions, or older ones."""
    crowd = asyncio.create_task(
        keys.trial.crowd(lambda _: _write_as_it_comes(keys, seen, retiring_s))
    )
    try:
        rounds = 0
        while rounds < ROUNDS_MIN or not crowd.done():
            await _rotate(keys, seen)
            await asyncio.wait([crowd], timeout=pause_s)
            rounds += 1
    finally:
        await crowd


async def _write_as_it_comes(keys: Keys, seen: _Seen, retiring_s: float) -> None:
    """Seal to one of the newest versions; then, as it was told, to the current one."""
    body, task_id = keys.trial.body(), keys.trial.next_task()
    newest = keys.active[ROUTER]
    back = keys.trial.chance("writers", task_id).below(min(newest, VERSIONS_BACK))
    version = newest - back
    began = time.monotonic()
    answer = await _send(keys, seen, task_id, body, _recipient(keys, version))
    if answer.outcome == OK:
        seen.taken += back > 0
        if began > _since(seen, version)[1] + retiring_s:
            seen.too_late.append(f"version {version} was taken")
        return
    if time.monotonic() < _since(seen, version)[0] + retiring_s:
        seen.untaken.append(f"version {version} came to {answer.outcome}")
    await _judge_told(keys, seen, version, answer, newest)
    for _ in range(TRIES_MAX):
        if answer.outcome != StaleKeyWriter.code:
            break
        told = str(answer.document.get("current_recipient"))
        answer = await _send(keys, seen, task_id, body, told)
    if answer.outcome != OK:
        seen.shut_out.append(f"{task_id} ended in {answer.outcome}")


def _since(seen: _Seen, version: int) -> tuple[float, float]:
    """Return between which moments a version began to retire: of one that is active, now."""
    now = time.monotonic()
    return seen.retired.get(version, (now, now))


CASE = Case(
    name="stale-key-writer",
    edge_case="Writers seal their files to the recipient that the router had before its key was"
    " rotated.",
    fault="The router's key is rotated again and again, in the midst of an upload too; its former"
    " versions are taken for a day, then for a moment; one is disabled.",
    load="Clients that seal to the newest version or to one of those before, and send the file.",
    passes_when="In time it is taken, and wrapped for the newest version alone; too late, or"
    " disabled, it is refused, and who then seals to the recipient that was told is served.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=StaleKeyWriters,
    bytes_min=bytes_of_bodies(5, HELD_SIZE),
    expected_s=20.0,
    run=run,
)
