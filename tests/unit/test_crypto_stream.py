"""Goal: payloads are sealed once, in any order of runs, and opened only if nothing is amiss.
Method: an independent STREAM in ten lines, borders of chunks and leaves, every kind of tampering.
"""

from __future__ import annotations

import copy
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    CHUNK_SIZE,
    LEAF_CHUNKS,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEALED_CHUNK_SIZE,
    SEGMENT_SIZE,
    Opener,
    PayloadError,
    Run,
    Sealer,
    SealerReuse,
    Secret,
    opened_size,
    sealed_size,
)
from tests.unit.crypto_samples import flip, plaintext_of

KEY = Secret(hashlib.sha256(b"payload key").digest())
BORDERS = [
    0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 3 * CHUNK_SIZE + 5,
    LEAF_PLAINTEXT_SIZE - 1, LEAF_PLAINTEXT_SIZE, LEAF_PLAINTEXT_SIZE + 1,
]  # fmt: skip


def stream_by_the_book(key: bytes, plaintext: bytes) -> bytes:
    """The payload of age v1, as the specification words it."""
    pieces = [plaintext[i : i + CHUNK_SIZE] for i in range(0, len(plaintext), CHUNK_SIZE)] or [b""]
    sealed = b""
    for number, piece in enumerate(pieces):
        flag = b"\x01" if number == len(pieces) - 1 else b"\x00"
        sealed += ChaCha20Poly1305(key).encrypt(number.to_bytes(11, "big") + flag, piece, None)
    return sealed


def push(plaintext: bytes, sizes: list[int]) -> bytes:
    """Seal by `update`, cut into pieces of these sizes in turn."""
    sealer, position, turn = Sealer(KEY), 0, 0
    sealed = b""
    while position < len(plaintext):
        size = sizes[turn % len(sizes)]
        sealed += sealer.update(plaintext[position : position + size])
        position, turn = position + size, turn + 1
    return sealed + sealer.finish()


def pull(payload: bytes, sizes: list[int]) -> tuple[bytes, PayloadError | None]:
    """Open by `update`, cut into pieces; return all that was released, and the error if any."""
    opener, position, turn = Opener(KEY), 0, 0
    released = b""
    try:
        while position < len(payload):
            size = sizes[turn % len(sizes)]
            released += opener.update(payload[position : position + size])
            position, turn = position + size, turn + 1
        released += opener.finish()
    except PayloadError as error:
        return released, error
    return released, None


def open_runs(payload: bytes, chunks: int) -> bytes:
    """Open by runs of so many chunks, the last run first."""
    opener = Opener(KEY)
    plaintext = bytearray(opened_size(len(payload)))
    step = chunks * SEALED_CHUNK_SIZE
    for start in reversed(range(0, len(payload), step)):
        first = start // SEALED_CHUNK_SIZE
        piece = memoryview(payload)[start : start + step]
        room = memoryview(plaintext)[first * CHUNK_SIZE :]
        last = start + step >= len(payload)
        size = opener.open_run_into(first, piece, room, last=last)
        assert opened_size(len(piece)) == size
    return bytes(plaintext)


def test_the_geometry_of_the_format() -> None:
    assert (65_536, 65_552) == (CHUNK_SIZE, SEALED_CHUNK_SIZE)
    assert (15, 983_280, 983_040) == (LEAF_CHUNKS, LEAF_SIZE, LEAF_PLAINTEXT_SIZE)
    assert SEGMENT_SIZE == 7_866_240


@pytest.mark.parametrize("size", BORDERS)
def test_sealed_is_what_the_specification_says(size: int) -> None:
    plaintext = plaintext_of(size)
    expected = stream_by_the_book(KEY.expose(), plaintext)

    assert expected == push(plaintext, [CHUNK_SIZE])
    assert sealed_size(size) == len(expected)
    assert opened_size(len(expected)) == size
    assert (plaintext, None) == pull(expected, [SEALED_CHUNK_SIZE])
    assert plaintext == open_runs(expected, LEAF_CHUNKS)


