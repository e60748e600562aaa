"""Goal: an archive that is read was written right, to the last bit, and each block is verified.

Method: an archive byte by byte, tables of faults, and Hypothesis: what is written is read again in
any pieces, and no flip, cut or extension gets through. Other implementations: tests/interop.
"""

import pickle
import tracemalloc
from collections.abc import Iterable
from hashlib import sha256
from itertools import count, pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urn import (
    CAR_BLOCK_MAX,
    CAR_HEADER_MAX,
    CID,
    CARError,
    CARForeignCID,
    CARReader,
    CARTruncated,
    CARWrongBlock,
    Codec,
    car_header,
    car_section,
    car_size,
)

Block = tuple[CID, bytes]


def block(content: bytes, codec: Codec = Codec.RAW) -> Block:
    return CID(codec, sha256(content).digest()), content


blocks = st.lists(st.builds(block, st.binary(max_size=300), st.sampled_from(Codec)), min_size=1)
roots = st.lists(
    st.builds(CID, st.sampled_from(Codec), st.binary(min_size=32, max_size=32)),
    min_size=1,
    max_size=30,
)

LEAF: Final = block(b"leaf")
ROOT: Final = b"\xd8\x2a\x58\x25\x00" + LEAF[0].bytes
HEADER: Final = b"\xa2\x65roots\x81" + ROOT + b"\x67version\x01"
SECTION: Final = bytes([40]) + LEAF[0].bytes + b"leaf"
CAR: Final = bytes([len(HEADER)]) + HEADER + SECTION


def write(named: Iterable[CID], held: Iterable[Block]) -> bytes:
    sections = (car_section(cid, len(data)) + data for cid, data in held)
    return car_header(list(named)) + b"".join(sections)


def read(*pieces: bytes, header_max: int = CAR_HEADER_MAX, block_max: int = 400) -> list[Block]:
    reader = CARReader(header_max=header_max, block_max=block_max)
    found = [it for piece in pieces for it in reader.feed(piece)]
    reader.finish()
    return found


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(it % (len(data) + 1) for it in at), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


def test_an_archive_byte_by_byte() -> None:
    assert CAR == write([LEAF[0]], [LEAF])
    assert [LEAF] == read(CAR)


@given(roots, blocks, st.lists(st.integers(min_value=0)))
def test_what_is_written_is_read_in_any_pieces(
    named: list[CID], held: list[Block], at: list[int]
) -> None:
    car = write(named, held)
    reader = CARReader()
    found = [it for piece in cut(car, at) for it in reader.feed(piece)]
    reader.finish()

    assert (held, tuple(named)) == (found, reader.roots)
    assert len(car) == car_size((len(data) for _, data in held), roots=len(named))


def test_bytes_one_by_one_and_any_buffer_will_do() -> None:
    reader = CARReader()
    found = [it for byte in CAR for it in reader.feed(bytearray([byte]))]
    reader.finish()
    assert [LEAF] == found

    reader, whole = CARReader(), bytearray(CAR)
    found = list(reader.feed(whole))
    whole.clear()  # which a bytearray refuses while a reader holds on to it
    reader.finish()
    assert [LEAF] == found
    assert bytes is type(found[0][1])


def outcome(pieces: Iterable[bytes]) -> tuple[list[Block], str, int, str]:
    found: list[Block] = []
    reader = CARReader(block_max=400)
    try:
        for piece in pieces:
            found.extend(reader.feed(piece))
        reader.finish()
    except CARError as error:
        return found, type(error).__name__, error.position, error.reason
    return found, "", 0, ""


@given(blocks, st.integers(min_value=0), st.integers(0, 7), st.lists(st.integers(min_value=0)))
def test_no_flip_gets_through(held: list[Block], place: int, bit: int, at: list[int]) -> None:
    car = bytearray(write([held[0][0]], held))
    place %= len(car)
    car[place] ^= 1 << bit
    found, error, position, _ = whole = outcome([bytes(car)])

    assert whole == outcome(cut(bytes(car), at))
    if not error:
        # What a root names cannot be checked here; all else of a header can.
        digest = CAR.index(LEAF[0].digest)
        assert digest <= place < digest + 32
        assert found == held
    else:
        assert found == held[: len(found)]
        assert 0 <= position <= len(car)


@given(blocks, st.integers(min_value=0))
def test_a_cut_archive_is_read_as_far_as_it_goes_and_refused(held: list[Block], size: int) -> None:
    car = write([held[0][0]], held)
    size %= len(car)
    borders = {car_size(len(data) for _, data in held[:count]) for count in range(1, len(held))}
    found, error, position, _ = outcome([car[:size]])

    assert found == held[: len(found)]
    if size in borders:
        # A format without an end: the walk down from the root finds what is missing.
        assert not error
    else:
        assert ("CARTruncated", size) == (error, position)
    assert bool(found) is (size >= car_size([len(held[0][1])]))


