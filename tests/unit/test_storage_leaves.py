"""Goal: whatever pieces a body comes in, and however short memory is, the leaves are its bytes, cut
at the leaf size, and no more is held than was promised.

Method: Hypothesis over bodies and cuts with small leaves; borders by table; a budget of nothing but
the floor; tiny pieces, measured with `tracemalloc`.
"""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_gateway.leaves import PIECE_BYTES_MAX, Measure, Part, cut_leaves, floor_of
from storage_gateway.memory import Account, Budget

ENOUGH = 1 << 30
CHUNK = 64 << 10
LEAF = 15 * CHUNK


async def _pieces(pieces: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def _cut(pieces: Sequence[bytes], leaf_size: int) -> list[Part]:
    async with Budget(ENOUGH, wait_s=1).admit(0) as memory:
        return [part async for part in cut_leaves(_pieces(pieces), Measure(leaf_size, 1), memory)]


def cut(pieces: Sequence[bytes], leaf_size: int) -> list[Part]:
    return asyncio.run(_cut(pieces, leaf_size))


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 16))
def test_leaves_are_the_body_cut_at_the_leaf_size(pieces: list[bytes], leaf_size: int) -> None:
    leaves = cut(pieces, leaf_size)

    assert b"".join(pieces) == b"".join(leaf.data for leaf in leaves)
    assert list(range(len(leaves))) == [leaf.leaf for leaf in leaves]
    assert [False] * (len(leaves) - 1) + [True] == [leaf.last for leaf in leaves]
    assert all(leaf.ends_leaf and leaf.offset == 0 for leaf in leaves)
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

    async with Budget(ENOUGH, wait_s=1).admit(0) as memory:
        leaves = cut_leaves(endless(), Measure(4, 1), memory)
        first = await anext(leaves)
        await leaves.aclose()

    assert b"xxxx" == first.data
    assert 5 == read


@given(
    size=st.integers(0, 3 * LEAF),
    piece_size=st.integers(1000, PIECE_BYTES_MAX),
    known=st.booleans(),
)
def test_without_memory_to_spare_a_leaf_comes_in_whole_chunks(
    size: int, piece_size: int, known: bool
) -> None:
    """Whoever takes the parts is as slow as can be: one is placed when nothing else goes on."""
    body = bytes(size)
    floor = floor_of(size if known else None, CHUNK)
    held_max = 0

    async def pieces(memory: Account) -> AsyncGenerator[bytes]:
        nonlocal held_max
        for start in range(0, size, piece_size):
            held_max = max(held_max, memory.held)
            yield body[start : start + piece_size]

    async def run() -> list[Part]:
        parts: list[Part] = []
        unplaced: list[int] = []
        async with Budget(floor, wait_s=1).admit(floor) as memory:
            cutting = cut_leaves(
                pieces(memory), Measure(LEAF, CHUNK), memory, size=size if known else None
            )
            while True:
                step = asyncio.ensure_future(anext(cutting, None))
                while not step.done():
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    if not step.done():
                        memory.give(unplaced.pop(0))
                part = await step
                if part is None:
                    return parts
                parts.append(part)
                unplaced.append(len(part.data))

    parts = asyncio.run(run())

    assert body == b"".join(part.data for part in parts)
    assert held_max <= floor
    assert [False] * (len(parts) - 1) + [True] == [part.last for part in parts]
    place = (0, 0)
    for part in parts:
        assert place == (part.leaf, part.offset)
        assert part.last or (part.data and len(part.data) % CHUNK == 0)
        end = part.offset + len(part.data)
        assert part.ends_leaf == (end == LEAF or part.last)
        assert end <= LEAF
        place = (part.leaf + 1, 0) if part.ends_leaf else (part.leaf, end)


async def test_a_body_in_tiny_pieces_costs_little_more_than_its_bytes() -> None:
    async def tiny() -> AsyncGenerator[bytes]:
        for _ in range(LEAF // 2):
            # Not a literal: each is an object of its own, as what comes from a socket is.
            yield bytes(bytearray(b"xy"))
        reached.set()
        await asyncio.Event().wait()

    reached = asyncio.Event()
    async with Budget(ENOUGH, wait_s=1).admit(0) as memory:
        tracemalloc.start()
        try:
            leaf = asyncio.ensure_future(anext(cut_leaves(tiny(), Measure(LEAF, CHUNK), memory)))
            await reached.wait()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        leaf.cancel()
        await asyncio.gather(leaf, return_exceptions=True)

    assert LEAF <= held <= LEAF + LEAF // 4
