"""Goal: agree with the public age test vectors on success, on the kind of failure, and on every
byte of plaintext that may be released, also on failure.
Method: each file goes through the opener in odd pieces and in runs of chunks; the folder lies
beside the repository (`../shared/vectors`, or AGE_VECTORS) and is never copied into it.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from crypto import (
    SEALED_CHUNK_SIZE,
    EnvelopeError,
    HeaderError,
    HeaderMACError,
    NoIdentityMatch,
    OpenedHead,
    PayloadError,
    open_file,
    open_head,
    opened_size,
    parse_identities,
    scan_head,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("AGE_VECTORS", ROOT / ".." / "shared" / "vectors")) / "age"
HOW = f"age test vectors are not at {FOLDER}; to test with them: set AGE_VECTORS"
EXPECTATIONS: dict[str, type[EnvelopeError] | None] = {
    "success": None,
    "no match": NoIdentityMatch,
    "HMAC failure": HeaderMACError,
    "header failure": HeaderError,
    "payload failure": PayloadError,
}
KEYS = {"expect", "payload", "file key", "identity", "compressed", "comment"}
# Who knows the length of a payload knows of each chunk whether it is the last, and so releases
# less than the vector allows: not the chunk whose mark is wrong.
CAUTIOUS_IN_RUNS = {
    "stream_no_final_two_chunks_full",
    "stream_trailing_garbage_long",
    "stream_two_final_chunks",
}


@dataclass(frozen=True)
class Vector:
    """One scenario: what to do, what is to come of it."""

    head: dict[str, str]
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Vector:
        text, _, data = path.read_bytes().partition(b"\n\n")
        head = dict(line.split(": ", 1) for line in text.decode().splitlines())
        if head.get("compressed") == "zlib":
            data = zlib.decompress(data)
        return cls(head, data)


# A head key that we do not know says that the vector is not for us (the vectors' own rule).
ALL = {path.name: Vector.read(path) for path in sorted(FOLDER.glob("*"))}
VECTORS = {name: found for name, found in ALL.items() if found.head.keys() <= KEYS}


@pytest.fixture(params=list(VECTORS) or ["none"])
def vector(request: pytest.FixtureRequest) -> Vector:
    if request.param not in VECTORS:
        pytest.skip(HOW)
    return VECTORS[request.param]


def open_vector(vector: Vector) -> tuple[OpenedHead, bytes]:
    length = scan_head(vector.data, at_end=True)
    assert length is not None
    identities = parse_identities(vector.head["identity"])
    return open_head(vector.data[:length], identities), vector.data[length:]


def release_in_pieces(vector: Vector, size: int, released: list[bytes]) -> None:
    opened, payload = open_vector(vector)
    opener = opened.opener()
    for start in range(0, len(payload), size):
        # Not a comprehension: what came before an error is what is asked for.
        released += [opener.update(payload[start : start + size])]
    released += [opener.finish()]


def release_in_runs(vector: Vector, chunks: int, released: list[bytes]) -> None:
    opened, payload = open_vector(vector)
    opener, step = opened.opener(), chunks * SEALED_CHUNK_SIZE
    for start in range(0, max(1, len(payload)), step):
        first = start // SEALED_CHUNK_SIZE
        out = bytearray(chunks * SEALED_CHUNK_SIZE)
        piece, last = payload[start : start + step], start + step >= len(payload)
        try:
            size = opener.open_run_into(first, piece, out, last=last)
        except PayloadError as error:
            assert error.chunk is not None
            released.append(bytes(out[: (error.chunk - first) * 65_536]))
            raise
        released.append(bytes(out[:size]))


def outcome(vector: Vector, size: int, *, runs: bool) -> bytes:
    """Open, check the kind of failure, return all that was released."""
    released: list[bytes] = []
    release = release_in_runs if runs else release_in_pieces
    expected = EXPECTATIONS[vector.head["expect"]]
    if expected is None:
        release(vector, size, released)
    else:
        with pytest.raises(expected) as caught:
            release(vector, size, released)
        # Not a subtype for a reason of our own, such as a limit.
        assert expected is type(caught.value)
    return b"".join(released)


def expected_hash(vector: Vector) -> str:
    return vector.head.get("payload", hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize("size", [1009, 65_536, 65_552, 100_003, 1 << 26])
def test_pieces_release_exactly_what_the_vector_says(vector: Vector, size: int) -> None:
    released = outcome(vector, size, runs=False)

    assert expected_hash(vector) == hashlib.sha256(released).hexdigest()


@pytest.mark.parametrize("chunks", [1, 2, 15])
def test_runs_release_no_more_than_the_vector_says(
    vector: Vector, chunks: int, request: pytest.FixtureRequest
) -> None:
    released = outcome(vector, chunks, runs=True)
    name = request.node.callspec.params["vector"]

    if name in CAUTIOUS_IN_RUNS:
        in_pieces = outcome(vector, 1009, runs=False)
        assert in_pieces.startswith(released)
        assert len(released) < len(in_pieces)
    else:
        assert expected_hash(vector) == hashlib.sha256(released).hexdigest()


def test_whole_files_and_file_keys(vector: Vector) -> None:
    identities = parse_identities(vector.head["identity"])
    if vector.head["expect"] != "success":
        with pytest.raises(EnvelopeError) as caught:
            open_file(vector.data, identities)
        assert EXPECTATIONS[vector.head["expect"]] is caught.type
        return
    opened, payload = open_vector(vector)
    plaintext = open_file(vector.data, identities)

    assert vector.head["file key"] == opened.file_key.expose().hex()
    assert vector.head["payload"] == hashlib.sha256(plaintext).hexdigest()
    assert len(plaintext) == opened_size(len(payload))


def test_the_number_of_vectors() -> None:
    if not VECTORS:
        pytest.skip(HOW)
    hybrid = [vector for vector in VECTORS.values() if "-PQ-" in vector.head["identity"]]

    assert ALL.keys() == VECTORS.keys()
    assert len(VECTORS) >= 42
    assert len(hybrid) >= 11
