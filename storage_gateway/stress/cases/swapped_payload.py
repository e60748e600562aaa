"""``swapped-payload``: payloads that lie in each other's places, in one store and then in each."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from storage_gateway.stress.contract import Case, bytes_of_bodies
from storage_gateway.stress.damage import read_under_damage
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.tampering import blob_key, manifest_of, swapped
from storage_gateway.stress.trial import Trial


class SwappedPayload(Parameters, kw_only=True, frozen=True):
    """Parameters of ``swapped-payload``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: SwappedPayload) -> None:
    """Store objects of one size by twos; let the blobs of two change places."""

    async def damage(urns: Sequence[str], store: int, opened: AsyncExitStack) -> None:
        waiting: dict[int, str] = {}
        for urn in urns:
            size = (await manifest_of(trial.world, urn)).payload_size
            key = await blob_key(trial.world, urn)
            if (other := waiting.pop(size, None)) is None:
                waiting[size] = key
                continue
            mixed_up = trial.world.stores[store]
            await opened.enter_async_context(swapped(mixed_up, key, other))

    await read_under_damage(trial, damage, alike=2)


CASE = Case(
    name="swapped-payload",
    edge_case="Two payloads of the same size lie in each other's places: each blob is genuine, and"
    " another object's.",
    fault="In one of two stores the blobs of two objects change places; then in both.",
    load="Clients that read while it is so, in clear and as sealed files.",
    passes_when="With one right copy each read is right, and the other one is noted; without any,"
    " reads fail, and nobody gets another object's content.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=SwappedPayload,
    bytes_min=bytes_of_bodies(2),
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