@given(size=st.integers(0, 1 << 40))
def test_sizes_are_inverse(size: int) -> None:
    assert size == opened_size(sealed_size(size))


@given(size=st.integers(0, 10 * SEALED_CHUNK_SIZE))
def test_every_size_is_possible_or_refused(size: int) -> None:
    try:
        plaintext_size = opened_size(size)
    except PayloadError:
        rest = size % SEALED_CHUNK_SIZE
        assert size == 0 or 0 < rest < 16 or (rest == 16 and size > 16)
        return

    assert size == sealed_size(plaintext_size)


@pytest.mark.parametrize("size", [-1, -65_552, 0, 1, 15, 65_552 + 1, 65_552 + 16])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(PayloadError):
        opened_size(size)
    with pytest.raises(PayloadError):
        sealed_size(-1)


@given(
    size=st.sampled_from(BORDERS[:7]),
    sizes=st.lists(st.integers(1, 3 * SEALED_CHUNK_SIZE), min_size=1, max_size=4).filter(
        lambda sizes: sum(sizes) > 2000
    ),
)
def test_the_cut_of_updates_does_not_matter(size: int, sizes: list[int]) -> None:
    plaintext = plaintext_of(size)
    payload = push(plaintext, sizes)

    assert stream_by_the_book(KEY.expose(), plaintext) == payload
    assert (plaintext, None) == pull(payload, sizes)


def test_nothing_waits_longer_than_it_must() -> None:
    sealer, opener = Sealer(KEY), Opener(KEY)

    assert b"" == sealer.update(bytes(CHUNK_SIZE))
    sealed = sealer.update(b"x")
    assert SEALED_CHUNK_SIZE == len(sealed)
    assert bytes(CHUNK_SIZE) == opener.update(sealed)


def test_runs_sealed_in_threads_out_of_order_are_the_same_bytes() -> None:
    plaintext = plaintext_of(5 * LEAF_PLAINTEXT_SIZE + 77_777)
    expected = push(plaintext, [1 << 20])
    sealer = Sealer(KEY)
    out = bytearray(len(expected))
    work: list[tuple[Run, int]] = []
    for start in range(0, len(plaintext), LEAF_PLAINTEXT_SIZE):
        size = min(LEAF_PLAINTEXT_SIZE, len(plaintext) - start)
        run = sealer.claim(size, last=start + size == len(plaintext))
        assert start // CHUNK_SIZE == run.first_chunk
        assert sealed_size(size) == run.sealed_size
        work.append((run, start))
    random.Random(7).shuffle(work)

    def seal(item: tuple[Run, int]) -> int:
        run, start = item
        source = memoryview(plaintext)[start : start + run.plaintext_size]
        return run.seal_into(source, memoryview(out)[run.first_chunk * SEALED_CHUNK_SIZE :])

    with ThreadPoolExecutor(4) as pool:
        assert len(expected) == sum(pool.map(seal, work))
    assert expected == out


def test_runs_opened_in_threads_share_one_opener() -> None:
    plaintext = plaintext_of(40 * CHUNK_SIZE + 9)
    payload = push(plaintext, [1 << 20])
    opener = Opener(KEY)

    def open_chunk(number: int) -> bytes:
        start = number * SEALED_CHUNK_SIZE
        out = bytearray(CHUNK_SIZE)
        piece = payload[start : start + SEALED_CHUNK_SIZE]
        return bytes(out[: opener.open_run_into(number, piece, out, last=number == 40)])

    with ThreadPoolExecutor(4) as pool:
        assert plaintext == b"".join(pool.map(open_chunk, range(41)))


def test_only_one_of_many_threads_seals_a_run() -> None:
    run = Sealer(KEY).claim(CHUNK_SIZE, last=True)

    def attempt(_: int) -> bool:
        try:
            run.seal_into(bytes(CHUNK_SIZE), bytearray(SEALED_CHUNK_SIZE))
        except SealerReuse:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert 1 == sum(pool.map(attempt, range(64)))