@given(blocks, st.binary(min_size=1, max_size=80))
def test_what_follows_the_last_block_is_refused(held: list[Block], tail: bytes) -> None:
    # To be a block, it would have to hold a digest of itself.
    found, error, position, _ = outcome([write([held[0][0]], held) + tail])

    assert (held, True) == (found, bool(error))
    assert position >= car_size(len(data) for _, data in held)


def header(content: bytes) -> bytes:
    return bytes([len(content)]) + content


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in HEADER
    return header(HEADER.replace(old, new)) + SECTION


@pytest.mark.parametrize(
    ("car", "position", "reason"),
    [
        (b"\0", 0, "expected a section of 1 to"),
        (b"\x80\0", 1, "as short as can be"),
        (b"\xff" * 9, 8, "at most 9 bytes"),
        (b"\x81\x40", 0, "expected a section of 1 to 8192 bytes, found 8193"),
        # CARv2 begins like this.
        (b"\x0a\xa1\x67version\x02", 1, "as in CARv1"),
        (replaced(b"\xa2", b"\xa3"), 1, "as in CARv1"),
        (replaced(b"\xa2", b"\xbf"), 1, "as in CARv1"),
        (replaced(b"roots", b"root5"), 7, "as in CARv1"),
        (header(b"\xa2\x67version\x01\x65roots\x81" + ROOT), 2, "as in CARv1"),
        (replaced(b"version\x01", b"version\x02"), 58, "version 1"),
        (replaced(b"version\x01", b"version\x18\x01"), 58, "version 1"),
        (replaced(b"version\x01", b"version"), 58, "version 1"),
        (replaced(b"version\x01", b"version\x01\0"), 59, "the end of the header"),
        (replaced(b"\x81" + ROOT, b"\x80"), 8, "an array of one root or more"),
        (replaced(b"\x81", b"\x82"), 50, "expected a CID"),
        (replaced(b"\x81", b"\x98\x01"), 8, "an array of one root or more"),
        (replaced(b"\x81", b"\x99\0\x01"), 8, "an array of one root or more"),
        (replaced(b"\x81", b"\x9f"), 8, "an array of one root or more"),
        (replaced(b"\x81", b"\xff"), 8, "an array of one root or more"),
        (replaced(b"\x81" + ROOT + b"\x67version\x01", b"\x98"), 9, "an array of one root"),
        (replaced(b"\x81" + ROOT + b"\x67version\x01", b""), 8, "an array of one root"),
        (replaced(b"\xd8\x2a", b"\xd8\x2b"), 10, "expected a CID"),
        (replaced(ROOT, b"\xf6"), 9, "expected a CID"),
        (replaced(ROOT[10:] + b"\x67version\x01", b""), 19, "expected a CID of 36 bytes"),
    ],
    ids=map(str, count()),
)
def test_a_header_that_is_not_of_the_format_is_refused(
    car: bytes, position: int, reason: str
) -> None:
    with pytest.raises(CARError) as caught:
        read(car)

    assert CARError is type(caught.value)
    assert position == caught.value.position
    assert reason in caught.value.reason
    assert f"at position {position}: " in str(caught.value)


DIGEST: Final = LEAF[0].digest
BEGINNING: Final = header(HEADER)


@pytest.mark.parametrize(
    ("car", "position", "reason"),
    [
        (replaced(b"\x58\x25\0", b"\x58\x25\x01"), 11, "expected a CID of 36 bytes"),
        (replaced(ROOT, b"\xd8\x2a\x45\0\x01\x55\0\0"), 11, "expected a CID of 36 bytes"),
        (replaced(b"\x01\x55", b"\x01\x71"), 15, "found 0x71"),
        (BEGINNING + b"\x04\x01\x55\0\0", 59, "expected a CID of 36 bytes"),  # the empty one
        (BEGINNING + b"\x26\x12\x20" + DIGEST + b"leaf", 60, "expected CID version 1"),  # CIDv0
        (BEGINNING + b"\x28\x01\x71\x12\x20" + DIGEST + b"leaf", 61, "found 0x71"),
        (BEGINNING + b"\x28\x01\x55\x13\x20" + DIGEST + b"leaf", 62, "found 1320"),
    ],
    ids=map(str, count()),
)
def test_a_cid_of_another_profile_is_refused_as_that(
    car: bytes, position: int, reason: str
) -> None:
    with pytest.raises(CARForeignCID) as caught:
        read(car)

    assert position == caught.value.position
    assert reason in caught.value.reason


def test_a_foreign_cid_is_refused_before_its_block_is_taken_in() -> None:
    foreign = BEGINNING + b"\x80\x10\x01\x71\x12\x20" + DIGEST

    with pytest.raises(CARForeignCID):
        list(CARReader().feed(foreign))


