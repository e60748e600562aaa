"""``partial-write-recovery``: processes die in every phase of an upload, of recovery and repair."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec

from storage_gateway.catalog.faulty import COMMIT_DECIDED, COMMITTED
from storage_gateway.stress.contract import Case
from storage_gateway.stress.crashing import LEASES, Crashes, let_turns_run_out
from storage_gateway.stress.mending import UNHINDERED, mend, require_everywhere, scrub
from storage_gateway.stress.orders import point_of
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.tampering import blob_key, spoil
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

Phase = Literal["intent", "one-store", "segments", "commit", "recovery", "repair"]
PHASES: tuple[Phase, ...] = ("intent", "one-store", "segments", "commit", "recovery", "repair")
POINTS_MAX = 3
SETTLED_S_MAX = 60.0
REPAIRS: dict[str, Any] = {"repair_interval_s": 0.05}


class PartialWriteRecovery(Parameters, kw_only=True, frozen=True):
    """Parameters of ``partial-write-recovery``."""

    clients: Annotated[int, msgspec.Meta(ge=1, description="Clients at one time")] = 2
    sizes: Sizes = (4096, 1_000_000, 9_000_000)
    phases: Annotated[
        tuple[Phase, ...], msgspec.Meta(min_length=1, description="In which processes die")
    ] = PHASES
    points: Annotated[
        int, msgspec.Meta(ge=1, le=POINTS_MAX, description="Of each phase, at most")
    ] = POINTS_MAX


def points_in(last: str) -> Mapping[Phase, Sequence[str]]:
    """Return where processes die, in each phase; ``last`` is the store that is written to last."""
    return {
        "intent": ["write begins"],
        "one-store": [point_of(last, "finish begins"), point_of(last, "write begins")],
        "segments": ["finish done"],
        "commit": [COMMIT_DECIDED, COMMITTED],
        "recovery": ["delete done", point_of(last, "delete begins"), "list begins"],
        # It has no copy any more; it has one that was not synced; it has one that was not seen.
        "repair": [point_of(last, f"{step} done") for step in ("delete", "write", "finish")],
    }


async def run(trial: Trial, parameters: PartialWriteRecovery) -> None:
    """Kill processes at each point of the phases; then let recovery, scrub and repair end."""
    crashes = Crashes(trial, await trial.member("stress"))
    points = points_in(trial.world.stores[-1].name)
    killed_at: list[str] = []
    for rounds in itertools.count():
        if rounds and not trial.goes_on():
            break
        for phase in parameters.phases:
            for point in points[phase][: parameters.points]:
                await _kill(trial, crashes, phase, point)
                killed_at.append(f"{phase} at {point!r}")
    async with _settled(trial, crashes) as gateway:
        await mend(trial, gateway)
    await require_everywhere(trial, "what is committed is whole in both stores in the end")
    trial.notes["killed"] = killed_at
    crashes.conclude()


async def _kill(trial: Trial, crashes: Crashes, phase: Phase, point: str) -> None:
    if phase == "repair":
        await _kill_in_repair(trial, crashes, point)
        return
    async with trial.children.child(**LEASES) as child:
        await child.wait_ready()
        await crashes.send_again(child)
        await crashes.crash(child, ["finish begins"] if phase == "recovery" else [point])
    if phase == "recovery":
        async with trial.children.child(at=point, **LEASES) as child:
            await child.wait_at_point()
            await crashes.kill(child)


async def _kill_in_repair(trial: Trial, crashes: Crashes, point: str) -> None:
    """Lose a copy of an object in the store that is written to last; kill who makes it again."""
    last = trial.world.stores[-1]
    async with _settled(trial, crashes) as gateway:
        customer = trial.customer(gateway, crashes.member)
        urn = await trial.round_trip(customer, crashes.unstored)
        await spoil(last, await blob_key(trial.world, urn), lambda _: None)
        found = await scrub(gateway)
    trial.verdict.require(
        "a copy that is lost is found", met=found.bad > 0, evidence=f"{found} after {urn} lost one"
    )
    async with trial.children.child(at=point, **LEASES, **REPAIRS) as child:
        await child.wait_at_point()
        await crashes.kill(child)
    await let_turns_run_out(trial)


@asynccontextmanager
async def _settled(trial: Trial, crashes: Crashes) -> AsyncIterator[GatewayLike]:
    """Run a gateway in this process, once it has taken what is to be sent again and recovery has
    nothing left to do.
    """
    async with trial.world.gateway(**LEASES, scrub_bytes_per_s=UNHINDERED) as gateway:
        await crashes.send_again(gateway)

        async def is_settled() -> bool:
            return not await trial.world.unsettled()

        met = await trial.eventually(is_settled, within_s=SETTLED_S_MAX)
        left = await trial.world.unsettled()
        trial.verdict.require(
            "recovery clears away what dead processes left", met=met, evidence=f"{left} left"
        )
        yield gateway


CASE = Case(
    name="partial-write-recovery",
    edge_case="Processes die in the midst of writing to two stores, of clearing that away, and of"
    " copying from one store to the other.",
    fault="SIGKILL when the intent is written, when one store has what the other lacks, between"
    " segments, before and after COMMIT, in recovery, and in repair, when the copy is gone, put, or"
    " not looked at yet.",
    load="Several uploads at one time to a process of the run; what got no answer is sent again to"
    " the next one; then passes of scrub and repair.",
    passes_when="Everything is stored when sent again, what was given up is in no store, and what"
    " is committed is whole in both.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=PartialWriteRecovery,
    expected_s=60.0,
    stores=2,
    quorum=2,
    run=run,
)
