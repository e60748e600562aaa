"""``truncated-blob``: payloads that end too soon, in one store and then in each."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

from crypto import LEAF_CHUNKS, SEALED_CHUNK_SIZE
from storage_gateway.chance import Chance
from storage_gateway.stress.contract import Case
from storage_gateway.stress.damage import each, read_under_damage
from storage_gateway.stress.parameters import Parameters, Sizes
from storage_gateway.stress.tampering import Change, blob_key, damaged
from storage_gateway.stress.trial import Trial


class TruncatedBlob(Parameters, kw_only=True, frozen=True):
    """Parameters of ``truncated-blob``."""

    sizes: Sizes = (4096, 1_500_000)


Cut = Callable[[int, Chance], int]
"""Says how many bytes are left of so many."""


def _to_a_chunk(size: int, chance: Chance) -> int:
    """Leave whole chunks, of which each is genuine: of the first leaf, where there are more."""
    fewer = min((size - 1) // SEALED_CHUNK_SIZE, LEAF_CHUNKS - 1)
    return SEALED_CHUNK_SIZE * (1 + chance.below(fewer)) if fewer else 0


CUTS: tuple[Cut, ...] = (
    _to_a_chunk,
    lambda _size, _chance: 0,
    lambda size, _chance: size - 1,
    lambda size, chance: chance.below(size),
)


async def run(trial: Trial, _parameters: TruncatedBlob) -> None:
    """Cut each object's blob, those of one size in each of the ways by turns."""
    turns: defaultdict[int, Iterator[Cut]] = defaultdict(lambda: itertools.cycle(CUTS))

    async def damage(urn: str, store: int, opened: AsyncExitStack) -> None:
        key = await blob_key(trial.world, urn)
        cut_in = trial.world.stores[store]
        size = (await cut_in.store.stat(key)).size
        left = next(turns[size])(size, trial.chance("cut", store, key))
        await opened.enter_async_context(damaged(cut_in, key, _cut_to(left)))

    await read_under_damage(trial, each(damage))


def _cut_to(size: int) -> Change:
    return lambda data: data[:size]


CASE = Case(
    name="truncated-blob",
    edge_case="A stored payload ends too soon: by a byte, between two chunks, or before its first"
    " byte.",
    fault="In one of two stores each object is cut short; then in both.",
    load="Clients that read while it is so.",
    passes_when="With one whole copy each read is right, and the cut one is noted; without any,"
    " reads fail, and what is left of an object is never taken for all of it.",
    invariants=(1, 2, 3, 4, 5, 7, 8),
    parameters=TruncatedBlob,
    expected_s=10.0,
    stores=2,
    quorum=2,
    run=run,
)