def test_a_sealer_seals_once() -> None:
    pushed, claimed, mixed = Sealer(KEY), Sealer(KEY), Sealer(KEY)
    pushed.update(b"x")
    pushed.finish()
    claimed.claim(1, last=True)
    mixed.claim(CHUNK_SIZE, last=False)

    for again in (
        lambda: pushed.update(b""),
        pushed.finish,
        lambda: pushed.claim(1, last=True),
        lambda: claimed.claim(CHUNK_SIZE, last=False),
        lambda: claimed.claim(0, last=True),
        lambda: mixed.update(b"x"),
        mixed.finish,
        claimed.finish,
    ):
        with pytest.raises(SealerReuse):
            again()
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="copied"):
            duplicate(pushed)


def test_a_sealer_that_is_fed_cannot_be_claimed() -> None:
    sealer = Sealer(KEY)
    sealer.update(b"x")

    with pytest.raises(SealerReuse):
        sealer.claim(CHUNK_SIZE, last=False)


@pytest.mark.parametrize(
    ("size", "last"),
    [(0, False), (1, False), (CHUNK_SIZE - 1, False), (CHUNK_SIZE + 1, False), (-1, True)],
)
def test_a_run_of_an_unlawful_size_is_refused_and_reserves_nothing(size: int, last: bool) -> None:
    sealer = Sealer(KEY)
    with pytest.raises(PayloadError):
        sealer.claim(size, last=last)

    assert 0 == sealer.claim(CHUNK_SIZE, last=False).first_chunk
    with pytest.raises(PayloadError):
        sealer.claim(0, last=True)
    assert 1 == sealer.claim(1, last=True).first_chunk


def test_buffers_of_the_wrong_size_do_not_use_a_run_up() -> None:
    run = Sealer(KEY).claim(CHUNK_SIZE, last=True)
    plaintext, out = bytearray(CHUNK_SIZE), bytearray(2 * SEALED_CHUNK_SIZE)
    shared = bytearray(3 * SEALED_CHUNK_SIZE)
    faulty: list[tuple[bytes | bytearray | memoryview, bytes | bytearray | memoryview]] = [
        (plaintext[:-1], out),
        (plaintext + b"x", out),
        (plaintext, out[: SEALED_CHUNK_SIZE - 1]),
        (plaintext, bytes(out)),
        (memoryview(shared)[:CHUNK_SIZE], memoryview(shared)[SEALED_CHUNK_SIZE:]),
    ]
    for source, target in faulty:
        with pytest.raises(PayloadError):
            run.seal_into(source, target)

    assert SEALED_CHUNK_SIZE == run.seal_into(plaintext, out)
    assert bytes(SEALED_CHUNK_SIZE) == out[SEALED_CHUNK_SIZE:]
    assert (bytes(CHUNK_SIZE), None) == pull(bytes(out[:SEALED_CHUNK_SIZE]), [10_000])


THREE = plaintext_of(2 * CHUNK_SIZE + 100)
SEALED = stream_by_the_book(KEY.expose(), THREE)
OTHER = stream_by_the_book(hashlib.sha256(b"other key").digest(), THREE)
A, B, C = (SEALED[i * SEALED_CHUNK_SIZE : (i + 1) * SEALED_CHUNK_SIZE] for i in range(3))
FULL = stream_by_the_book(KEY.expose(), THREE[: 2 * CHUNK_SIZE])


def sealed_chunk(chunk: int, plaintext: bytes, *, last: bool) -> bytes:
    """A chunk with a right tag, as only a party could make it."""
    nonce = chunk.to_bytes(11, "big") + bytes([last])
    return ChaCha20Poly1305(KEY.expose()).encrypt(nonce, plaintext, None)


TAG_ONLY = sealed_chunk(1, b"", last=True)
LAST_TOO_EARLY = sealed_chunk(0, THREE[:CHUNK_SIZE], last=True)

