"""``orphan-blob``: blobs that nothing names are collected, under load, and nothing else is."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.catalog.work import list_intents
from storage_gateway.errors import BlobMissing
from storage_gateway.ids import new_random_id
from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.held import HELD_SIZE, Held
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.record import OK
from storage_gateway.stress.run_stores import RunStore
from storage_gateway.stress.tampering import other_bytes
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike

GC = {"gc_interval_s": 0.1, "gc_dwell_s": 0.4}
BEGUN = 4
"""Objects that are there before the first orphan."""
TOO_MANY = BEGUN + 1
"""Orphans that are more than half of what a store has."""
ROUNDS_MIN = 2
ORPHAN_SIZE = 1000
GONE_S_MAX = 30.0


class OrphanBlob(Parameters, kw_only=True, frozen=True):
    """Parameters of ``orphan-blob``."""

    sizes: Sizes = (4096, 1_500_000)


@dataclass(slots=True)
class _Planted:
    """A blob that nothing names."""

    store: RunStore
    key: str

    async def is_there(self) -> bool:
        """Tell whether the store has it still."""
        try:
            await self.store.store.stat(self.key)
        except BlobMissing:
            return False
        return True


async def run(trial: Trial, _parameters: OrphanBlob) -> None:
    """Plant orphans, too many first, then some under load beside an upload that takes long."""
    member = await trial.member("stress")
    unstored: list[str] = []
    # What is in a node is known by its pins: a blob cannot be put there unnamed.
    stores = [s for s in trial.world.stores if not isinstance(s.backend, IPFSBackend)]
    async with trial.world.gateway() as gateway:
        for _ in range(BEGUN):
            await trial.round_trip(trial.customer(gateway, member), unstored)
    trial.begin_faults()
    # Before any gateway collects: all of them grow old together.
    too_many = [p for _ in range(TOO_MANY) for p in await _plant(stores, trial, 1)]
    async with trial.world.gateway(**GC) as gateway:
        customer = trial.customer(gateway, member)
        await _judge_brake(trial, gateway, too_many)

        async def client(_number: int) -> None:
            await trial.round_trip(customer, unstored)

        async with _held(trial, customer, stores):
            crowd = asyncio.create_task(trial.crowd(client))
            try:
                for rounds in itertools.count():
                    if rounds >= ROUNDS_MIN and crowd.done():
                        break
                    await _judge_round(trial, stores)
            finally:
                await crowd
    trial.require_all("every body is stored", unstored)


async def _plant(stores: Collection[RunStore], trial: Trial, blobs: int) -> list[_Planted]:
    """Put a payload of so many blobs, of which nobody knows, into each of the stores."""
    payload_id, planted = new_random_id(), []
    for each in stores:
        for index in range(blobs):
            key = f"{trial.world.parts.payloads}{payload_id}/{index}"
            await each.store.put(key, other_bytes(key, ORPHAN_SIZE))
            planted.append(_Planted(each, key))
    return planted


def _are_gone(planted: Sequence[_Planted]) -> Callable[[], Awaitable[bool]]:
    async def are_gone() -> bool:
        return not any([await each.is_there() for each in planted])

    return are_gone


async def _judge_brake(trial: Trial, gateway: GatewayLike, planted: Sequence[_Planted]) -> None:
    """Require that orphans that are most of what is in the stores go by an operator's word."""
    collect = gateway.upkeep.collect
    names = {each.store.name for each in planted}

    def are_braked() -> bool:
        return {n for n, count in collect.braked.items() if count >= TOO_MANY} == names

    braked = await trial.eventually(are_braked, within_s=GONE_S_MAX)
    there = [await each.is_there() for each in planted]
    are_gone = _are_gone(planted)

    async def are_collected() -> bool:
        await collect.run_once(confirm=TOO_MANY)
        return await are_gone()

    collected = await trial.eventually(are_collected, within_s=GONE_S_MAX)
    trial.verdict.require(
        "where most would go nothing does without an operator's word, and then it does",
        met=bool(names) and braked and all(there) and collected,
        evidence=f"{sum(there)} of {len(there)} in {sorted(names)} stayed; gone then: {collected}",
    )


async def _judge_round(trial: Trial, stores: Sequence[RunStore]) -> None:
    """Let one store have an orphan, and all of them another one, of several blobs."""
    planted = await _plant(stores[:1], trial, 1) + await _plant(stores, trial, 2)
    gone = await trial.eventually(_are_gone(planted), within_s=GONE_S_MAX)
    trial.verdict.require(
        "what nothing names is found and removed",
        met=bool(planted) and gone,
        evidence=f"{len(planted)} blobs, within {GONE_S_MAX:g} s",
    )


@asynccontextmanager
async def _held(
    trial: Trial, customer: Customer, stores: Sequence[RunStore]
) -> AsyncIterator[None]:
    """Have an upload under way during the block; require that nothing of it is touched, and that
    it is stored once it goes on.
    """
    held, task_id = Held(trial.body(HELD_SIZE)), trial.next_task()
    trial.ledger.offer(customer.member, task_id, "input", held.body)
    sent = asyncio.create_task(customer.upload(task_id, held.body, source=held.pieces()))
    try:
        of_held = partial(_blobs_under_way, trial, stores)
        # A bucket has nothing of it before a segment is there; a folder has.
        await trial.eventually(of_held, within_s=GONE_S_MAX)
        before = await of_held()
        yield
        after = await of_held()
    finally:
        held.goes_on.set()
        answer = await sent
    trial.verdict.require(
        "nothing of an upload under way is touched",
        met=len(before) > 0 and before <= after,
        evidence=f"{len(before & after)} of {len(before)} blobs are there",
    )
    if answer.outcome == OK:
        trial.acknowledge(customer.member, answer.urn, held.body)
        await trial.read_back(customer, answer.urn, held.body)
    trial.require_all(
        "an upload that takes long is stored", [] if answer.outcome == OK else [answer.outcome]
    )


async def _blobs_under_way(trial: Trial, stores: Sequence[RunStore]) -> set[str]:
    """Return what is stored of uploads that are not committed yet, with the stores' names."""
    intents = await trial.world.catalog.inner.read(partial(list_intents, after="", limit=1000))
    prefixes = [f"{trial.world.parts.payloads}{intent.payload_id}/" for intent in intents]
    return {
        f"{each.name}: {blob.key}"
        for each in stores
        for prefix in prefixes
        async for blob in each.store.list(prefix)
    }


CASE = Case(
    name="orphan-blob",
    edge_case="Blobs lie among the payloads that nothing names: of a process that was paused for"
    " long and died, or of a catalog that was put back.",
    fault="Blobs are put into the stores below the gateways: more than half of all there is, then"
    " some again and again.",
    load="Clients that upload and read back; an upload that takes longer than orphans are kept.",
    passes_when="Orphans are found and removed, but where most of a store would go only by an"
    " operator's word; nothing of an upload under way or of an object is touched.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=OrphanBlob,
    bytes_min=bytes_of_bodies(BEGUN + 1, HELD_SIZE),
    expected_s=12.0,
    stores=2,
    quorum=2,
    run=run,
)
