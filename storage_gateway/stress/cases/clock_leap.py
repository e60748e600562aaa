"""``clock-leap``: the clock leaps forward by days while objects live, and is set back."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from storage_gateway.errors import Expired
from storage_gateway.stress.claiming import SHORT_S, Claimant, open_claimant, terms
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial

DAY_S = 86400
FEW, MANY, DUE = 2, 6, 2
"""Objects that end soon in a leap, and late in it, and in truth. The few are no more than may go by
a clock that has leapt, the others more than half of all."""
SOON, LATE = 0.25, 0.75
"""Of a leap: when they end."""
STAYS = "what is not due by the true time is read, byte for byte, whatever the clock says"


class ClockLeap(Parameters, kw_only=True, frozen=True):
    """Parameters of ``clock-leap``."""

    sizes: Sizes = (4096, 70_000)
    leap_days: Annotated[
        # Tokens live for ninety days.
        int, msgspec.Meta(ge=1, le=60, description="How far the clock leaps")
    ] = 40


@dataclass(slots=True)
class _Seen:
    few: list[str] = field(default_factory=list)
    many: list[str] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    leaps: int = 0

    @property
    def living(self) -> list[str]:
        """What is not due by the true time."""
        return self.few + self.many


async def run(trial: Trial, parameters: ClockLeap) -> None:
    """Leap so far that few objects seem due, then all of them; set it back each time."""
    seen, leap_s = _Seen(), parameters.leap_days * DAY_S
    # What is over by a clock that is wrong can be had back when it is right again.
    settings = terms(default_s=int(LATE * leap_s), grace_s=2 * leap_s)
    async with trial.world.gateway(**settings) as gateway:
        claimant = await open_claimant(trial, gateway, await trial.operator())
        await _store(claimant, seen, leap_s)
        trial.begin_faults()
        await _fall_behind(trial, claimant, seen, leap_s)
        while seen.leaps == 0 or trial.goes_on():
            await _leap_a_little(trial, claimant, seen, leap_s)
            await _leap(trial, claimant, seen, leap_s, settings)
            seen.leaps += 2
    trial.notes["leaps"], trial.notes["objects"] = seen.leaps, len(seen.living)
    trial.require_all("every body is stored", seen.unstored)
    trial.verdict.require("the clock leapt", met=seen.leaps > 0, evidence=f"{seen.leaps} times")


async def _store(claimant: Claimant, seen: _Seen, leap_s: int) -> None:
    """Store what ends early in a leap, late in it, and before; wait until the last is over."""
    trial = claimant.trial
    count = MANY + trial.parameters.clients
    seen.many = [await claimant.store(seen.unstored) for _ in range(count)]
    seen.few = [await claimant.store(seen.unstored) for _ in range(FEW)]
    seen.due = [await claimant.store(seen.unstored) for _ in range(DUE)]
    for urn in seen.few:
        await claimant.keep_for(urn, int(SOON * leap_s))
    for urn in seen.due:
        await claimant.keep_for(urn, SHORT_S)
    trial.ledger.erased.update(seen.due)
    await claimant.sweep_until(seen.due)
    await claimant.require(seen.due, Expired.code, "what is due by the true time expires")
    await claimant.require(seen.living, OK, STAYS)


async def _fall_behind(trial: Trial, claimant: Claimant, seen: _Seen, leap_s: int) -> None:
    """Set the clock far back, and sweep what is due by it: it goes when the time is right again."""
    async with _ahead(trial, -leap_s):
        late = await claimant.store(seen.unstored)
        await claimant.keep_for(late, SHORT_S)
        await claimant.require_over([late])
        did = await claimant.sweep()
        behind = "nothing expires by a clock that is behind"
        _require(trial, behind, did, expired=0, erased=0, clock_behind=1)
        await claimant.require([late], OK, STAYS)
    seen.due.append(late)
    trial.ledger.erased.add(late)
    did = await claimant.sweep()
    again = "what is due goes once the time is right again"
    _require(trial, again, did, expired=len(seen.due), erased=0)
    await claimant.require(seen.due, Expired.code, again)


async def _leap_a_little(trial: Trial, claimant: Claimant, seen: _Seen, leap_s: int) -> None:
    """Leap until few objects seem to be due: so much may go. Back again, they are there again."""
    async with _ahead(trial, leap_s / 2):
        did = await claimant.sweep()
        await claimant.require(seen.many, OK, STAYS)
    share = "no more goes by a clock that has leapt than the share that may"
    _require(trial, share, did, expired=FEW, erased=0, clock_leapt=1)
    await _require_back(claimant, seen, FEW)


async def _leap(
    trial: Trial, claimant: Claimant, seen: _Seen, leap_s: int, settings: dict[str, Any]
) -> None:
    """Leap until all seem to be due: nothing goes, until an operator says so."""
    count, nothing = len(seen.living), "nothing goes where more seems due than may go"
    async with _ahead(trial, leap_s):
        did = await claimant.sweep()
        _require(trial, nothing, did, expired=0, erased=0, braked=count)
        # One that comes now has never seen another time.
        async with trial.world.gateway(**settings) as other:
            did = await claimant.at(other).sweep()
        _require(trial, nothing, did, expired=0, erased=0, braked=count)
        await claimant.require(seen.living, OK, STAYS)
    await _require_back(claimant, seen, 0)
    async with _ahead(trial, leap_s):
        did = await claimant.sweep(confirm=count)
        _require(trial, "an operator's word lets go what seems due", did, expired=count, braked=0)
        told = "what an operator let go has expired"
        await claimant.require(seen.living, Expired.code, told)
    await _require_back(claimant, seen, count)


@asynccontextmanager
async def _ahead(trial: Trial, ahead_s: float) -> AsyncIterator[None]:
    """Have the run's clock ahead until the end of the block."""
    trial.world.clock.shift_ms = int(ahead_s * 1000)
    try:
        yield
    finally:
        trial.world.clock.shift_ms = 0


async def _require_back(claimant: Claimant, seen: _Seen, gone: int) -> None:
    """Sweep with the clock set back; require that what had gone is there again, and all else."""
    did = await claimant.sweep()
    back = "with the clock set back what had expired by it is had back, and nothing expires"
    _require(claimant.trial, back, did, revived=gone, expired=0, erased=0)
    await claimant.require(seen.living, OK, STAYS)


def _require(trial: Trial, criterion: str, did: "Counter[str]", **counts: int) -> None:
    found = {name: did[name] for name in counts}
    trial.verdict.require(criterion, met=found == counts, evidence=f"{found}, {counts} expected")


CASE = Case(
    name="clock-leap",
    edge_case="The database's clock leaps forward by days, and is set back, while objects have"
    " lifetimes that end in between.",
    fault="The clock that all units see is behind by the leap, then ahead by half of it, then by"
    " all of it, and right again each time; sweeps by gateways that saw the true time before, and"
    " by one that did not.",
    load="Clients that upload what lives for a second, for a quarter of the leap, and for most of"
    " it; all is read after each step.",
    passes_when="By a clock that is behind nothing expires, and by one that has leapt no more than"
    " the share that may: an operator is told what does not go, and by the operator's word it does."
    " Once the clock is right again all that is not due is read, byte for byte.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ClockLeap,
    bytes_min=bytes_of_bodies(MANY + FEW + DUE + 1),
    expected_s=8.0,
    run=run,
)
