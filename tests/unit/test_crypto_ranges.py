"""Goal: any range of a plaintext comes out right, from its own chunks only, and never from a
payload that was cut short.
Method: slices of the plaintext as oracle; the arithmetic against lists of small numbers; a reader
that notes what was fetched.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    CHUNK_SIZE,
    LEAF_CHUNKS,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEALED_CHUNK_SIZE,
    SEGMENT_LEAVES,
    SEGMENT_SIZE,
    TAG_SIZE,
    Opener,
    PayloadError,
    RangeOpener,
    Sealer,
    Secret,
    chunk_count,
    chunk_offset,
    covering_chunks,
    leaf_of,
    leaf_offset,
    opened_size,
    sealed_size,
    segment_of,
    segment_offset,
)
from tests.unit.crypto_samples import flip, plaintext_of

KEY = Secret(bytes(range(32)))
SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 3 * CHUNK_SIZE + 5]
LARGE = LEAF_PLAINTEXT_SIZE + 2 * CHUNK_SIZE + 77
# Beyond 64 GiB, beyond 32 and 64 bits.
ANY_SIZE = st.one_of(st.integers(0, 1 << 20), st.integers(0, 1 << 70))
ANY_CHUNK = st.integers(0, 1 << 60)


def sealed(size: int) -> bytes:
    sealer = Sealer(KEY)
    return sealer.update(plaintext_of(size)) + sealer.finish()


PAYLOADS = {size: sealed(size) for size in [*SIZES, LARGE]}


class Store:
    """A payload, and the ranges of it that were asked for."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> bytes:
        self.asked.append((offset, size))
        return self.payload[offset : offset + size]

    def opener(self) -> RangeOpener:
        return RangeOpener(Opener(KEY), self.read, len(self.payload))


@given(size=ANY_SIZE)
def test_sealed_and_opened_sizes_are_inverse_for_all_sizes(size: int) -> None:
    payload_size = sealed_size(size)

    assert size == opened_size(payload_size)
    assert payload_size == size + TAG_SIZE * chunk_count(size)
    assert payload_size < sealed_size(size + 1)


@given(size=ANY_SIZE, step=st.integers(-20, 20))
def test_a_length_is_refused_exactly_where_no_plaintext_has_it(size: int, step: int) -> None:
    chunks = size // SEALED_CHUNK_SIZE
    length = chunks * SEALED_CHUNK_SIZE + step
    # Lengths between two chunks and a tag and a byte more cannot be: the payload was cut there.
    impossible = (0 < step <= TAG_SIZE and chunks > 0) or (chunks == 0 and step < TAG_SIZE)

    if impossible:
        with pytest.raises(PayloadError, match="cut short"):
            opened_size(length)
    else:
        assert length == sealed_size(opened_size(length))


