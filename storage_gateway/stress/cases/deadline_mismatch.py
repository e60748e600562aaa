"""``deadline-mismatch``: clients that would wait longer than the proxy before the gateway."""

import asyncio
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import BROKEN
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.submitting import require_once
from storage_gateway.stress.tcp_faults import HOST, ProxyFault
from storage_gateway.stress.tcp_proxy import tcp_proxy
from storage_gateway.stress.trial import LoadSpent, Trial

CLIENT_DEADLINES_S = (420.0, 480.0)
PROXY_DEADLINE_S = 300.0
SLOW, SLOW_ON_THE_WIRE = 2.5, 0.55
"""What a write takes at most, and each side of an exchange, in deadlines of the proxy: longer than
it waits, mostly.
"""
SCALE_MAX = 0.004
"""With it a write that is slow on the wire is still answered before a run gives a bucket up."""
WAVES_MAX = 20


class DeadlineMismatch(Parameters, kw_only=True, frozen=True):
    """Parameters of ``deadline-mismatch``."""

    sizes: Sizes = (4096, 70_000)
    scale: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            le=SCALE_MAX,
            description="What a second of the deadlines takes here: of 420 and 480 s of clients,"
            " of 300 s of the proxy",
        ),
    ] = 0.003


@dataclass(slots=True)
class _Proxied:
    """The gateway as clients of the proxy see it."""

    url: str


def bytes_of_a_wave(parameters: DeadlineMismatch) -> int:
    """Return what a body of each client makes, sent and read back."""
    return 2 * parameters.clients * max(parameters.sizes)


async def run(trial: Trial, parameters: DeadlineMismatch) -> None:
    """Cut uploads off before their clients give up, while a store is slow; each is sent again."""
    member = await trial.member("stress")
    cut_s = PROXY_DEADLINE_S * parameters.scale
    slow = Ailment(
        calls=StoreFaults(delay_s={"finish": SLOW * cut_s}),
        wire=ProxyFault(latency_s=SLOW_ON_THE_WIRE * cut_s),
    )
    sent: dict[str, Body] = {}
    urns: dict[str, str] = {}

    def goes_on() -> bool:
        enough = sent and proxy.happened
        return trial.goes_on() or (not enough and len(sent) < WAVES_MAX * parameters.clients)

    async with (
        trial.world.gateway() as gateway,
        tcp_proxy(urlsplit(gateway.url).port or 0, seed=trial.seed) as proxy,
    ):
        customer = trial.customer(_Proxied(f"http://{HOST}:{proxy.port}"), member)

        async def send(number: int, task_id: str, body: Body) -> None:
            deadline_s = CLIENT_DEADLINES_S[number % 2] * parameters.scale
            answer = await trial.deliver(customer, task_id, body, timeout_s=deadline_s)
            sent[task_id] = body
            if answer.urn:
                urns[task_id] = answer.urn

        trial.begin_faults()
        await proxy.inject(ProxyFault(answer_within_s=cut_s))
        await trial.world.stores[0].suffer(slow)
        while goes_on():
            try:
                wave = [trial.body() for _ in range(parameters.clients)]
            except LoadSpent:
                break
            await asyncio.gather(*(send(n, trial.next_task(), b) for n, b in enumerate(wave)))
        cut = proxy.happened
        await trial.world.heal()
        await proxy.heal()
        await require_once(trial, trial.customer(gateway, member), sent, urns)
    _judge(trial, cut, [task_id for task_id in sent if task_id not in urns])


def _judge(trial: Trial, cut: int, unstored: list[str]) -> None:
    trial.require_all("every body is stored in the end", unstored)
    broken = trial.record.count("upload", BROKEN)
    trial.notes["cut_off"] = cut
    trial.verdict.require(
        "uploads were cut off before their clients' deadlines",
        met=cut > 0 and broken > 0,
        evidence=f"the proxy cut {cut} exchanges, {broken} uploads heard nothing else",
    )


CASE = Case(
    name="deadline-mismatch",
    edge_case="Clients wait for 420 or 480 s, the proxy before the gateway for 300 s.",
    fault="A store is slow, and the proxy breaks off what has no answer in time; all deadlines are"
    " scaled down.",
    load="Clients that upload through the proxy, and send again what was cut off.",
    passes_when="Who was cut off and sends again finds its object, once and under one URN, and"
    " nothing else is left.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=DeadlineMismatch,
    bytes_min=bytes_of_a_wave,
    expected_s=15.0,
    stores=2,
    quorum=2,
    run=run,
)
