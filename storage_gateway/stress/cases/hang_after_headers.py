"""``hang-after-headers``: a store that begins to answer and then says nothing more."""

import asyncio
from typing import Annotated

import msgspec

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.reading import LONG_SIZE, bytes_of_all, deadline_s, pausing, store_all
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import Ailment, RunStore
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault, Side
from storage_gateway.stress.trial import Trial

ROUNDS_MAX = 30
"""Tried until each store has hung under a reader: on a machine that is busy a store that served a
moment ago is perhaps not asked for the rest."""
BEGINNING = 100_000
"""What a bucket sends of each answer."""
STORES = 2
REFUSES = Ailment(calls=StoreFaults(refused={"read": 1.0}))


class HangAfterHeaders(Parameters, kw_only=True, frozen=True):
    """Parameters of ``hang-after-headers``."""

    sizes: Sizes = (LONG_SIZE,)
    hang_s: Annotated[
        float,
        msgspec.Meta(gt=0, le=10, description="When a store's client gives up, but of a bucket's"),
    ] = 1.0


def _sizes(parameters: HangAfterHeaders) -> tuple[int, ...]:
    """Return the sizes, with one at least of which a part is not asked for at the beginning."""
    sizes = parameters.sizes
    return sizes if max(sizes) >= LONG_SIZE else (*sizes, LONG_SIZE)


async def run(trial: Trial, parameters: HangAfterHeaders) -> None:
    """Let one store serve, then hang while bodies are under way; each in its turn."""
    member = await trial.member("stress")
    hangs = Ailment(
        calls=StoreFaults(hang={"read": 1.0}, hang_s=parameters.hang_s),
        wire=ProxyFault(kind=FaultKind.STALL, side=Side.ANSWER, after_bytes=BEGINNING),
    )
    cut: list[str] = []
    hung = dict.fromkeys((each.name for each in trial.world.stores[:STORES]), 0)
    rounds = 0
    async with trial.world.gateway() as gateway, pausing(trial, gateway, member) as customer:
        stored = await store_all(trial, customer, _sizes(parameters))
        await trial.world.wait_late()  # each store is to serve alone
        bytes_of_a_round = (1 + parameters.clients) * sum(body.size for body in stored.values())
        trial.begin_faults()

        def goes_on() -> bool:
            is_short = not all(hung.values()) and rounds < ROUNDS_MAX
            return (is_short or trial.goes_on()) and trial.bytes_left >= bytes_of_a_round

        while goes_on():
            trial.bytes_left -= bytes_of_a_round
            serving = min(trial.world.stores[:STORES], key=lambda each: hung[each.name])
            within_s = deadline_s(trial, parameters.hang_s)
            await _prefer(trial, customer, serving, stored, within_s)
            before = serving.injected().total()
            readers = _Readers(trial, customer, serving, hangs, parameters.clients * len(stored))
            cut += await readers.read([*stored.items()] * parameters.clients, within_s)
            hung[serving.name] += serving.injected().total() - before
            rounds += 1
            await trial.world.heal()
    trial.require_all("every body that was under way came whole", cut)
    trial.verdict.require(
        "each store hung while bodies were under way",
        met=all(hung.values()),
        evidence=f"answers that did not end, in {rounds} rounds: {hung}",
    )


async def _prefer(
    trial: Trial, customer: Customer, serving: RunStore, stored: dict[str, Body], within_s: float
) -> None:
    """Let all other stores fail reads until they rest: they are well, and asked last, for a while.

    What these reads come to is not judged: it matters who is asked from now on.
    """
    for each in trial.world.stores:
        if each is not serving:
            await each.suffer(REFUSES)
    for urn, body in stored.items():
        await customer.fetch(urn, size=body.size, timeout_s=within_s)
    await trial.world.heal()


class _Readers:
    """Readers that are all in the midst of their bodies when the store they come from hangs."""

    def __init__(
        self, trial: Trial, customer: Customer, serving: RunStore, hangs: Ailment, count: int
    ) -> None:
        self._trial = trial
        self._customer = customer
        self._serving = serving
        self._hangs = hangs
        self._begun = asyncio.Barrier(count)
        self._ill = asyncio.Event()

    async def read(self, wanted: list[tuple[str, Body]], within_s: float) -> list[str]:
        """Read all; return what did not come whole and right."""
        answers = await asyncio.gather(
            *(
                self._customer.fetch(
                    urn, size=body.size, midway=self._hang_all_begun, timeout_s=within_s
                )
                for urn, body in wanted
            )
        )
        wrong = []
        for (urn, body), answer in zip(wanted, answers, strict=True):
            if answer.outcome != OK:
                wrong.append(f"{urn} came to {answer.outcome} after {answer.seconds:.1f} s")
            elif answer.digest != body.digest:
                self._trial.verdict.broken(8, f"{urn} was read with other content than was sent")
        return wrong

    async def _hang_all_begun(self) -> None:
        if await self._begun.wait() == 0:
            await self._serving.suffer(self._hangs)
            self._ill.set()
        await self._ill.wait()


CASE = Case(
    name="hang-after-headers",
    edge_case="A store sends the beginning of what it is asked for, and then nothing.",
    fault="The store that serves hangs when bodies of many leaves are in the midst of their way; of"
    " a bucket each answer stops after its first bytes.",
    load="Clients that read, all at one time.",
    passes_when="The other store goes on where the first one stopped, and every body comes whole.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=HangAfterHeaders,
    bytes_min=lambda parameters: bytes_of_all(parameters.clients, parameters.sizes),
    expected_s=15.0,
    stores=STORES,
    quorum=STORES,
    run=run,
)
