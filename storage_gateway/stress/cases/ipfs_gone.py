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
from storage_gateway.stress.pinned import Pinned, watching
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import DEADLINE_S, GONE, NODE, Ailment
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import TINY_BYTES, WORTH_RETRYING, LoadSpent, Trial

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
PINNED_S_MAX = 10.0
WRITTEN_S_MAX = 30.0
"""Within it a node that rests is tried again."""


class IPFSGone(Parameters, kw_only=True, frozen=True):
    """Parameters of ``ipfs-gone``."""

    sizes: Sizes = (4096, 1_500_000)


def bytes_of_a_round(parameters: IPFSGone) -> int:
    """Return what is stored before, and what is sent while the node refuses and while it hangs,
    makes, sent and read back.
    """
    waves = len(AILMENTS) * WAVES * parameters.clients
    tiny = 2 * len(AILMENTS)  # before it ails, and meanwhile
    return 2 * max(TINY_BYTES, *parameters.sizes) * (ONLY + ERASED + tiny + waves)


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
    written: "collections.Counter[str]" = field(default_factory=collections.Counter)
    """How many blobs the node was sent meanwhile."""

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
            self.written[name] += await self._ail(ailment, waves)
            for operation, counted in before.items():
                for outcome, count in (record[operation] - counted).items():
                    self.seen[f"{operation} {outcome}"] += count

    async def _ail(self, ailment: Ailment, waves: Sequence[Sequence[Body]]) -> int:
        """Let the node ail once it was sent some of the first wave; return how many blobs it was
        sent from then on: recovery asks it, too, and proves nothing.
        """
        faulty, suffer = self.pinned.store.faulty, self.pinned.store.suffer
        before = faulty.asked["finish"]
        first = asyncio.create_task(self._send(waves[0]))
        await self.trial.eventually(
            lambda: faulty.asked["finish"] > before or first.done(), within_s=DEADLINE_S
        )
        await suffer(ailment)
        before = faulty.asked["finish"]

        def written() -> int:
            return faulty.asked["finish"] - before

        try:
            await first
            for wave in waves[1:]:
                await self._send(wave)
            if not written():
                await self.trial.store_until(
                    self.customer, self.unstored, written, within_s=WRITTEN_S_MAX
                )
            await self.trial.world.wait_late()
        finally:
            await self.pinned.store.heal()
        return written()

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
            "the node was written to while it refused, and while it hung",
            met=all(self.written[name] for name in AILMENTS),
            evidence=f"blobs: {dict(self.written)}",
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
        kept = await _require_pinned(trial, pinned, erased)
        await pinned.store.suffer(HANGS)
        await _require_refused(trial, customer, load.only)
        await pinned.store.suffer(GONE)
        await _require_refused(trial, customer, load.only)
        criterion = "what is erased while the node is gone is erasing, and unreadable"
        await erase_all(trial, customer, erased, criterion, state=ObjectState.ERASING)
        await pinned.store.heal()
        for urn in load.only:
            await trial.read_back(customer, urn, trial.ledger.acknowledged[urn][1])
        await _require_unpinned(trial, pinned, kept)
    load.judge()


async def _require_refused(trial: Trial, customer: Customer, only: list[str]) -> None:
    answers = await asyncio.gather(*(customer.fetch(urn, size=0) for urn in only))
    came_to = {(answer.status, answer.outcome) for answer in answers}
    trial.verdict.require(
        "what the node alone has is not called lost while it is away",
        met=came_to == {(503, BackendUnavailable.code)},
        evidence=f"reads of {len(only)} objects came to {sorted(came_to)}",
    )


async def _require_pinned(trial: Trial, pinned: Pinned, urns: list[str]) -> set[str]:
    """Require that the node keeps what was written down for objects before it was sent; return the
    roots.
    """
    roots = {str(pin.root) for urn in urns for pin in await pinned.of_object(urn)}

    async def are_pinned() -> bool:
        return roots <= await pinned.by_node()

    trial.verdict.require(
        "what is to be erased is pinned as long as it is not",
        met=bool(roots) and await trial.eventually(are_pinned, within_s=PINNED_S_MAX),
        evidence=f"of {len(roots)} pins there are {len(roots & await pinned.by_node())}",
    )
    return roots


async def _require_unpinned(trial: Trial, pinned: Pinned, roots: set[str]) -> None:
    """Require that what was erased meanwhile is unpinned once the node is back."""

    async def are_unpinned() -> bool:
        return not roots & await pinned.by_node()

    trial.verdict.require(
        "what was erased meanwhile is pinned no more once the node is back",
        met=await trial.eventually(are_unpinned, within_s=UNPINNED_S_MAX),
        evidence=f"of {len(roots)} pins there are {len(roots & await pinned.by_node())} left",
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
