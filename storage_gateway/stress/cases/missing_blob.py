"""``missing-blob``: payloads that are gone from one store, or from each; and what is not gone."""

import itertools
from contextlib import AsyncExitStack

from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable, BlobMissing
from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import (
    Stored,
    each,
    judge_damage,
    require_refused,
    require_right,
    store_objects,
)
from storage_gateway.stress.load import Customer
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.run_stores import Ailment
from storage_gateway.stress.tampering import blob_key, damaged
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.trial import Trial

OUT_OF_REACH_MAX = 8
"""Objects that are asked for while no store can serve them: each may take a bucket's deadline."""


class MissingBlob(Parameters, kw_only=True, frozen=True):
    """Parameters of ``missing-blob``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: MissingBlob) -> None:
    """Take blobs away from one store, then from each; then from all but one that is silent."""
    member = await trial.member("stress")
    async with trial.world.gateway() as gateway:
        customer = trial.customer(gateway, member)
        stored = await store_objects(trial, customer)

        async def take_away(urn: str, store: int, opened: AsyncExitStack) -> None:
            key = await blob_key(trial.world, urn)
            lacking = trial.world.stores[store]
            await opened.enter_async_context(damaged(lacking, key, lambda _: None))

        await judge_damage(trial, customer, stored, each(take_away), refused=BlobMissing)
        await _judge_out_of_reach(trial, customer, stored)


async def _judge_out_of_reach(trial: Trial, customer: Customer, stored: Stored) -> None:
    """Let the one store that still has them say nothing: they are not lost, and not called so."""
    has_them, *others = trial.world.stores
    asked = dict(itertools.islice(stored.items(), OUT_OF_REACH_MAX))
    async with AsyncExitStack() as opened:
        for other in others:
            for urn in asked:
                key = await blob_key(trial.world, urn)
                await opened.enter_async_context(damaged(other, key, lambda _: None))
        await has_them.suffer(
            Ailment(
                calls=StoreFaults(refused={"read": 1.0, "stat": 1.0}),
                wire=ProxyFault(kind=FaultKind.REFUSE),
            )
        )
        criterion = "what is merely out of reach is not called lost"
        await require_refused(trial, customer, asked, BackendUnavailable, criterion)
        await has_them.heal()
        criterion = "what was merely out of reach is read again"
        await require_right(trial, customer, asked, criterion)


CASE = Case(
    name="missing-blob",
    edge_case="A stored payload is gone, from one store or from each; or the store that has it is"
    " out of reach.",
    fault="Blobs are taken away from one of two stores; then from both; then from one, while the"
    " other one refuses.",
    load="Clients that read while it is so.",
    passes_when="What one store has is read right, and what the other lacks is noted; what is gone"
    " everywhere is refused as lost; what is merely out of reach as unavailable, and read again"
    " afterwards.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=MissingBlob,
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
