"""``crash-in-rotation``: the process dies while keys are rotated, heads wrapped anew, or objects
resealed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from storage_gateway.catalog.faulty import COMMIT_DECIDED, COMMITTED, DECIDED, DONE
from storage_gateway.records import MINER, ROUTER, USER
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.children import Child
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.crashing import LEASES
from storage_gateway.stress.orders import Order
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.rotating import SETTLED_S_MAX, Keys, KeysRefused, open_keys
from storage_gateway.stress.trial import Trial

OBJECTS = 3
SETTINGS = LEASES | {"read_grace_s": 0.2}
ROTATED, WRAPPED, TOLD = "add_key", "put_heads", "tell_job"
"""Units of the catalog whose transactions the process dies in, or right after."""


class CrashInRotation(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-in-rotation``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Where:
    """The gateway that is asked now."""

    url: str = ""


@dataclass(slots=True)
class _Seen:
    where: _Where = field(default_factory=_Where)
    stored: dict[str, Body] = field(default_factory=dict)
    unended: list[str] = field(default_factory=list)
    """Jobs that were not taken up, or ended otherwise than they should."""
    active: list[str] = field(default_factory=list)
    """Keys of which not exactly one version is active."""
    kills: int = 0


Act = Callable[[Keys], Awaitable[object]]


def _steps() -> tuple[tuple[str, Act], ...]:
    """Return at which point a process dies, and what it was asked for."""
    return (
        (ROTATED + DECIDED, lambda keys: keys.rotate(ROUTER)),
        (ROTATED + DONE, lambda keys: keys.rotate(ROUTER)),
        (ROTATED + DECIDED, lambda keys: keys.rotate(USER)),
        (ROTATED + DONE, lambda keys: keys.rotate(MINER)),
        (WRAPPED + DECIDED, lambda keys: keys.begin("rewrap")),
        (WRAPPED + DONE, lambda keys: keys.begin("rewrap")),
        (TOLD + DONE, lambda keys: keys.begin("rewrap")),
        (COMMIT_DECIDED, lambda keys: keys.begin("reseal")),
        (COMMITTED, lambda keys: keys.begin("reseal")),
    )


async def run(trial: Trial, _parameters: CrashInRotation) -> None:
    """Die once at each point; after each a process comes back, and all must open as it should."""
    seen = _Seen()
    keys = await open_keys(trial, seen.where)
    async with trial.world.gateway(**SETTINGS) as gateway:
        seen.where.url = gateway.url
        for _ in range(OBJECTS):
            body, task_id = trial.body(), trial.next_task()
            answer = await trial.deliver(keys.customer, task_id, body)
            seen.stored[answer.urn] = body
    trial.begin_faults()
    for point, act in _steps():
        async with trial.children.child(**SETTINGS) as child:
            await child.wait_ready()
            seen.where.url = child.url
            if point.startswith(WRAPPED):
                await keys.rotate(USER)  # else there would be nothing to wrap
            await _die(seen, keys, child, point, act)
        async with trial.world.gateway(**SETTINGS) as gateway:
            seen.where.url = gateway.url
            await _judge_return(seen, keys)
            await keys.require_exact(seen.stored, newest=False)
        if seen.unended:
            break
    async with trial.world.gateway(**SETTINGS) as gateway:
        seen.where.url = gateway.url
        await keys.rewrap(seen.unended)
        await keys.require_exact(seen.stored, newest=True)
        await keys.require_idle()
    keys.hand_over()
    trial.notes["kills"] = seen.kills
    trial.require_all("jobs are taken up, and end", seen.unended)
    trial.require_all("exactly one version of each key is active", seen.active)
    trial.verdict.require(
        "processes were killed at every point",
        met=seen.kills == len(_steps()),
        evidence=f"{seen.kills} of {len(_steps())}",
    )


async def _die(seen: _Seen, keys: Keys, child: Child, point: str, act: Act) -> None:
    await child.order(Order(at=point))
    asked = asyncio.ensure_future(act(keys))
    try:
        await child.wait_at_point()
    finally:
        await child.kill()
        seen.kills += 1
        with suppress(KeysRefused):  # its answer never came, or came before
            await asked


async def _judge_return(seen: _Seen, keys: Keys) -> None:
    """Learn which rotations took effect; wait until what was begun has ended."""
    census = await keys.census()
    for role in (USER, MINER, ROUTER):
        versions = sorted((k for k in census if k["party"] == role), key=lambda k: k["version"])
        if [k["state"] for k in versions].count("active") != 1:
            seen.active.append(f"{role}: {[k['state'] for k in versions]}")
        await keys.learn(role, [str(k["recipient"]) for k in versions])
    jobs: list[dict[str, object]] = []

    async def have_ended() -> bool:
        jobs[:] = await keys.jobs()
        return all("ended" in job for job in jobs)

    await keys.trial.eventually(have_ended, within_s=SETTLED_S_MAX)
    seen.unended += [f"{j['kind']}: {j['state']}" for j in jobs if j["state"] != "done"]


CASE = Case(
    name="crash-in-rotation",
    edge_case="The process dies while a key is rotated, while heads are wrapped anew, or while"
    " objects are resealed.",
    fault="SIGKILL of a gateway process in the transactions of rotations, of jobs `rewrap` and"
    " `reseal`, and right after each.",
    load="Rotations of the router's, the user's and the miner's key, and jobs; one process after"
    " the other.",
    passes_when="One version of each key is active; each object opens with exactly what its"
    " manifest says; another process takes the jobs up, and they end.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashInRotation,
    bytes_min=bytes_of_bodies(OBJECTS),
    expected_s=30.0,
    run=run,
)
