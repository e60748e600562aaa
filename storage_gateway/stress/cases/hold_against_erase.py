"""``hold-against-erase``: who holds, who erases, and sweeps, all at one time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage_gateway.catalog.faulty import CatalogFaults
from storage_gateway.errors import Erased, Held
from storage_gateway.stress.claiming import SHORT_S, Claimant, open_claimant, terms
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all, require_erased, trace_all
from storage_gateway.stress.load import Answer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import Reachable

KEPT_S = 86400
SETTINGS = terms(default_s=KEPT_S, grace_s=0)
STALL_S = 0.05
"""Each transaction waits up to so long: so they meet in any order."""
RACED = 6
"""Objects of a round, each held and erased at one time."""
SWEPT = 6
"""Objects that are over, and held while a sweep goes on."""
KEEPS = "who is told that it is held keeps the object"
ONE_WINS = "an object is held, or it is erased, and who comes too late is told so"
SWEEP_KEEPS = "what is held is had back, whatever a sweep did before"


class HoldAgainstErase(Parameters, kw_only=True, frozen=True):
    """Parameters of ``hold-against-erase``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    unstored: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Objects that were held, and are gone."""
    wrong: list[str] = field(default_factory=list)
    """Answers that do not go together."""
    swept_away: list[str] = field(default_factory=list)
    held: list[tuple[str, str, str]] = field(default_factory=list)
    """Objects: path of the session, and of the object, and the id of the hold."""
    races: int = 0
    erased: int = 0


@dataclass(frozen=True, slots=True)
class _Race:
    """What was answered of one object."""

    of_session: bool
    """The session was to be held, and not the object by itself."""
    hold: Answer
    read: set[str] | None
    """What reading it came to after the hold was there; None: there is no hold."""
    erasure: str
    """What erasing it came to meanwhile."""


async def run(trial: Trial, parameters: HoldAgainstErase) -> None:
    """Race holds with erasures, then with sweeps; then release, and erase."""
    seen, token = _Seen(), await trial.operator()
    async with trial.world.gateway(**SETTINGS) as gateway, trial.world.gateway(**SETTINGS) as other:
        claimants = [
            await open_claimant(trial, gateway, token, f"stress{number}")
            for number in range(parameters.clients)
        ]
        await claimants[0].sweep()
        trial.begin_faults()
        trial.world.catalog.faults = CatalogFaults(stall_s=STALL_S)
        await trial.crowd(lambda number: _race(claimants[number], other, seen))
        for claimant in claimants:
            await _race_sweep(trial, claimant, other, seen)
        trial.world.catalog.heal()
        for claimant in claimants:
            await _release_all(trial, claimant, seen)
    _conclude(trial, seen)


async def _race(claimant: Claimant, other: Reachable, seen: _Seen) -> None:
    """Erase some objects while each of them, or their session, is being held."""
    urns = [urn for urn in [await claimant.store(seen.unstored) for _ in range(RACED)] if urn]
    of_session = bool(seen.races % 2)
    if of_session:
        scopes = {claimant.session: urns}
    else:
        scopes = {f"/v1/objects/{urn}": [urn] for urn in urns}
    # One of a session is erased when it is held: else all may be gone before.
    raced = urns[1:] if of_session else urns
    seen.races += 1
    async with asyncio.TaskGroup() as group:
        erasures = {urn: group.create_task(claimant.customer.erase(urn)) for urn in raced}
        holds = {
            scope: group.create_task(_hold(claimant.at(other), scope, within))
            for scope, within in scopes.items()
        }
    for scope, within in scopes.items():
        hold, read = holds[scope].result()
        for urn in within:
            erasure = erasures[urn].result().outcome if urn in erasures else Held.code
            race = _Race(of_session, hold, read.get(urn), erasure)
            await _judge(claimant, seen, urn, race)
        hold_id = str(hold.document.get("hold_id", ""))
        if not of_session and hold.outcome == OK:
            seen.held.append((claimant.session, scope, hold_id))
        elif hold.outcome == OK:
            released = await claimant.release(scope, hold_id)
            seen.wrong += [] if released.outcome == OK else [f"{scope}: {released.outcome}"]


async def _hold(
    claimant: Claimant, scope: str, urns: Sequence[str]
) -> tuple[Answer, dict[str, set[str]]]:
    """Hold objects; return the answer, and what reading them came to once it was there."""
    answer = await claimant.hold(scope)
    if answer.outcome != OK:
        return answer, {}
    return answer, {urn: await claimant.outcomes(urn) for urn in urns}


async def _judge(claimant: Claimant, seen: _Seen, urn: str, race: _Race) -> None:
    """Judge what was answered of an object that was held and erased at one time."""
    said = f"{urn}: hold {race.hold.outcome}, then read {race.read}, erasure {race.erasure}"
    if race.read == {OK}:
        again = await claimant.customer.erase(urn)
        found = await claimant.outcomes(urn)
        if (race.erasure, again.outcome, found) != (Held.code, Held.code, {OK}):
            seen.lost.append(f"{said}; again {again.outcome}; read {found}")
            claimant.trial.ledger.erased.add(urn)
        return
    claimant.trial.ledger.erased.add(urn)
    seen.erased += 1
    if race.hold.outcome == OK and not race.of_session:
        seen.lost.append(said)  # what was erased before cannot be held
        return
    told = {Erased.code} if race.of_session else None
    expected = (OK if race.of_session else Erased.code, told, OK)
    if (race.hold.outcome, race.read, race.erasure) != expected:
        seen.wrong.append(said)


async def _race_sweep(trial: Trial, claimant: Claimant, other: Reachable, seen: _Seen) -> None:
    """Hold what is over while a sweep goes on; what is held is then had back."""
    urns = [urn for urn in [await claimant.store(seen.unstored) for _ in range(SWEPT)] if urn]
    for urn in urns:
        await claimant.keep_for(urn, SHORT_S)
    await claimant.require_over(urns)
    beside = claimant.at(other)
    first = [await beside.hold(f"/v1/objects/{urn}") for urn in urns[::2]]
    sweeping = asyncio.create_task(claimant.sweep())
    rest = await asyncio.gather(*(beside.hold(f"/v1/objects/{urn}") for urn in urns[1::2]))
    await sweeping
    await claimant.sweep()
    for urn, hold in zip(urns[::2] + urns[1::2], [*first, *rest], strict=True):
        if hold.outcome == OK:
            renewed = await claimant.renew(urn, KEPT_S)
            found = await claimant.outcomes(urn)
            if (renewed.outcome, found) != (OK, {OK}):
                seen.swept_away.append(f"{urn}: renewed {renewed.outcome}, read {found}")
            scope = f"/v1/objects/{urn}"
            seen.held.append((claimant.session, scope, str(hold.document["hold_id"])))
        else:
            trial.ledger.erased.add(urn)
            found = await claimant.outcomes(urn)
            if (hold.outcome, found) != (Erased.code, {Erased.code}):
                seen.wrong.append(f"{urn}: hold {hold.outcome}, read {found}")


async def _release_all(trial: Trial, claimant: Claimant, seen: _Seen) -> None:
    """Release what is held in a session; every second object is erased then."""
    mine = [
        (scope, hold_id) for session, scope, hold_id in seen.held if session == claimant.session
    ]
    for scope, hold_id in mine:
        released = await claimant.release(scope, hold_id)
        seen.wrong += [] if released.outcome == OK else [f"{scope}: {released.outcome}"]
    urns = [scope.rpartition("/")[2] for scope, _ in mine][::2]
    traces = await trace_all(trial, urns)
    await erase_all(trial, claimant.customer, urns, "what is held no more can be erased")
    await require_erased(trial, traces, "what was erased is gone")


def _conclude(trial: Trial, seen: _Seen) -> None:
    trial.notes["races"], trial.notes["erased"] = seen.races, seen.erased
    trial.notes["held"] = len(seen.held)
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all(KEEPS, seen.lost)
    trial.require_all(ONE_WINS, seen.wrong)
    trial.require_all(SWEEP_KEEPS, seen.swept_away)
    trial.verdict.require(
        "there were holds and erasures that came first",
        met=bool(seen.held) and seen.erased > 0,
        evidence=f"{len(seen.held)} objects held, {seen.erased} erased, in {seen.races} races",
    )


CASE = Case(
    name="hold-against-erase",
    edge_case="Objects, or their session, are held while somebody erases them, or a sweep does.",
    fault="A catalog that lets each transaction wait, so that holds through one gateway and"
    " erasures through another meet in any order; then sweeps of what is over while it is being"
    " held.",
    load="Clients that upload, hold and erase, each in a session of its own; then all is released,"
    " and some of it erased.",
    passes_when="Whoever was answered that it is held, and reads it then, keeps the object, byte"
    " for byte, until it is released; what was erased before cannot be held; a sweep erases nothing"
    " that is held.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=HoldAgainstErase,
    bytes_min=lambda p: 2 * p.clients * (RACED + SWEPT) * max(p.sizes),
    expected_s=30.0,
    run=run,
)
