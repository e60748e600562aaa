"""``flipped-bit``: a bit that turns over at rest, in one store and then in each."""

from contextlib import AsyncExitStack

from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import each, read_under_damage
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.tampering import blob_key, damaged, flipped
from storage_gateway.stress.trial import Trial


class FlippedBit(Parameters, kw_only=True, frozen=True):
    """Parameters of ``flipped-bit``."""

    sizes: Sizes = (4096, 1_500_000)


async def run(trial: Trial, _parameters: FlippedBit) -> None:
    """Turn a bit of each object over, at a place that is drawn: the same one in each store."""

    async def damage(urn: str, store: int, opened: AsyncExitStack) -> None:
        key = await blob_key(trial.world, urn)
        each = trial.world.stores[store]
        at = trial.chance("flip", key).below(1 << 30)
        await opened.enter_async_context(damaged(each, key, flipped(at)))

    await read_under_damage(trial, each(damage))


CASE = Case(
    name="flipped-bit",
    edge_case="A bit turns over in a stored payload.",
    fault="In one of two stores a bit of each object is another one; then in both.",
    load="Clients that read while it is so.",
    passes_when="With one right copy each read is right, and the bad one is noted; without any,"
    " reads fail and no wrong byte is taken for right.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=FlippedBit,
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
