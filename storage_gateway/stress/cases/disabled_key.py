"""``disabled-key``: a key version in the middle is disabled, brought back, and destroyed."""

import asyncio
from dataclasses import dataclass, field

from storage_gateway.errors import KeyDisabled, KeyInUse
from storage_gateway.key_states import KeyState
from storage_gateway.records import ROUTER
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.load import Answer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import (
    ROLES,
    SETTLED_S_MAX,
    Keys,
    KeysRefused,
    open_keys,
    opens_to,
)
from storage_gateway.stress.trial import Trial

OLDEST, MIDDLE, NEWEST = 1, 2, 3
"""Versions of each key."""
EACH = 3
"""Objects that are sealed for each of them before the load."""
ROUNDS_MIN = 1
AT_ONCE = {"key_retiring_s": 0.0, "key_disabled_s": 0.0}
"""No version has to stay in a state for a while."""


class DisabledKeys(Parameters, kw_only=True, frozen=True):
    """Parameters of ``disabled-key``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    sealed_for: dict[int, dict[str, Body]] = field(
        default_factory=lambda: {version: {} for version in (OLDEST, MIDDLE, NEWEST)}
    )
    """By the version of all keys; what the load stores is for the newest."""
    unstored: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    """What was read with a version that is disabled."""
    refused: list[str] = field(default_factory=list)
    """What was not read though it should."""
    states: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rounds: int = 0

    def stored(self) -> dict[str, Body]:
        """Return all objects."""
        return {urn: body for stored in self.sealed_for.values() for urn, body in stored.items()}


async def run(trial: Trial, _parameters: DisabledKeys) -> None:
    """Disable the middle version of each key in turns beside clients; then destroy all three."""
    seen = _Seen()
    async with trial.world.gateway(**AT_ONCE) as gateway:
        keys = await open_keys(trial, gateway)
        for version in (OLDEST, MIDDLE, NEWEST):
            for _ in range(EACH):
                await _store(keys, seen, version)
            if version != NEWEST:
                for role in ROLES:
                    await keys.rotate(role)
        trial.begin_faults()
        crowd = asyncio.create_task(trial.crowd(lambda _: _go_on(keys, seen)))
        try:
            while seen.rounds < ROUNDS_MIN or not crowd.done():
                for role in ROLES:
                    await _disable_for_a_time(keys, seen, role)
                seen.rounds += 1
            for role in ROLES:
                await _try_to_destroy(keys, seen, role)
        finally:
            await crowd
        await _destroy_after_job(keys, seen)
    keys.hand_over()
    trial.notes["rounds"] = seen.rounds
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("nothing is read with a version that is disabled", seen.served)
    trial.require_all("all else is read, and what is brought back too", seen.refused)
    trial.require_all("a version is disabled, brought back and destroyed when asked", seen.states)
    trial.require_all("no version is destroyed that something is wrapped for", seen.kept)


async def _store(keys: Keys, seen: _Seen, version: int) -> str:
    body, task_id = keys.trial.body(), keys.trial.next_task()
    answer = await keys.trial.deliver(keys.customer, task_id, body)
    if answer.urn:
        seen.sealed_for[version][answer.urn] = body
    else:
        seen.unstored.append(f"{task_id} ended in {answer.outcome}")
    return answer.urn


async def _go_on(keys: Keys, seen: _Seen) -> None:
    """Store a body and read it, and one for the oldest version; nothing of that is disabled."""
    new = await _store(keys, seen, NEWEST)
    for version, urn in ((NEWEST, new), (OLDEST, next(iter(seen.sealed_for[OLDEST]), ""))):
        if urn:
            for role in ROLES:
                await _judge_read(keys, seen, role, urn, version, disabled=None)


async def _disable_for_a_time(keys: Keys, seen: _Seen, disabled: str) -> None:
    """Disable the middle version of one party's key, and bring it back; read all both times."""
    await _bring(keys, seen, disabled, KeyState.DISABLED)
    await _judge_all(keys, seen, disabled)
    if disabled != ROUTER:
        await _judge_held(keys, seen, disabled)
    await _bring(keys, seen, disabled, KeyState.RETIRING)
    await _judge_all(keys, seen, None)


async def _judge_all(keys: Keys, seen: _Seen, disabled: str | None) -> None:
    for version, stored in seen.sealed_for.items():
        for urn in list(stored)[:EACH]:
            for role in ROLES:
                await _judge_read(keys, seen, role, urn, version, disabled=disabled)


