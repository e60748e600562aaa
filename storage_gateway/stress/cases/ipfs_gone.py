"""``ipfs-gone``: an IPFS node that is out of reach, or hangs, beside another store."""

import asyncio
import collections
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage_gateway.backends.faulty import OPERATIONS, StoreFaults
from storage_gateway.errors import BackendUnavailable
from storage_gateway.records import ObjectState
from storage_gateway.stress.bodies import Body
from storage_gateway.stress.contract import Case
from storage_gateway.stress.erasing import erase_all
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.pinned import TINY_BYTES, Pinned, watching
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import DEADLINE_S, GONE, NODE, Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import WORTH_RETRYING, LoadSpent, Trial

HANGS = Ailment(
    calls=StoreFaults(hang=dict.fromkeys(OPERATIONS, 1.0), hang_s=DEADLINE_S),
    wire=ProxyFault(kind=FaultKind.SILENCE),
)
AILMENTS = {"refuses": GONE, "hangs": HANGS}
ONLY, ERASED = 2, 2
"""Objects that the node alone has, and of those that both have the ones that are erased."""
WAVES = 2
"""In each of them each client sends a body: the node begins to ail in the midst of the first."""
UNPINNED_S_MAX = 30.0


class IPFSGone(Parameters, kw_only=True, frozen=True):
    """Parameters of ``ipfs-gone``."""

    sizes: Sizes = (4096, 1_500_000)


def bytes_of_a_round(parameters: IPFSGone) -> int:
    """Return what is stored before, and what is sent while the node refuses and while it hangs,
    makes, sent and read back.
    """
    waves = len(AILMENTS) * WAVES * parameters.clients
    return 2 * max(TINY_BYTES, *parameters.sizes) * (ONLY + ERASED + len(AILMENTS) + waves)


@dataclass(slots=True)
class _Load:
    """What is sent to the node and to another store, and what came of it."""

    trial: Trial
    customer: Customer
    pinned: Pinned
    unstored: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    """What the node alone has."""
    seen: "collections.Counter[str]" = field(default_factory=collections.Counter)
    """What requests came to while the node came and went."""
    asked: "collections.Counter[str]" = field(default_factory=collections.Counter)
    """How often the node was asked meanwhile."""

    async def store(self, count: int) -> list[str]:
        """Store bodies."""
        stored = [await self.trial.round_trip(self.customer, self.unstored) for _ in range(count)]
        await self.trial.world.wait_late()
        return [urn for urn in stored if urn]

    async def store_in_node_alone(self) -> None:
        """Store bodies while all others are gone."""
        others = [each for each in self.trial.world.stores if each is not self.pinned.store]
        for each in others:
            await each.suffer(GONE)
        self.only = await self.store(ONLY)
        for each in others:
            await each.heal()

    async def round(self) -> None:
        """Let the node refuse in the midst of a wave, then hang in the midst of another one.

        Raises:
            LoadSpent: the bytes of the run are used up.

        """
        for name, ailment in AILMENTS.items():
            of_wave = range(self.trial.parameters.clients)
            waves = [[self.trial.body() for _ in of_wave] for _ in range(WAVES)]
            await self.pinned.use_again(self.customer, self.unstored)
            record = self.trial.record.outcomes
            before = {name: record[name].copy() for name in ("upload", "fetch")}
            self.asked[name] += await self._ail(ailment, waves)
            for operation, counted in before.items():
                for outcome, count in (record[operation] - counted).items():
                    self.seen[f"{operation} {outcome}"] += count

    async def _ail(self, ailment: Ailment, waves: Sequence[Sequence[Body]]) -> int:
        """Let the node ail once it was asked for the first wave; return how often it was, then."""
        store = self.pinned.store
        calls = store.faulty.asked.total()
        first = asyncio.create_task(self._send(waves[0]))
        await self.trial.eventually(
            lambda: store.faulty.asked.total() > calls or first.done(), within_s=DEADLINE_S
        )
        await store.suffer(ailment)
        calls = store.faulty.asked.total()
        await first
        for wave in waves[1:]:
            await self._send(wave)
        await self.trial.world.wait_late()
        await store.heal()
        return store.faulty.asked.total() - calls

    async def _send(self, wave: Sequence[Body]) -> None:
        sending = (self.trial.round_trip(self.customer, self.unstored, body) for body in wave)
        await asyncio.gather(*sending)

    def judge(self) -> None:
        """Require what is to be seen while the node comes and goes beside another store."""
        fine = {f"upload {OK}", *(f"fetch {outcome}" for outcome in (OK, *WORTH_RETRYING))}
        self.trial.verdict.require(
            "no upload fails beside another store, and nothing that is read is called lost",
            met=set(self.seen) <= fine,
            evidence=f"requests while the node came and went: {dict(self.seen)}",
        )
        self.trial.verdict.require(
            "the node was asked while it refused, and while it hung",
            met=all(self.asked[name] for name in AILMENTS),
            evidence=f"calls: {dict(self.asked)}",
        )
        self.trial.require_all("every body is stored in the end", self.unstored)