# What was done, the payload, chunks that may be released, the chunk that is named.
TAMPERED = [
    ("no chunk", b"", 0, 0),
    ("half a tag", A[:8], 0, 0),
    ("no last chunk", A, 1, 1),
    ("no last chunk after two", A + B, 2, 2),
    ("last chunk cut", SEALED[:-1], 2, 2),
    ("last chunk cut to its tag", A + B + C[:16], 2, 2),
    ("last chunk cut below a tag", A + B + C[:15], 2, 2),
    ("last chunk extended", SEALED + b"\0", 2, 2),
    ("last chunk twice", SEALED + C, 2, 2),
    ("bytes after a full last chunk", FULL + b"\0", 2, 2),
    ("a payload after a full last chunk", FULL + SEALED, 2, 2),
    ("an empty last chunk after a full one", A + TAG_ONLY, 1, 1),
    ("genuine chunks after the last", LAST_TOO_EARLY + B + C, 1, 1),
    ("two last chunks", LAST_TOO_EARLY + C, 1, 1),
    ("chunks swapped", B + A + C, 0, 0),
    ("first chunk dropped", B + C, 0, 0),
    ("middle chunk dropped", A + C, 1, 1),
    ("a chunk twice", A + A + C, 1, 1),
    ("spliced in the middle", A + OTHER[len(A) : 2 * len(A)] + C, 1, 1),
    ("spliced at the end", A + B + OTHER[2 * len(A) :], 2, 2),
    ("all from another key", OTHER, 0, 0),
    ("a byte inserted", A + b"\0" + B + C, 1, 1),
    ("a byte removed", A + B[1:] + C, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "good", "chunk"), [case[1:] for case in TAMPERED])
@pytest.mark.parametrize("size", [7_777, SEALED_CHUNK_SIZE, SEALED_CHUNK_SIZE + 1, 1 << 20])
def test_tampering_is_refused_with_the_chunk(
    payload: bytes, good: int, chunk: int, size: int
) -> None:
    released, error = pull(payload, [size])

    assert error is not None
    assert chunk == error.chunk
    assert THREE[: good * CHUNK_SIZE] == released


@pytest.mark.parametrize("payload", [case[1] for case in TAMPERED])
@pytest.mark.parametrize("chunks", [1, 2, LEAF_CHUNKS])
def test_tampering_is_refused_in_runs(payload: bytes, chunks: int) -> None:
    with pytest.raises(PayloadError):
        open_runs(payload, chunks)


@given(bit=st.integers(0, len(SEALED) * 8 - 1), size=st.sampled_from([50_000, 1 << 20]))
def test_any_flipped_bit_is_refused(bit: int, size: int) -> None:
    chunk = bit // 8 // SEALED_CHUNK_SIZE
    payload = flip(SEALED, bit)
    released, error = pull(payload, [size])

    assert error is not None
    assert chunk == error.chunk
    assert THREE[: chunk * CHUNK_SIZE] == released
    with pytest.raises(PayloadError) as caught:
        open_runs(payload, LEAF_CHUNKS)
    assert chunk == caught.value.chunk


@given(size=st.integers(0, len(SEALED) - 1))
def test_any_truncation_is_refused(size: int) -> None:
    released, error = pull(SEALED[:size], [1 << 20])

    assert error is not None
    assert THREE.startswith(released)
    assert 0 == len(released) % CHUNK_SIZE


def test_a_faulty_chunk_leaves_no_plaintext_behind() -> None:
    out = bytearray(b"\xee" * 3 * CHUNK_SIZE)
    payload = flip(SEALED, 8 * (SEALED_CHUNK_SIZE + 1000))

    with pytest.raises(PayloadError) as caught:
        Opener(KEY).open_run_into(0, payload, out, last=True)

    assert 1 == caught.value.chunk
    assert THREE[:CHUNK_SIZE] == out[:CHUNK_SIZE]
    assert bytes(CHUNK_SIZE) == out[CHUNK_SIZE : 2 * CHUNK_SIZE]
    assert b"\xee" * CHUNK_SIZE == out[2 * CHUNK_SIZE :]


