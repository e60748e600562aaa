"""Goal: the same CIDs as real IPFS implementations answer, in one spelling, in bounded memory.

Method: known answers made with ipfs-unixfs-importer (tests/vectors/README.md), the multiformats
package as a living oracle, tables of faults, and Hypothesis. More oracles: tests/interop.
"""

import base64
import pickle
import tracemalloc
from hashlib import sha256
from itertools import islice
from typing import Any, Final

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.urn_samples import CID_VECTORS, imagined_leaves, leaves
from urn import (
    CID,
    LEAF_SIZE,
    LINKS_MAX,
    CIDError,
    Codec,
    DAGBuilder,
    LeafError,
    cid_of,
    cid_of_leaves,
)

EMPTY: Final = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

cids = st.builds(CID, st.sampled_from(Codec), st.binary(min_size=32, max_size=32))


@pytest.mark.parametrize(
    "vector", CID_VECTORS["files"], ids=lambda v: f"{v['leaf_size']}-{v['links_max']}-{v['size']}"
)
def test_a_file_has_the_cid_that_the_importer_gives_it(vector: dict[str, Any]) -> None:
    leaf_size, links_max = vector["leaf_size"], vector["links_max"]

    cid = cid_of_leaves(leaves(vector["size"], leaf_size), leaf_size=leaf_size, links_max=links_max)

    assert vector["cid"] == str(cid)


@pytest.mark.parametrize(
    "vector", CID_VECTORS["trees"], ids=lambda v: f"{v['leaf_count']}-{v['last_size']}"
)
def test_a_tree_over_given_leaves_has_the_cid_that_the_importer_gives_it(
    vector: dict[str, Any],
) -> None:
    cid = cid_of_leaves(imagined_leaves(vector["leaf_count"], vector["last_size"]))

    assert vector["cid"] == str(cid)


def test_the_vectors_cover_every_border() -> None:
    files = [(v["leaf_size"], v["links_max"], v["size"]) for v in CID_VECTORS["files"]]
    full = LINKS_MAX * LEAF_SIZE
    borders = {0, 1, LEAF_SIZE - 1, LEAF_SIZE, LEAF_SIZE + 1, 2 * LEAF_SIZE, full, full + 1}

    assert borders <= {size for leaf, links, size in files if (leaf, links) == (983_280, 174)}
    # Three levels of nodes above the leaves.
    assert any(size > leaf * links**2 for leaf, links, size in files)


@given(st.binary(max_size=200), st.integers(1, 20), st.integers(2, 5))
def test_content_and_its_leaves_give_the_same_cid(
    data: bytes, leaf_size: int, links_max: int
) -> None:
    pieces = [data[start : start + leaf_size] for start in range(0, len(data), leaf_size)]
    builder = DAGBuilder(leaf_size=leaf_size, links_max=links_max)
    for piece in pieces:
        builder.add_leaf(sha256(piece).digest(), len(piece))

    assert builder.finish() == cid_of(data, leaf_size=leaf_size, links_max=links_max)


def test_up_to_one_leaf_the_cid_is_that_of_the_bytes() -> None:
    assert CID(Codec.RAW, sha256(b"").digest()) == cid_of(b"") == CID.parse(EMPTY)
    assert CID(Codec.RAW, sha256(b"x" * LEAF_SIZE).digest()) == cid_of(b"x" * LEAF_SIZE)
    assert Codec.DAG_PB is cid_of(b"x" * (LEAF_SIZE + 1)).codec


def test_an_empty_file_may_have_no_leaf_or_an_empty_one() -> None:
    assert EMPTY == str(cid_of_leaves([])) == str(cid_of_leaves([(sha256().digest(), 0)]))


def test_finishing_twice_gives_the_same_cid_again() -> None:
    for count in (0, 1, 2, 3, 4, 9, 10):
        builder = DAGBuilder(leaf_size=1, links_max=3)
        for digest, _ in imagined_leaves(count, LEAF_SIZE):
            builder.add_leaf(digest, 1)

        assert builder.finish() == builder.finish()


