"""Goal: a Rust implementation answers the CIDs that we do, past the sizes where 32 bits end.

Method: aleph-cid has one profile (leaves of 262,144 bytes, 174 links, raw leaves, CIDv1), which our
builder is set to; content is fed to it in pieces of random sizes.
"""

from collections.abc import Iterator
from hashlib import sha256
from itertools import repeat
from random import Random

import aleph_cid
import pytest

from tests.unit.urn_samples import content
from urn import DAGBuilder, cid_of

LEAF_SIZE = 262_144
FULL = 174 * LEAF_SIZE


def pieces(data: bytes, random: Random) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = start + random.choice([1, 1000, LEAF_SIZE, random.randint(1, 5_000_000)])
        yield data[start:end]
        start = end


def theirs(parts: Iterator[bytes]) -> str:
    hasher = aleph_cid.CidHasher.for_ipfs_v1_raw_leaves()
    for part in parts:
        hasher.update(part)
    answer: str = hasher.finalize()
    return answer


@pytest.mark.parametrize(
    "size",
    [border + step for border in (1, LEAF_SIZE, 2 * LEAF_SIZE, FULL) for step in (-1, 0, 1)]
    + [FULL + LEAF_SIZE + 1, 2 * FULL + 1],
)
def test_at_every_border_both_agree(size: int, seed: int) -> None:
    data = b"".join(content(size))

    assert theirs(pieces(data, Random(seed))) == str(cid_of(data, leaf_size=LEAF_SIZE))


def test_at_random_sizes_both_agree(seed: int, nightly: bool) -> None:
    random = Random(seed)
    for _ in range(100 if nightly else 10):
        data = random.randbytes(random.randrange(4_000_000))

        assert theirs(pieces(data, random)) == str(cid_of(data, leaf_size=LEAF_SIZE))


def zeros_agree(size: int) -> bool:
    leaf_count, rest = divmod(size, LEAF_SIZE)
    builder = DAGBuilder(leaf_size=LEAF_SIZE)
    for digest in repeat(sha256(bytes(LEAF_SIZE)).digest(), leaf_count):
        builder.add_leaf(digest, LEAF_SIZE)
    if rest:
        builder.add_leaf(sha256(bytes(rest)).digest(), rest)
    block = bytes(256 * LEAF_SIZE)
    block_count, rest = divmod(size, len(block))
    parts = (*repeat(block, block_count), block[:rest])
    return str(builder.finish()) == theirs(iter(parts))


def test_past_31_bits_both_agree() -> None:
    # One implementation is known to be wrong from here to 2 ** 32 - 1: test_cid_npm.py.
    assert zeros_agree(2**31 + 5)


@pytest.mark.nightly
@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1])
def test_at_the_ends_of_31_and_32_bits_both_agree(size: int) -> None:
    assert zeros_agree(size)