async def run(trial: Trial, _parameters: IPFSGone) -> None:
    """Let the node come and go under load; then ask for what it alone has while it is away."""
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway, watching(trial) as pinned:
        customer = trial.customer(gateway, member)
        load = _Load(trial, customer, pinned)
        erased = await load.store(ERASED)
        await load.store_in_node_alone()
        trial.begin_faults()
        try:
            await load.round()
            while trial.goes_on():
                await load.round()
        except LoadSpent:
            pass
        await pinned.store.suffer(HANGS)
        await _require_refused(trial, customer, load.only)
        await pinned.store.suffer(GONE)
        await _require_refused(trial, customer, load.only)
        criterion = "what is erased while the node is gone is erasing, and unreadable"
        await erase_all(trial, customer, erased, criterion, state=ObjectState.ERASING)
        await pinned.store.heal()
        for urn in load.only:
            await trial.read_back(customer, urn, trial.ledger.acknowledged[urn][1])
        await _require_unpinned(trial, pinned, erased)
    load.judge()


async def _require_refused(trial: Trial, customer: Customer, only: list[str]) -> None:
    answers = await asyncio.gather(*(customer.fetch(urn, size=0) for urn in only))
    came_to = {(answer.status, answer.outcome) for answer in answers}
    trial.verdict.require(
        "what the node alone has is not called lost while it is away",
        met=came_to == {(503, BackendUnavailable.code)},
        evidence=f"reads of {len(only)} objects came to {sorted(came_to)}",
    )


async def _require_unpinned(trial: Trial, pinned: Pinned, erased: list[str]) -> None:
    """Require that what was erased meanwhile is unpinned once the node is back."""
    gone = {str(pin.root) for urn in erased for pin in await pinned.of_object(urn)}

    async def unpinned() -> bool:
        return not gone & await pinned.by_node()

    trial.verdict.require(
        "what was erased meanwhile is pinned no more once the node is back",
        met=bool(gone) and await trial.eventually(unpinned, within_s=UNPINNED_S_MAX),
        evidence=f"of {len(gone)} pins there are {len(gone & await pinned.by_node())} left",
    )


CASE = Case(
    name="ipfs-gone",
    edge_case="An IPFS node cannot be reached, or hangs, in the midst of uploads and reads.",
    fault="A node beside another store refuses, hangs and is back, in turns, under load; then both"
    " while what it alone has is read and other objects are erased.",
    load="Clients that upload and read back; reads of what the node alone has.",
    passes_when="No upload fails beside the other store; what the node alone has is refused as"
    " unavailable, is not called lost, and is read again; what was erased is unpinned once the node"
    " is back.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=IPFSGone,
    bytes_min=bytes_of_a_round,
    expected_s=30.0,
    stores=2,
    quorum=1,
    needs=NODE,
    run=run,
)
