"""Goal: a large result is written where it stays, and is ordinary bytes.
Method: the allocator's own peak is compared with the size of the result.
"""

from __future__ import annotations

import tracemalloc

import pytest

from crypto.memory import fill_bytes


@pytest.mark.parametrize("size", [0, 1, 65_552, 1 << 20, (32 << 20) + 4097])
def test_the_bytes_are_those_that_were_written(size: int) -> None:
    def fill(out: memoryview) -> None:
        assert size == len(out)
        out[:1], out[-1:] = b"a", b"z"

    data = fill_bytes(size, fill)

    assert bytes is type(data)
    assert size == len(data)
    assert {0: b"", 1: b"zz"}.get(size, b"az") == data[:1] + data[-1:]


@pytest.mark.parametrize("size", [1 << 20, 33 << 20])
def test_there_is_no_second_copy(size: int) -> None:
    tracemalloc.start()
    try:
        data = fill_bytes(size, lambda out: out.nbytes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == len(data)
    assert size <= peak < size + 100_000


def test_an_error_while_filling_goes_through() -> None:
    def fill(_: memoryview) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fill_bytes(33 << 20, fill)