@pytest.mark.parametrize("sizes", [[8, 0], [7, 8], [7, 1], [0, 8], [0, 0], [9], [-1], [8, 9]])
def test_leaves_that_no_chunker_makes_are_refused(sizes: list[int]) -> None:
    builder = DAGBuilder(leaf_size=8)
    for size in sizes[:-1]:
        builder.add_leaf(bytes(32), size)

    with pytest.raises(LeafError):
        builder.add_leaf(bytes(32), sizes[-1])


def test_a_finished_tree_takes_no_more_leaves() -> None:
    for count in (0, 1, 2):
        builder = DAGBuilder(leaf_size=8)
        for _ in range(count):
            builder.add_leaf(bytes(32), 8)
        builder.finish()

        with pytest.raises(LeafError):
            builder.add_leaf(bytes(32), 8)


def test_a_refused_leaf_leaves_the_tree_as_it_was() -> None:
    builder = DAGBuilder(leaf_size=8)
    builder.add_leaf(bytes(32), 8)
    with pytest.raises(CIDError):
        builder.add_leaf(bytes(31), 7)
    with pytest.raises(LeafError):
        builder.add_leaf(bytes(32), 9)
    builder.add_leaf(bytes(32), 7)

    assert cid_of_leaves([(bytes(32), 8), (bytes(32), 7)], leaf_size=8) == builder.finish()


@pytest.mark.parametrize(("leaf_size", "links_max"), [(0, 174), (-1, 174), (1, 1), (1, 0)])
def test_limits_that_make_no_tree_are_refused(leaf_size: int, links_max: int) -> None:
    with pytest.raises(ValueError, match="expected leaf_size >= 1 and links_max >= 2"):
        DAGBuilder(leaf_size=leaf_size, links_max=links_max)


def test_memory_does_not_grow_with_the_number_of_leaves() -> None:
    builder = DAGBuilder()
    digests = [digest for digest, _ in imagined_leaves(200, LEAF_SIZE)]
    tracemalloc.start()
    try:
        for index in range(40_000):  # a tree of three levels; all its links would be 10 MB
            builder.add_leaf(digests[index % len(digests)], LEAF_SIZE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 500_000


@given(cids)
def test_the_encoding_is_that_of_multiformats(cid: CID) -> None:
    codec = {Codec.RAW: "raw", Codec.DAG_PB: "dag-pb"}[cid.codec]
    oracle = multiformats.CID("base32", 1, codec, ("sha2-256", cid.digest))

    assert (str(oracle), bytes(oracle)) == (str(cid), cid.bytes)
    assert cid == CID.parse(str(oracle))
    assert cid == CID.from_bytes(bytes(oracle))


def spelled(binary: bytes) -> str:
    return "b" + base64.b32encode(binary).decode("ascii").rstrip("=").lower()


DIGEST: Final = sha256().digest()
RAW: Final = b"\x01\x55\x12\x20" + DIGEST


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "expected 'b'"),
        ("QmYTGqtPF9NzjsPrFcM3TCQbRVjyPwMUUUZiqZwdZHkYn9", 0, "expected 'b'"),  # CIDv0
        (EMPTY.upper(), 0, "expected 'b'"),
        (" " + EMPTY, 0, "expected 'b'"),
        ("z" + EMPTY[1:], 0, "expected 'b'"),
        ("b" + EMPTY[1:].upper(), 1, "found 'A'"),
        (EMPTY + "=", 59, "expected 59 characters, there are 60"),
        (EMPTY + "\n", 59, "expected 59 characters, there are 60"),
        (EMPTY + "a1", 59, "expected 59 characters, there are 61"),
        (EMPTY[:-1] + "=", 58, "found '='"),
        ("b" + "\ud800" * 58, 1, r"found '\ud800'"),
        ("b" * 1_000_000, 59, "expected 59 characters, there are 1000000"),
        (EMPTY[:9] + "1" + EMPTY[10:], 9, "found '1'"),
        ("b", 1, "expected 59 characters, there are 1"),
        (EMPTY[:-1], 58, "expected 59 characters, there are 58"),
        (EMPTY + "a", 59, "expected 59 characters, there are 60"),
        (EMPTY[:-1] + "v", 58, "the unused last two bits"),
        (spelled(b"\x02" + RAW[1:]), 1, "expected CID version 1, found 2"),
        (spelled(b"\x01\x71" + RAW[2:]), 2, "found 0x71"),
        (spelled(b"\x01\x55\x13\x20" + DIGEST), 4, "found 1320"),
        (spelled(b"\x01\x55\x12\x40" + DIGEST), 5, "found 1240"),
    ],
)
def test_text_in_any_other_form_is_refused(text: str, position: int, reason: str) -> None:
    with pytest.raises(CIDError) as caught:
        CID.parse(text)

    assert position == caught.value.position
    assert reason in caught.value.reason
    assert f"at position {position}: " in str(caught.value)