async def _judge_held(keys: Keys, seen: _Seen, role: str) -> None:
    """Require that who says to hold the disabled version gets nothing, whatever it asks for."""
    held = keys.identity(role, MIDDLE)
    for stored in seen.sealed_for.values():
        for urn, body in list(stored.items())[:1]:
            answer = await keys.fetch_sealed(role, urn, body, held)
            if answer.outcome != KeyDisabled.code:
                seen.served.append(f"{urn} came to {answer.outcome} for who holds what is disabled")


async def _judge_read(
    keys: Keys, seen: _Seen, role: str, urn: str, version: int, *, disabled: str | None
) -> None:
    """Read an object as a party does, for the router in clear, and judge the answer.

    ``disabled`` is whose middle version is.
    """
    body = seen.sealed_for[version][urn]
    if role == ROUTER:
        answer = await keys.customer.fetch(urn, size=body.size)
        right = answer.digest == body.digest
    else:
        answer = await keys.fetch_sealed(role, urn, body, None)
        right = opens_to(answer.content, [keys.identity(role, version)], body)
    where = f"{urn} for the {role}'s version {version}"
    if version == MIDDLE and role == disabled:
        if answer.outcome == OK:
            seen.served.append(f"{where} was read")
        elif not _is_told(answer):
            seen.served.append(f"{where} came to {answer.outcome}, {answer.document}")
    elif answer.outcome != OK:
        seen.refused.append(f"{where} came to {answer.outcome}")
    elif not right:
        keys.trial.verdict.broken(8, f"{where} was read with other content than was sent for it")


def _is_told(answer: Answer) -> bool:
    told = (answer.document.get("sealed_version"), answer.document.get("current_version"))
    return (answer.outcome, told) == (KeyDisabled.code, (MIDDLE, NEWEST))


async def _bring(keys: Keys, seen: _Seen, role: str, state: KeyState) -> None:
    answer = await keys.set_state(role, MIDDLE, state)
    if answer.outcome != OK:
        seen.states.append(f"the {role}'s version came to {answer.outcome}, not {state}")
        raise KeysRefused(seen.states[-1])


async def _try_to_destroy(keys: Keys, seen: _Seen, role: str) -> None:
    """Disable a version for good, and try to destroy it while objects are wrapped for it."""
    await _bring(keys, seen, role, KeyState.DISABLED)
    answer = await keys.set_state(role, MIDDLE, KeyState.DESTROYED)
    wrapped = len(seen.sealed_for[MIDDLE])
    dependents = int(answer.document.get("dependents", 0))
    if answer.outcome != KeyInUse.code or dependents < wrapped:
        told = f"{answer.outcome} for {dependents} of {wrapped}"
        seen.kept.append(f"destroying the {role}'s version came to {told}")


async def _destroy_after_job(keys: Keys, seen: _Seen) -> None:
    """Wrap all anew, destroy the middle versions, and read all."""
    await keys.rewrap(seen.states)
    for role in ROLES:

        async def is_destroyed(role: str = role) -> bool:
            answer = await keys.set_state(role, MIDDLE, KeyState.DESTROYED)
            return answer.outcome == OK

        # Copies of the older heads may lie in stores for a moment still.
        if not await keys.trial.eventually(is_destroyed, within_s=SETTLED_S_MAX):
            seen.states.append(f"the {role}'s version is not destroyed after the job")
    await keys.require_exact(seen.stored(), newest=True)
    stored = seen.stored()
    seen.sealed_for = {NEWEST: stored}
    for urn in stored:
        for role in ROLES:
            await _judge_read(keys, seen, role, urn, NEWEST, disabled=None)
    gone = keys.trial.world.parts.keyring.identity_for(
        str(keys.identity(ROUTER, MIDDLE).recipient())
    )
    keys.trial.verdict.require(
        "of a version of the router's that is destroyed the identity is gone",
        met=gone is None,
        evidence="it is not held" if gone is None else "it is held still",
    )


CASE = Case(
    name="disabled-key",
    edge_case="A key version that is neither the oldest nor the newest is disabled while objects"
    " are sealed for it, brought back, and in the end destroyed.",
    fault="The middle version of the user's, the miner's and the router's keys, in turns.",
    load="Clients that upload and read what is sealed for other versions.",
    passes_when="What is sealed for a disabled version is refused to that party alone, all else is"
    " read; brought back it reads again; it is not destroyed before the job has wrapped all anew.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=DisabledKeys,
    bytes_min=bytes_of_bodies(3 * EACH),
    expected_s=15.0,
    run=run,
)