@given(start=ANY_SIZE, size=st.integers(0, 300_000))
def test_covering_chunks_are_all_that_hold_a_byte_and_no_others(start: int, size: int) -> None:
    end = start + size
    chunks = covering_chunks(start, end)

    expected = [] if size == 0 else [start // CHUNK_SIZE, (end - 1) // CHUNK_SIZE]
    assert expected == ([chunks[0], chunks[-1]] if chunks else [])


@pytest.mark.parametrize(("start", "end"), [(-1, 0), (1, 0), (-2, -1)])
def test_ranges_that_are_none_are_refused(start: int, end: int) -> None:
    with pytest.raises(PayloadError, match="no plaintext range"):
        covering_chunks(start, end)


@given(chunk=ANY_CHUNK)
def test_chunks_leaves_and_segments_share_borders(chunk: int) -> None:
    leaf, segment = leaf_of(chunk), segment_of(chunk)

    assert leaf_offset(leaf) <= chunk_offset(chunk)
    assert chunk_offset(chunk + 1) <= leaf_offset(leaf + 1)
    assert segment_offset(segment) <= leaf_offset(leaf)
    assert leaf_offset(leaf + 1) <= segment_offset(segment + 1)
    assert (leaf, segment) == (chunk // 15, chunk // 120)
    assert chunk_offset(chunk) == chunk * 65_552


def test_the_borders_themselves() -> None:
    chunks = SEGMENT_LEAVES * LEAF_CHUNKS

    assert [0, 0, 1, 1] == [leaf_of(chunk) for chunk in (0, 14, 15, 29)]
    assert [0, 0, 1] == [segment_of(chunk) for chunk in (0, chunks - 1, chunks)]
    assert LEAF_SIZE == leaf_offset(1) == chunk_offset(LEAF_CHUNKS)
    assert SEGMENT_SIZE == segment_offset(1) == leaf_offset(SEGMENT_LEAVES)


@given(data=st.data())
def test_any_range_is_the_slice(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(list(PAYLOADS)))
    near = [n for n in (*SIZES, LEAF_PLAINTEXT_SIZE, LARGE) if n <= size]
    place = st.one_of(st.sampled_from(near), st.integers(0, size))
    start, end = sorted((data.draw(place), data.draw(place)))
    store = Store(PAYLOADS[size])
    opener = store.opener()
    before = len(store.asked)
    opened = opener.open_range(start, end)

    assert plaintext_of(size)[start:end] == opened
    assert size == opener.size
    covering = covering_chunks(start, end)
    last = chunk_count(size) - 1
    fetched = sorted(
        chunk
        for offset, length in store.asked[before:]
        for chunk in range(offset // SEALED_CHUNK_SIZE, -(-(offset + length) // SEALED_CHUNK_SIZE))
    )
    # The last chunk was fetched at first, and never is again.
    assert [chunk for chunk in covering if chunk != last] == fetched
    assert all(length <= LEAF_SIZE for _, length in store.asked)


def test_the_last_chunk_is_verified_first() -> None:
    store = Store(PAYLOADS[LARGE])
    store.opener()

    offset = chunk_offset(chunk_count(LARGE) - 1)
    assert [(offset, len(store.payload) - offset)] == store.asked


@pytest.mark.parametrize("size", SIZES)
def test_the_end_of_the_plaintext_is_the_end(size: int) -> None:
    opener = Store(PAYLOADS[size]).opener()

    assert b"" == opener.open_range(size, size)
    for start, end in ((0, size + 1), (size + 1, size + 1), (-1, size), (size, size - 1)):
        with pytest.raises(PayloadError):
            opener.open_range(start, end)


@given(data=st.data())
def test_a_payload_cut_short_or_extended_opens_no_range(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(SIZES))
    payload = PAYLOADS[size]
    borders = [n for n in range(0, len(payload), SEALED_CHUNK_SIZE) if n < len(payload)]
    cut = data.draw(st.one_of(st.sampled_from(borders), st.integers(0, len(payload) - 1)))
    more = data.draw(st.binary(min_size=1, max_size=40))

    for changed in (payload[:cut], payload + more, payload + payload[:SEALED_CHUNK_SIZE]):
        with pytest.raises(PayloadError):
            Store(changed).opener()


@given(data=st.data())
def test_a_flipped_bit_spoils_ranges_over_its_chunk_only(data: st.DataObject) -> None:
    payload = PAYLOADS[3 * CHUNK_SIZE + 5]
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    chunk = bit // 8 // SEALED_CHUNK_SIZE
    store = Store(flip(payload, bit))

    if chunk == 3:
        with pytest.raises(PayloadError, match="chunk 3 "):
            store.opener()
        return
    opener = store.opener()
    for other in range(3):
        if other != chunk:
            start = other * CHUNK_SIZE
            expected = plaintext_of(opener.size)[start : start + CHUNK_SIZE]
            assert expected == opener.open_range(start, start + CHUNK_SIZE)
    with pytest.raises(PayloadError) as caught:
        opener.open_range(0, opener.size)
    assert chunk == caught.value.chunk


@pytest.mark.parametrize("wrong", [-1, 1, None])
def test_a_reader_that_gives_another_number_of_bytes_is_caught(wrong: int | None) -> None:
    payload = PAYLOADS[CHUNK_SIZE + 1]

    def read(offset: int, size: int) -> bytes:
        if offset:
            return payload[offset : offset + size]
        return b"" if wrong is None else (payload + payload)[: size + wrong]

    opener = RangeOpener(Opener(KEY), read, len(payload))
    with pytest.raises(PayloadError, match="were asked for") as caught:
        opener.open_range(0, 1)
    assert 0 == caught.value.chunk


def test_what_the_reader_raises_comes_through() -> None:
    def read(offset: int, size: int) -> bytes:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        RangeOpener(Opener(KEY), read, 17)
