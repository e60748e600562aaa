"""``timeout-read``: stores that are asked for bytes and do not answer."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import BROKEN, Answer, Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.reading import (
    LONG_SIZE,
    bytes_of_all,
    deadline_s,
    pausing,
    readers,
    store_all,
)
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault, Side
from storage_gateway.stress.trial import Trial

CUT_OFF = frozenset({BackendUnavailable.code, BROKEN})


class TimeoutRead(Parameters, kw_only=True, frozen=True):
    """Parameters of ``timeout-read``."""

    sizes: Sizes = (4096, 1_500_000)
    hang_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=10, description="When a store's client gives up, but of a bucket's"),
    ] = 1.0


async def run(trial: Trial, parameters: TimeoutRead) -> None:
    """Let one of two stores hang under readers; then both, also in the midst of a body."""
    member = await trial.member("stress")
    hangs = Ailment(
        calls=StoreFaults(hang={"read": 1.0}, hang_s=parameters.hang_s),
        wire=ProxyFault(kind=FaultKind.STALL, side=Side.ANSWER),
    )
    within_s = deadline_s(trial, parameters.hang_s)
    unread: list[str] = []
    first, *_ = stores = trial.world.stores
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = await store_all(trial, customer, parameters.sizes * parameters.clients)
        long = await store_all(trial, customer, [LONG_SIZE])
        trial.begin_faults()
        await first.suffer(hangs)
        await trial.crowd(readers(trial, customer, stored, unread, within_s=within_s))
        trial.require_all("while one store hangs every read is right", unread)
        hung = dict(first.injected())
        trial.verdict.require("reads hung", met=bool(hung), evidence=f"{hung}")

        async def all_hang() -> None:
            for each in stores:
                await each.suffer(hangs)

        for urn, body in long.items():
            async with pausing(trial, gateway, member) as reader:
                cut = await reader.fetch(urn, size=body.size, midway=all_hang, timeout_s=within_s)
            trial.verdict.require(
                "a body that cannot be gone on with is broken off, in time",
                met=cut.outcome == BROKEN,
                evidence=f"after {cut.seconds:.1f} s it came to {cut.outcome}",
            )
            if cut.outcome == OK and cut.digest != body.digest:
                trial.verdict.broken(8, f"{urn} ended in order before it was whole")
        _require_refused(trial, await _read_all(customer, stored, within_s))
        await trial.world.heal()
        healed = await _read_all(customer, stored | long, within_s)
    wrong = [urn for urn, answer in healed.items() if answer.outcome != OK]
    trial.require_all("all is read again as soon as stores answer", wrong)


async def _read_all(
    customer: Customer, stored: dict[str, Body], within_s: float
) -> dict[str, Answer]:
    answers = await asyncio.gather(
        *(customer.fetch(urn, size=b.size, timeout_s=within_s) for urn, b in stored.items())
    )
    return dict(zip(stored, answers, strict=True))


def _require_refused(trial: Trial, answers: dict[str, Answer]) -> None:
    """Require that each reader was told, within the deadline, that there is no store to read."""
    came_to = [f"{a.outcome} after {a.seconds:.1f} s" for a in answers.values()]
    trial.verdict.require(
        "without a store that answers reads are refused, in time",
        met=all(answer.outcome in CUT_OFF for answer in answers.values()),
        evidence="; ".join(sorted(came_to)[:5]),
    )


CASE = Case(
    name="timeout-read",
    edge_case="A store is asked for bytes and never answers.",
    fault="Reads of one of two stores hang until its client gives up; then of both, in the midst of"
    " a body too.",
    load="Clients that read while it is so.",
    passes_when="While one hangs each read is right; without any, reads get 503 or a connection"
    " that breaks, within the deadlines, and never a body that ends early in order; afterwards all"
    " is read.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=TimeoutRead,
    bytes_min=lambda parameters: bytes_of_all(parameters.clients, parameters.sizes),
    expected_s=20.0,
    stores=2,
    quorum=2,
    run=run,
)