@given(cids, st.integers(0, 58), st.characters(max_codepoint=0x2FF))
def test_a_cid_has_one_spelling(cid: CID, index: int, character: str) -> None:
    text = str(cid)
    changed = text[:index] + character + text[index + 1 :]
    try:
        parsed = CID.parse(changed)
    except CIDError as error:
        assert 0 <= error.position <= len(changed)
    else:
        assert changed == str(parsed)
        assert (changed == text) is (parsed == cid)


@given(st.binary(max_size=40) | st.binary(min_size=32, max_size=33).map(RAW[:4].__add__))
def test_bytes_of_any_kind_are_read_or_refused(binary: bytes) -> None:
    try:
        assert binary == CID.from_bytes(binary).bytes
    except CIDError as error:
        assert 0 <= error.position <= len(binary)


@pytest.mark.parametrize(("size", "position"), [(0, 0), (1, 1), (35, 35), (37, 36)])
def test_bytes_of_another_length_are_refused(size: int, position: int) -> None:
    with pytest.raises(CIDError, match=f"expected 36 bytes, there are {size}") as caught:
        CID.from_bytes(bytes(islice(RAW * 2, size)))

    assert position == caught.value.position


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(CIDError, match=f"32 bytes, got {size}"):
        CID(Codec.RAW, bytes(size))


@pytest.mark.parametrize("codec", [0, 0x71, 0x129, -1])
def test_a_codec_that_could_not_be_read_again_is_refused(codec: int) -> None:
    with pytest.raises(CIDError, match="expected codec raw or dag-pb"):
        CID(codec, DIGEST)  # type: ignore[arg-type]  # what a caller without types may do


def test_a_codec_given_as_a_number_becomes_one() -> None:
    cid = CID(0x70, DIGEST)  # type: ignore[arg-type]  # what a caller without types may do

    assert cid.codec is Codec.DAG_PB
    assert "Codec.DAG_PB" in repr(cid)
    assert CID.parse(str(cid)) == cid


def test_a_digest_is_kept_as_bytes() -> None:
    mutable = bytearray(DIGEST)
    for buffer in (mutable, memoryview(mutable)):
        cid = CID(Codec.RAW, buffer)  # type: ignore[arg-type]  # any buffer will do
        mutable[0] ^= 1

        assert CID(Codec.RAW, DIGEST) == cid
        assert hash(cid) == hash(CID(Codec.RAW, DIGEST))
        mutable[0] ^= 1


@pytest.mark.parametrize("digest", ["d" * 32, [0] * 32, 32])
def test_a_digest_that_is_no_buffer_is_refused(digest: object) -> None:
    with pytest.raises(TypeError):
        CID(Codec.RAW, digest)  # type: ignore[arg-type]


def test_an_error_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(CIDError("reason", 7)))  # noqa: S301 - made here

    assert ("reason", 7) == (copy.reason, copy.position)
