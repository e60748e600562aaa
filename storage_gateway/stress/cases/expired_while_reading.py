"""``expired-while-reading``: objects expire, or are erased, while readers are in their midst."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from storage_gateway.errors import Expired
from storage_gateway.stress.claiming import SHORT_S, Claimant, open_claimant, terms
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.erasing import erase_all, require_deleted, trace_all
from storage_gateway.stress.load import BROKEN, Answer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.reading import SLOW_SIZE, pausing
from storage_gateway.stress.record import OK
from storage_gateway.stress.rotating import opens_to
from storage_gateway.stress.trial import LoadSpent, Trial
from storage_gateway.stress.world import Reachable

GRACE_S = 3600
KEPT_S = 86400
SETTINGS = terms(default_s=SHORT_S, grace_s=GRACE_S) | {"body_idle_s": 60.0}
"""So long readers may pause."""
BEGUN_S_MAX = 30.0
READ_WHOLE = "who was reading when an object expired reads it to its end"
NEVER_SHORT = "who was reading when an object was erased gets all of it, or is cut off"


class ExpiredWhileReading(Parameters, kw_only=True, frozen=True):
    """Parameters of ``expired-while-reading``."""

    sizes: Sizes = (4096, 70_000)


@dataclass(slots=True)
class _Seen:
    unstored: list[str] = field(default_factory=list)
    not_due: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=lambda: {READ_WHOLE: [], NEVER_SHORT: []})
    cut_off: int = 0
    rounds: int = 0


async def run(trial: Trial, _parameters: ExpiredWhileReading) -> None:
    """Let objects expire under slow readers, and be had back; then erase them under others."""
    seen = _Seen()
    async with trial.world.gateway(**SETTINGS) as gateway:
        claimant = await open_claimant(trial, gateway, await trial.operator())
        trial.begin_faults()
        while seen.rounds == 0 or trial.goes_on():
            try:
                await _round(trial, gateway, claimant, seen)
            except LoadSpent:
                break
            seen.rounds += 1
    trial.notes["rounds"], trial.notes["cut_off"] = seen.rounds, seen.cut_off
    trial.require_all("every body is stored", seen.unstored)
    trial.require_all("what nobody claims expires", seen.not_due)
    for criterion, wrong in seen.unread.items():
        trial.require_all(criterion, wrong)
    trial.verdict.require(
        "objects expired, and were erased, under their readers",
        met=seen.rounds > 0,
        evidence=f"{seen.rounds} rounds",
    )


async def _round(trial: Trial, gateway: Reachable, claimant: Claimant, seen: _Seen) -> None:
    """Have objects expire while the long one is being read, have them back, and erase it while it
    is being read again.
    """
    long = await claimant.store(seen.unstored, trial.body(SLOW_SIZE))
    others = [await claimant.store(seen.unstored) for _ in range(trial.parameters.clients)]
    urns = [urn for urn in (long, *others) if urn]

    async def expire() -> None:
        if not await claimant.sweep_until(urns):
            seen.not_due.append(f"not all of {urns} did")
        await claimant.require(urns, Expired.code, "who asks for what has expired is told so")

    async def erase() -> None:
        traces = await trace_all(trial, [long])
        await erase_all(trial, claimant.customer, [long], "what is erased is unreadable at once")
        await require_deleted(trial, traces, "what is erased is deleted, whoever is reading it")

    await _read_meanwhile(gateway, claimant, long, expire, seen.unread[READ_WHOLE])
    renewed = [(await claimant.renew(urn, KEPT_S)).outcome for urn in urns]
    trial.require_all("a lease has back what has expired", [o for o in renewed if o != OK])
    if set(renewed) != {OK}:
        return
    await claimant.require(urns, OK, "what was had back is read byte for byte")
    answers = await _read_meanwhile(
        gateway, claimant, long, erase, seen.unread[NEVER_SHORT], may_break=True
    )
    seen.cut_off += sum(answer.outcome == BROKEN for answer in answers)


async def _read_meanwhile(
    gateway: Reachable,
    claimant: Claimant,
    urn: str,
    act: Callable[[], Awaitable[None]],
    wrong: list[str],
    *,
    may_break: bool = False,
) -> Sequence[Answer]:
    """Act while readers of an object have its first bytes, and take no more; then let them go on.
    What they read in clear, and as the sealed file, is noted where it is not the object, or, if
    that may be, a connection that broke.
    """
    trial = claimant.trial
    begun, go = asyncio.Semaphore(0), asyncio.Event()

    async def midway() -> None:
        begun.release()
        await go.wait()

    async with pausing(trial, gateway, claimant.customer.member) as slow:
        reads = [
            asyncio.create_task(slow.fetch(urn, size=SLOW_SIZE, sealed=sealed, midway=midway))
            for sealed in (False, True)
        ]
        for read in reads:
            read.add_done_callback(lambda _read: begun.release())  # refused, it never gets there
        try:
            async with asyncio.timeout(BEGUN_S_MAX):
                for _ in reads:
                    await begun.acquire()
            await act()
        finally:
            go.set()
            answers = await asyncio.gather(*reads)
    body = trial.ledger.acknowledged[urn][1]
    plain, sealed = answers
    whole = (plain.digest == body.digest, opens_to(sealed.content, [slow.member.user], body))
    for form, answer, is_whole in zip(("in clear", "sealed"), answers, whole, strict=True):
        is_cut_off = may_break and answer.outcome == BROKEN
        if not is_cut_off and not (answer.outcome == OK and is_whole):
            wrong.append(f"{urn} {form} came to {answer.outcome}, {answer.size} bytes")
    return answers


CASE = Case(
    name="expired-while-reading",
    edge_case="An object expires, or is erased, while somebody is in the midst of reading it.",
    fault="Sweeps that let objects expire, and erasures, while readers have the first bytes and"
    " take no more of them until it is done, and its payload is gone from the stores.",
    load="Clients that upload what lives for a second, and read it; two slow readers of a long"
    " object, in clear and as the sealed file.",
    passes_when="Who reads what expires gets all of it; who asks for it afterwards is told so,"
    " until a lease has it back, byte for byte; who reads what is erased gets all of it or a"
    " connection that breaks, and never a clean end of a part.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=ExpiredWhileReading,
    bytes_min=bytes_of_bodies(4, SLOW_SIZE),
    expected_s=12.0,
    run=run,
)
