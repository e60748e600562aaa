"""``timeout-write``: stores that take what is written and do not answer."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault, Side
from storage_gateway.stress.trial import TINY_BYTES, Trial
from storage_gateway.stress.world import GatewayLike

REFUSED_WITHIN_S, HUNG_S_MAX = 20.0, 20.0


class TimeoutWrite(Parameters, kw_only=True, frozen=True):
    """Parameters of ``timeout-write``."""

    sizes: Sizes = (4096, 1_500_000)
    hang_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=15, description="When a store's client gives up, but of a bucket's"),
    ] = 1.0


async def run(trial: Trial, parameters: TimeoutWrite) -> None:
    """Let one store of three hang under load; then so many that no quorum is left, for a while."""
    member = await trial.member("stress")
    hangs = Ailment(
        calls=StoreFaults(hang={"finish": 1.0}, hang_s=parameters.hang_s),
        wire=ProxyFault(kind=FaultKind.STALL, side=Side.REQUEST),
    )
    unstored: list[str] = []
    first, *others = trial.world.decisive
    last = trial.body()
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int) -> None:
            await trial.round_trip(customer, unstored)

        trial.begin_faults()
        await first.suffer(hangs)
        # It may be resting: what was under way when it began to hang was broken off.
        hung = await trial.store_until(customer, unstored, first.injected, within_s=HUNG_S_MAX)
        trial.verdict.require("writes hung", met=hung, evidence=f"{dict(first.injected())}")
        await trial.crowd(client)
        with_one = dict(trial.record.outcomes["upload"])
        for each in others:
            await each.suffer(hangs)
        await _refused_then_stored(trial, gateway, last, unstored)
    trial.require_all("every body is stored in the end", unstored)
    trial.verdict.require(
        "one store that hangs makes no upload fail",
        met=set(with_one) == {OK},
        evidence=f"uploads while one hung: {with_one}",
    )


async def _refused_then_stored(
    trial: Trial, gateway: GatewayLike, body: Body, unstored: list[str]
) -> None:
    """Send while no quorum can be had; heal once it was said so; what is sent again is stored."""
    customer = trial.customer(gateway, trial.members["stress"])
    sending = asyncio.create_task(trial.round_trip(customer, unstored, body))

    def refusals() -> int:
        return trial.record.count("upload", BackendUnavailable.code)

    refused = await trial.eventually(lambda: refusals() > 0, within_s=REFUSED_WITHIN_S)
    await trial.world.heal()
    await sending
    trial.verdict.require(
        "an upload without a quorum is refused, and not left hanging",
        met=refused,
        evidence=f"{refusals()} were told {BackendUnavailable.code}",
    )


CASE = Case(
    name="timeout-write",
    edge_case="A store takes what is written and never says that it has it.",
    fault="Writes of one store of three hang until its client gives up; then those of two.",
    load="Clients that upload and read back; one that sends while there is no quorum.",
    passes_when="One hanging store is not noticed; without a quorum the answer is 503, soon, and"
    " what is sent again afterwards is stored.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=TimeoutWrite,
    bytes_min=bytes_of_bodies(2, TINY_BYTES),
    expected_s=15.0,
    stores=3,
    quorum=2,
    run=run,
)
