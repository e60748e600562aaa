"""``crash-in-sweep``: the process dies while it lets objects expire, and erases them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from storage_gateway.catalog.faulty import DECIDED, DONE
from storage_gateway.stress.children import Child
from storage_gateway.stress.claiming import (
    SHORT_S,
    Claimant,
    ClaimRefused,
    open_claimant,
    terms,
)
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.crashing import LEASES, let_turns_run_out
from storage_gateway.stress.erasing import Trace, require_erased, trace_all
from storage_gateway.stress.orders import Order
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial

SETTINGS = LEASES | terms(default_s=SHORT_S, grace_s=0)
KEPT_S = 86400
DUE = 3
"""Objects that are over when a process dies."""
EXPIRED, ERASED, SWEPT = "expire", "erase_expired", "set_swept"
"""Units of the catalog whose transactions the process dies in, or right after."""
POINTS = (
    ERASED + DONE,
    EXPIRED + DONE,
    SWEPT + DECIDED,
    ERASED + DECIDED,
    EXPIRED + DECIDED,
    "delete begins",
    SWEPT + DONE,
)
GOES = "what was due is erased, and nothing of it is left"
STAYS = "what is claimed is read, byte for byte"


class CrashInSweep(Parameters, kw_only=True, frozen=True):
    """Parameters of ``crash-in-sweep``."""

    sizes: Sizes = (4096, 70_000)
    points: Annotated[
        int, msgspec.Meta(ge=1, le=len(POINTS), description="Where processes die, at most")
    ] = len(POINTS)


@dataclass(slots=True)
class _Where:
    """The gateway that is asked now."""

    url: str = ""


@dataclass(slots=True)
class _Seen:
    where: _Where = field(default_factory=_Where)
    claimed: list[str] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Claims that were not taken."""
    erased: int = 0
    kills: int = 0


async def run(trial: Trial, parameters: CrashInSweep) -> None:
    """Die once at each point; after each another process sweeps to the end."""
    seen = _Seen()
    async with trial.world.gateway(**SETTINGS) as gateway:
        seen.where.url = gateway.url
        claimant = await open_claimant(trial, seen.where, await trial.operator())
        await claimant.sweep()  # from here on the clock is known
        await _claim(claimant, seen)
        traces = await _store_due(claimant, seen)
    trial.begin_faults()
    for point in POINTS[: parameters.points]:
        async with trial.children.child(**SETTINGS) as child:
            await child.wait_ready()
            seen.where.url = child.url
            await _die(claimant, seen, child, point)
        await let_turns_run_out(trial)
        async with trial.world.gateway(**SETTINGS) as gateway:
            seen.where.url = gateway.url
            await claimant.sweep()
            erased = await require_erased(trial, traces, GOES)
            await claimant.require(seen.claimed, OK, STAYS)
            seen.erased += len(traces)
            if not erased:
                break
            traces = await _store_due(claimant, seen)
    trial.notes["kills"], trial.notes["erased"] = seen.kills, seen.erased
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("every claim is taken", seen.refused)
    trial.verdict.require(
        "processes were killed at every point",
        met=seen.kills == parameters.points,
        evidence=f"{seen.kills} of {parameters.points}",
    )


async def _claim(claimant: Claimant, seen: _Seen) -> None:
    """Store what a longer lifetime keeps, a lease, and a hold."""
    kept, leased, held = [await claimant.store(seen.unstored) for _ in range(3)]
    await claimant.keep_for(kept, KEPT_S)
    answers = [
        await claimant.renew(leased, KEPT_S),
        await claimant.hold(f"/v1/objects/{held}"),
    ]
    seen.claimed = [kept, leased, held]
    seen.refused += [answer.outcome for answer in answers if answer.outcome != OK]


async def _store_due(claimant: Claimant, seen: _Seen) -> dict[str, Trace]:
    """Store what nobody claims, and wait until it is over."""
    trial = claimant.trial
    urns = [await claimant.store(seen.unstored) for _ in range(DUE)]
    trial.ledger.erased.update(urns)
    await claimant.require_over(urns)
    return await trace_all(trial, urns)


async def _die(claimant: Claimant, seen: _Seen, child: Child, point: str) -> None:
    """Have a process sweep until it is at a point, and kill it there."""
    await child.order(Order(at=point))
    sweeping = asyncio.ensure_future(claimant.sweep())
    try:
        await child.wait_at_point()
    finally:
        await child.kill()
        seen.kills += 1
        with suppress(ClaimRefused):  # its answer never came, or came before
            await sweeping


CASE = Case(
    name="crash-in-sweep",
    edge_case="The process dies while objects expire, or while what has expired is erased.",
    fault="SIGKILL of a gateway process in the transactions of a sweep, right after each, and"
    " before it deletes a payload.",
    load="Clients that upload what lives for a second, and what a longer lifetime, a lease, or a"
    " hold keeps; sweeps by one process after the other.",
    passes_when="Another process goes on; what was due is erased, and neither store nor catalog has"
    " anything of it; what is claimed is read, byte for byte.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=CrashInSweep,
    bytes_min=bytes_of_bodies(3 + DUE),
    expected_s=60.0,
    run=run,
)
