"""Goal: whatever pieces a body comes in, the leaves are its bytes, cut at the leaf size.

Method: Hypothesis over bodies and cuts with small leaves; borders by table.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.leaves import Leaf, cut_leaves


async def _pieces(pieces: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def _cut(pieces: Sequence[bytes], leaf_size: int) -> list[Leaf]:
    return [leaf async for leaf in cut_leaves(_pieces(pieces), leaf_size)]


def cut(pieces: Sequence[bytes], leaf_size: int) -> list[Leaf]:
    return asyncio.run(_cut(pieces, leaf_size))


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 16))
def test_leaves_are_the_body_cut_at_the_leaf_size(pieces: list[bytes], leaf_size: int) -> None:
    leaves = cut(pieces, leaf_size)

    assert b"".join(pieces) == b"".join(leaf.data for leaf in leaves)
    assert list(range(len(leaves))) == [leaf.index for leaf in leaves]
    assert [False] * (len(leaves) - 1) + [True] == [leaf.last for leaf in leaves]
    assert all(leaf_size == len(leaf.data) for leaf in leaves[:-1])
    assert leaf_size >= len(leaves[-1].data)
    assert len(leaves) == 1 or leaves[-1].data


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], [0]),
        ([0], [0]),
        ([0, 0], [0]),
        ([3], [3]),
        ([4], [4]),
        ([5], [4, 1]),
        ([8], [4, 4]),
        ([4, 0], [4]),
        ([4, 4], [4, 4]),
        ([3, 1, 1], [4, 1]),
        ([9], [4, 4, 1]),
    ],
)
def test_borders_with_leaves_of_four(sizes: list[int], expected: list[int]) -> None:
    assert expected == [len(leaf.data) for leaf in cut([b"x" * size for size in sizes], 4)]


async def test_a_leaf_goes_out_before_more_than_a_piece_beyond_it_is_read() -> None:
    read = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x"

    leaves = cut_leaves(endless(), 4)
    first = await anext(leaves)
    await leaves.aclose()

    assert b"xxxx" == first.data
    assert 5 == read