def test_a_run_knows_its_place() -> None:
    opener, out = Opener(KEY), bytearray(3 * CHUNK_SIZE)
    assert CHUNK_SIZE == opener.open_run_into(1, B, out, last=False)

    for first, sealed, last in (
        (0, B, False), (2, B, False), (1, B, True), (2, C, False), (0, b"", False),
        (0, b"", True), (1, TAG_ONLY, True), (0, A[:-1], False),
    ):  # fmt: skip
        with pytest.raises(PayloadError):
            opener.open_run_into(first, sealed, out, last=last)


def test_a_run_names_the_chunk_that_is_cut_short() -> None:
    out = bytearray(3 * CHUNK_SIZE)
    for first, sealed, last in ((2, C[:9], True), (1, B + C[:9], True), (1, B + C, False)):
        with pytest.raises(PayloadError, match="chunk 2") as caught:
            Opener(KEY).open_run_into(first, sealed, out, last=last)
        assert 2 == caught.value.chunk


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1])
def test_a_short_chunk_that_is_not_the_last_is_refused_even_if_genuine(size: int) -> None:
    chunk = sealed_chunk(1, bytes(size), last=False)
    with pytest.raises(PayloadError, match="cut short"):
        Opener(KEY).open_run_into(1, chunk, bytearray(CHUNK_SIZE), last=False)
    with pytest.raises(PayloadError, match="cut short"):
        Opener(KEY).open_run_into(0, A + chunk, bytearray(2 * CHUNK_SIZE), last=False)


@pytest.mark.parametrize("size", [0, 1, 1024, CHUNK_SIZE - 1, CHUNK_SIZE])
def test_a_payload_of_one_chunk_opens_at_once(size: int) -> None:
    opener, plaintext = Opener(KEY), plaintext_of(size)
    sealed = sealed_chunk(0, plaintext, last=True)

    for _ in range(2):
        assert plaintext == opener.open_only_chunk(sealed)
        assert plaintext == opener.open_only_chunk(memoryview(bytearray(sealed)))


@pytest.mark.parametrize(
    "sealed",
    [
        b"", TAG_ONLY[:-1], A, B, C, flip(sealed_chunk(0, b"small", last=True), 3),
        sealed_chunk(0, b"small", last=False), sealed_chunk(1, b"small", last=True), SEALED,
        sealed_chunk(0, bytes(2 * CHUNK_SIZE), last=True),  # genuine, but no chunk is so long
    ],
)  # fmt: skip
def test_what_is_not_the_only_chunk_of_a_payload_is_refused(sealed: bytes) -> None:
    with pytest.raises(PayloadError):
        Opener(KEY).open_only_chunk(sealed)


def test_an_error_comes_at_once_where_nothing_is_held_back() -> None:
    with pytest.raises(PayloadError, match="chunk 0"):
        Opener(KEY).update(flip(A, 0))


def test_a_run_needs_room_of_its_own() -> None:
    opener = Opener(KEY)
    shared = bytearray(SEALED + bytes(len(SEALED)))

    for sealed, out in (
        (SEALED, bytearray(len(THREE) - 1)),
        (SEALED, bytes(len(THREE))),
        (memoryview(shared)[: len(SEALED)], memoryview(shared)[len(SEALED) :]),
    ):
        with pytest.raises(PayloadError, match="out must be"):
            opener.open_run_into(0, sealed, out, last=True)


def test_an_opener_stays_closed_after_an_error_and_after_its_end() -> None:
    failed, finished = Opener(KEY), Opener(KEY)
    assert THREE[:CHUNK_SIZE] == failed.update(A + flip(B, 0) + C)
    assert THREE == finished.update(SEALED) + finished.finish()

    for _ in range(2):
        with pytest.raises(PayloadError, match="chunk 1"):
            failed.update(C)
        with pytest.raises(PayloadError, match="chunk 1"):
            failed.finish()
        with pytest.raises(PayloadError, match="new opener"):
            finished.update(b"")
        with pytest.raises(PayloadError, match="new opener"):
            finished.finish()
