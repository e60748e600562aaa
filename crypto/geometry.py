"""Sizes and limits of the envelope, and the arithmetic on them; no bytes are touched here.

All sizes are in bytes. "Sealed" counts ciphertext with its tags, never the header or the nonce.
"""

from __future__ import annotations

from typing import Final

from crypto.errors import PayloadError

CHUNK_SIZE: Final = 65_536
TAG_SIZE: Final = 16
SEALED_CHUNK_SIZE: Final = CHUNK_SIZE + TAG_SIZE

LEAF_CHUNKS: Final = 15
LEAF_SIZE: Final = LEAF_CHUNKS * SEALED_CHUNK_SIZE
LEAF_PLAINTEXT_SIZE: Final = LEAF_CHUNKS * CHUNK_SIZE

SEGMENT_LEAVES: Final = 8
SEGMENT_SIZE: Final = SEGMENT_LEAVES * LEAF_SIZE

FILE_KEY_SIZE: Final = 16
NONCE_SIZE: Final = 16
HEADER_SIZE_MAX: Final = 65_536
STANZAS_MAX: Final = 32


def sealed_size(plaintext_size: int) -> int:
    """Return the payload size for a plaintext size; even an empty plaintext has one chunk.

    Raises PayloadError for a negative size.
    """
    if plaintext_size < 0:
        msg = f"a plaintext cannot have {plaintext_size} bytes"
        raise PayloadError(msg)
    chunks = max(1, -(-plaintext_size // CHUNK_SIZE))
    return plaintext_size + chunks * TAG_SIZE


def opened_size(payload_size: int) -> int:
    """Return the plaintext size for a payload size (payload without its nonce).

    Raises PayloadError for a length that no payload has: shorter than one tag, or with a last
    chunk too short to hold a tag and a byte.
    """
    chunks, rest = divmod(payload_size, SEALED_CHUNK_SIZE)
    whole = chunks * CHUNK_SIZE
    if rest == 0 and chunks > 0:
        return whole
    # An empty last chunk is lawful only where it is the only one (age v1, "Payload").
    least = TAG_SIZE if chunks == 0 else TAG_SIZE + 1
    if payload_size < 0 or rest < least:
        msg = (
            f"no payload is {payload_size} bytes long: its last chunk would have {rest} bytes, "
            f"at least {least} are needed; the payload was cut short or extended"
        )
        raise PayloadError(msg, chunk=max(chunks, 0))
    return whole + rest - TAG_SIZE


def chunk_count(plaintext_size: int) -> int:
    """Return the number of chunks for a plaintext size. Raises PayloadError for a negative one."""
    return (sealed_size(plaintext_size) - plaintext_size) // TAG_SIZE


def covering_chunks(start: int, end: int) -> range:
    """Return the numbers of the chunks that hold the plaintext from `start` up to, not with, `end`.

    None for no bytes. Raises PayloadError unless 0 <= start <= end.
    """
    if not 0 <= start <= end:
        msg = f"no plaintext range goes from {start} to {end}"
        raise PayloadError(msg)
    return range(start // CHUNK_SIZE, -(-end // CHUNK_SIZE)) if start < end else range(0)


def chunk_offset(chunk: int) -> int:
    """Return where a chunk begins in the payload."""
    return chunk * SEALED_CHUNK_SIZE


def leaf_of(chunk: int) -> int:
    """Return the number of the leaf that holds a chunk."""
    return chunk // LEAF_CHUNKS


def segment_of(chunk: int) -> int:
    """Return the number of the segment that holds a chunk."""
    return leaf_of(chunk) // SEGMENT_LEAVES


def leaf_offset(leaf: int) -> int:
    """Return where a leaf begins in the payload."""
    return leaf * LEAF_SIZE


def segment_offset(segment: int) -> int:
    """Return where a segment begins in the payload."""
    return segment * SEGMENT_SIZE
