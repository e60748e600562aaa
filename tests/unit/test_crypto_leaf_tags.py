"""Goal: a leaf that is not the stored one is told, at whatever byte it differs. Method: a known
answer that the algorithm's authors published, then tampering with each input.
"""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import LeafMismatch, LeafTagger, Secret, check_leaf, leaf_tag, new_tag_key

KEY = Secret(bytes(range(32)))


def test_the_known_answer() -> None:
    """GCM specification (McGrew and Viega), test case 13: AES-256, zero key, nothing to seal."""
    assert bytes.fromhex("530f8afbc74536b9a963b4f1c4cb738b") == leaf_tag(Secret(bytes(32)), 0, b"")


@given(st.binary(min_size=1, max_size=200), st.data())
def test_one_flipped_bit_is_told(leaf: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(leaf) * 8 - 1))
    changed = bytearray(leaf)
    changed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(LeafMismatch):
        check_leaf(KEY, 3, changed, leaf_tag(KEY, 3, leaf))


@given(st.binary(max_size=200))
def test_another_position_key_or_length_is_told(leaf: bytes) -> None:
    tag = leaf_tag(KEY, 3, leaf)

    check_leaf(KEY, 3, leaf, tag)
    for key, position, found in (
        (KEY, 4, leaf),
        (new_tag_key(os.urandom), 3, leaf),
        (KEY, 3, leaf + b"\0"),
    ):
        with pytest.raises(LeafMismatch):
            check_leaf(key, position, found, tag)


@given(st.lists(st.binary(max_size=100), max_size=6), st.integers(0, 7))
def test_a_leaf_in_parts_has_the_tag_of_the_whole(parts: list[bytes], position: int) -> None:
    tagger = LeafTagger(KEY, position)
    for part in parts:
        tagger.update(part)

    assert leaf_tag(KEY, position, b"".join(parts)) == tagger.finish()
