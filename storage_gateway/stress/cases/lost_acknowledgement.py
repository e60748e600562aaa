"""``lost-acknowledgement``: stores that do what they are asked, and nobody hears of it."""

import asyncio
from collections.abc import Sequence

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Answer, Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment, RunStore
from storage_gateway.stress.submitting import require_once
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import Trial

REFUSALS_S_MAX = 30.0
LOSES = Ailment(
    calls=StoreFaults(lost_answer={"finish": 1.0, "delete": 1.0}),
    wire=ProxyFault(
        kind=FaultKind.LOSE_ANSWER,
        requests=(b"PUT ", b"DELETE ", b"POST /api/v0/dag/import", b"POST /api/v0/pin/rm"),
    ),
)


class LostAcknowledgement(Parameters, kw_only=True, frozen=True):
    """Parameters of ``lost-acknowledgement``."""

    sizes: Sizes = (4096, 1_500_000)


def bytes_of_a_wave(parameters: LostAcknowledgement) -> int:
    """Return what the bodies that nobody acknowledges make, and those of one round before."""
    return 4 * parameters.clients * max(parameters.sizes)


async def run(trial: Trial, parameters: LostAcknowledgement) -> None:
    """Lose what one of two stores answers to writes and deletes; then what both do."""
    member = await trial.member("stress")
    unstored: list[str] = []
    stored: list[str] = []
    first, *others = stores = trial.world.stores
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)

        async def client(_number: int) -> None:
            stored.append(await trial.round_trip(customer, unstored))

        trial.begin_faults()
        await first.suffer(LOSES)
        of_one = _Lost(first, "finish")
        waves = [trial.body() for _ in range(parameters.clients)]
        await trial.crowd(client)
        heard = of_one.heard()
        with_one = dict(trial.record.outcomes["upload"])
        sent = {trial.next_task(): body for body in waves}
        for each in stores:
            await each.suffer(LOSES)
        of_all = [_Lost(each, "delete") for each in stores]
        of_all += [_Lost(each, "finish") for each in others]  # the first one is left alone by now
        urns = await _refused_then_stored(trial, customer, sent, stored[: parameters.clients])
        heard += [why for each in of_all for why in each.heard()]
        unstored += [f"{task_id} was not stored" for task_id in sent if task_id not in urns]
        await require_once(trial, customer, sent, urns)
    trial.require_all("every body is stored in the end", unstored)
    trial.verdict.require(
        "one store whose answers are lost makes no upload fail",
        met=set(with_one) == {OK},
        evidence=f"uploads while one was not heard: {with_one}",
    )
    trial.require_all("answers to writes and deletes were lost in each store", heard)


async def _refused_then_stored(
    trial: Trial, customer: Customer, sent: dict[str, Body], doomed: Sequence[str]
) -> dict[str, str]:
    """Send while no answer of any store arrives, erase, send again; heal; return the URNs."""
    for task_id, body in sent.items():
        trial.ledger.offer(customer.member, task_id, "input", body)
    answers = await asyncio.gather(*(customer.upload(t, body) for t, body in sent.items()))
    outcomes = [answer.outcome for answer in answers]
    trial.verdict.require(
        "what no store acknowledged is refused",
        met=set(outcomes) == {BackendUnavailable.code},
        evidence=f"{len(outcomes)} uploads came to {', '.join(sorted(set(outcomes)))}",
    )
    again = [
        asyncio.create_task(trial.deliver(customer, task_id, body))
        for task_id, body in sent.items()
    ]
    retried = trial.record.retries
    await erase_all(trial, customer, doomed, "what is erased is gone at once")
    await trial.eventually(
        lambda: trial.record.retries >= retried + len(again), within_s=REFUSALS_S_MAX
    )
    await trial.world.heal()
    found: list[Answer] = await asyncio.gather(*again)
    return {t: answer.urn for t, answer in zip(sent, found, strict=True) if answer.urn}


class _Lost:
    """Whether a store lost answers to an operation since then."""

    def __init__(self, store: RunStore, operation: str) -> None:
        self._store, self._operation = store, operation
        self._before = self._counts()

    def heard(self) -> list[str]:
        """Return that it lost none, if so it is."""
        if all(now > before for now, before in zip(self._counts(), self._before, strict=True)):
            return []
        return [f"{self._store.name} lost no answer to {self._operation}"]

    def _counts(self) -> tuple[int, ...]:
        # A proxy sees connections only; meanwhile each call through it loses its answer.
        faulty, proxy = self._store.faulty, self._store.proxy
        if proxy is None:
            return (faulty.injected[f"lost_answer {self._operation}"],)
        return proxy.happened, faulty.asked[self._operation]


CASE = Case(
    name="lost-acknowledgement",
    edge_case="A store does what it is asked, and its answer is lost.",
    fault="Answers to writes and deletes of one of two stores are lost, with a quorum of one; then"
    " those of both.",
    load="Clients that upload and read back; then uploads that nobody acknowledges, which are sent"
    " again, while objects are erased.",
    passes_when="One such store is not noticed; with both, uploads are refused and leave nothing,"
    " what is sent again is stored once, and what was erased is gone.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=LostAcknowledgement,
    bytes_min=bytes_of_a_wave,
    expected_s=15.0,
    stores=2,
    quorum=1,
    run=run,
)
