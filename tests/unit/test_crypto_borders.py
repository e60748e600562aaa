"""Goal: nothing amiss at the borders of chunks, leaves and segments goes unnoticed.
Method: payloads that end one byte before, at and after each border; damage of every kind laid at a
border, and the payload opened in order, by leaves, and as a range.
"""

from __future__ import annotations

import functools
import hashlib

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
    Sealer,
    Secret,
    opened_size,
    sealed_size,
)
from tests.unit.crypto_samples import flip, plaintext_of

KEY = Secret(hashlib.sha256(b"borders").digest())
SEGMENT_PLAINTEXT_SIZE = SEGMENT_LEAVES * LEAF_PLAINTEXT_SIZE
SIZES = [
    border + step
    for border in (CHUNK_SIZE, LEAF_PLAINTEXT_SIZE, SEGMENT_PLAINTEXT_SIZE)
    for step in (-1, 0, 1)
]
BORDERS = (SEALED_CHUNK_SIZE, LEAF_SIZE, SEGMENT_SIZE)


@functools.cache
def payload_of(size: int) -> bytes:
    """Seal in one run; the run-wise sealer is compared with the specification elsewhere."""
    run = Sealer(KEY).claim(size, last=True)
    out = bytearray(run.sealed_size)
    run.seal_into(plaintext_of(size), out)
    return bytes(out)


def open_by_leaves(payload: bytes) -> bytes:
    """Open leaf by leaf, the last one first: what is cut off or added is seen there."""
    opener = Opener(KEY)
    plaintext = bytearray(opened_size(len(payload)))
    for leaf in reversed(range(-(-len(payload) // LEAF_SIZE))):
        piece = memoryview(payload)[leaf * LEAF_SIZE : (leaf + 1) * LEAF_SIZE]
        room = memoryview(plaintext)[leaf * LEAF_PLAINTEXT_SIZE :]
        last = (leaf + 1) * LEAF_SIZE >= len(payload)
        opener.open_run_into(leaf * LEAF_CHUNKS, piece, room, last=last)
    return bytes(plaintext)


def open_in_order(payload: bytes) -> bytes:
    opener = Opener(KEY)
    return opener.update(payload) + opener.finish()


@pytest.mark.parametrize("size", SIZES)
def test_a_payload_that_ends_at_a_border_opens_either_way(size: int) -> None:
    payload = payload_of(size)
    sealer = Sealer(KEY)
    pushed = sealer.update(plaintext_of(size)) + sealer.finish()

    assert sealed_size(size) == len(payload)
    assert payload == pushed
    assert plaintext_of(size) == open_by_leaves(payload)
    assert plaintext_of(size) == open_in_order(payload)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a payload with something amiss within a byte or a chunk of a border."""
    payload = payload_of(draw(st.sampled_from(SIZES)))
    ends = [border for border in BORDERS if border <= len(payload)]
    border = draw(st.sampled_from([*ends, len(payload)]))
    at = min(max(border + draw(st.integers(-1, 1)), 0), len(payload) - 1)
    kind = draw(st.sampled_from(["flip", "truncate", "extend", "insert", "swap"]))
    if kind == "flip":
        return flip(payload, 8 * at + draw(st.integers(0, 7)))
    if kind == "truncate":
        return payload[:at]
    if kind == "extend":
        return payload + payload[: draw(st.sampled_from([1, TAG_SIZE, SEALED_CHUNK_SIZE]))]
    if kind == "insert":
        return payload[:at] + b"\0" + payload[at:]
    first = (at // SEALED_CHUNK_SIZE) * SEALED_CHUNK_SIZE
    before = max(0, first - SEALED_CHUNK_SIZE)
    return payload[:before] + payload[first:] + payload[before:first] if first else payload + b"\0"


@given(damaged())
def test_damage_at_a_border_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        open_by_leaves(payload)
    with pytest.raises(PayloadError):
        open_in_order(payload)


def test_a_chunk_moved_across_a_segment_border_is_refused() -> None:
    payload = payload_of(SEGMENT_PLAINTEXT_SIZE + CHUNK_SIZE)
    end = SEGMENT_SIZE - SEALED_CHUNK_SIZE
    moved = payload[:end] + payload[SEGMENT_SIZE:] + payload[end:SEGMENT_SIZE]

    assert len(payload) == len(moved)
    with pytest.raises(PayloadError):
        open_by_leaves(moved)
