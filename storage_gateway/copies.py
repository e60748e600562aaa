"""A copy of a segment in one store, leaf by leaf: what passes read and compare."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from crypto import LEAF_SIZE

from .backends import KeyedStore, Range
from .errors import BlobCorrupt
from .records import Segment


def leaf_ranges(key: str, segment: Segment) -> Sequence[Range]:
    """Return where the leaves of a segment are that is stored under a key."""
    return [
        Range(key, at * LEAF_SIZE, min(LEAF_SIZE, segment.size - at * LEAF_SIZE), digest)
        for at, digest in enumerate(segment.leaf_digests)
    ]


async def read_leaf(store: KeyedStore, wanted: Range, threads: Executor) -> bytes:
    """Return a leaf that has its digest.

    Raises:
        BlobMissing, BlobCorrupt, BackendUnavailable: as the contract of stores has it.

    """
    (leaf,) = await store.fetch([wanted], partial(_check, wanted), threads)
    return leaf


async def check_copy(
    store: KeyedStore,
    key: str,
    segment: Segment,
    threads: Executor,
    on_leaf: Callable[[int], Awaitable[None]] | None = None,
) -> None:
    """Read all of a copy; ``on_leaf`` is told of the size of each leaf that is right.

    Raises:
        BlobMissing, BlobCorrupt: it is not there, is not kept, or is not right.
        BackendUnavailable

    """
    # What a node can still read need not be what it keeps.
    if (await store.stat(key)).size != segment.size:
        raise BlobCorrupt(f"{key} in store {store.name} has another size")
    for wanted in leaf_ranges(key, segment):
        await read_leaf(store, wanted, threads)
        if on_leaf is not None:
            await on_leaf(wanted.size)


def _check(wanted: Range, _at: int, leaf: bytes) -> bytes:
    if hashlib.sha256(leaf).digest() != wanted.digest:
        raise BlobCorrupt(f"the leaf at byte {wanted.offset} of {wanted.key} is another")
    return leaf