def test_a_block_that_is_not_what_its_cid_says_is_never_handed_out() -> None:
    found, error, position, reason = outcome([CAR + SECTION[:-1] + b"g"])

    assert ([LEAF], "CARWrongBlock", len(CAR) + 37) == (found, error, position)
    assert str(LEAF[0]) in reason


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        (b"", "expected the length of a section"),
        (b"\xff", "expected the length of a section"),
        (BEGINNING[:-1], "expected 1 bytes more"),
        (BEGINNING[:1], f"expected {len(HEADER)} bytes more"),
        (BEGINNING, "expected one block or more"),
        (BEGINNING + b"\xa4", "expected the length of a section"),
        (CAR + b"\x28", "expected 40 bytes more"),
        (CAR[:-1], "expected 1 bytes more"),
    ],
)
def test_an_archive_that_ends_too_early_is_refused_as_that(car: bytes, reason: str) -> None:
    with pytest.raises(CARTruncated) as caught:
        read(car)

    assert len(car) == caught.value.position
    assert reason in caught.value.reason


def test_the_limits_are_the_last_that_is_read() -> None:
    car = write([LEAF[0]], [LEAF])

    assert [LEAF] == read(car, header_max=len(HEADER), block_max=4)
    with pytest.raises(CARError, match="found 58") as caught:
        read(car, header_max=len(HEADER) - 1)
    assert 0 == caught.value.position
    with pytest.raises(CARError, match="found 40") as caught:
        read(car, block_max=3)
    assert len(BEGINNING) == caught.value.position


def test_a_leaf_of_the_network_s_greatest_size_is_read() -> None:
    held = block(bytes(CAR_BLOCK_MAX))

    assert [held] == read(write([held[0]], [held]), block_max=CAR_BLOCK_MAX)


@pytest.mark.parametrize("count", [1, 23, 24, 199])
def test_an_array_of_roots_is_as_long_as_the_header_lets_it_be(count: int) -> None:
    reader = CARReader()

    assert [LEAF] == list(reader.feed(write([LEAF[0]] * count, [LEAF])))
    assert (LEAF[0],) * count == reader.roots


@pytest.mark.parametrize("count", [255, 256, 65_535])
def test_a_long_array_of_roots_is_read_by_who_wants_it(count: int) -> None:
    car = write([LEAF[0]] * count, [LEAF])

    assert [LEAF] == read(car, header_max=3_000_000)
    assert len(car) == car_size([4], roots=count)


@pytest.mark.parametrize("count", [0, 65_536])
def test_a_number_of_roots_that_is_not_written(count: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 65535 roots, got {count}"):
        car_header([LEAF[0]] * count)
    with pytest.raises(ValueError, match=f"expected 1 to 65535 roots, got {count}"):
        car_size([], roots=count)


def test_a_size_below_zero_is_not_written() -> None:
    with pytest.raises(ValueError, match="expected a number of 0 to 63 bits"):
        car_section(LEAF[0], -37)


def test_blocks_that_were_not_taken_are_not_passed_over() -> None:
    reader = CARReader()
    left = reader.feed(CAR + SECTION)
    for call in (reader.finish, lambda: reader.feed(b"")):
        with pytest.raises(RuntimeError, match="not all blocks"):
            call()
    assert [LEAF, LEAF] == list(left)

    reader.finish()


def test_after_an_error_each_call_raises_it_again() -> None:
    reader = CARReader()
    with pytest.raises(CARWrongBlock) as first:
        list(reader.feed(CAR[:-1] + b"g" + SECTION))

    for call in (reader.finish, lambda: reader.feed(SECTION)):
        with pytest.raises(CARWrongBlock) as again:
            call()
        assert first.value is again.value


def test_after_an_early_end_nothing_is_read() -> None:
    reader = CARReader()
    assert [] == list(reader.feed(CAR[:-1]))
    for _ in range(2):
        with pytest.raises(CARTruncated):
            reader.finish()

    with pytest.raises(CARTruncated):
        reader.feed(CAR[-1:])


def test_memory_is_bounded_by_a_block() -> None:
    held = block(bytes(1_000_000))
    start, section = car_header([held[0]]), car_section(held[0], 1_000_000)
    pieces = [start, *([section, *[held[1][:50_000]] * 20] * 30)]
    reader = CARReader()
    tracemalloc.start()
    try:
        count = sum(1 for piece in pieces for _ in reader.feed(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 30 == count
    assert peak < 3_500_000  # growing buffers are copied once


@pytest.mark.parametrize("kind", [CARError, CARTruncated, CARForeignCID, CARWrongBlock])
def test_an_error_survives_pickling(kind: type[CARError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("reason", 7)))  # noqa: S301 - made here

    assert (kind, "reason", 7) == (type(copy), copy.reason, copy.position)
