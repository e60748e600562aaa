"""Any range of a plaintext, out of a payload that lies where only parts of it are fetched.

The last chunk is opened first: without it a payload that was cut at a chunk's border looks whole.
It fetches nothing itself, but asks a function for bytes, and only for chunks that are needed.
Source: https://age-encryption.org/v1, section "Payload" ("seeking").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from crypto.errors import PayloadError
from crypto.geometry import (
    CHUNK_SIZE,
    LEAF_CHUNKS,
    chunk_count,
    chunk_offset,
    covering_chunks,
    leaf_of,
    opened_size,
)
from crypto.opener import Opener
from crypto.primitives import Buffer

# Given an offset into the payload and a size, returns exactly that many bytes.
Read: TypeAlias = Callable[[int, int], Buffer]


class RangeOpener:
    """Opens ranges of one payload, in any order and from any thread that `read` may be called in.

    That there is one means that the payload has its last chunk where its length says.
    """

    __slots__ = ("_last_chunk", "_last_plaintext", "_opener", "_payload_size", "_read", "size")

    def __init__(self, opener: Opener, read: Read, payload_size: int) -> None:
        """Fetch and open the last chunk of a payload of `payload_size` bytes.

        `size` is that of the plaintext from then on.

        Raises PayloadError when no payload has that length, or its last chunk does not open as
        the last: it was cut short, extended or changed. Lets through what `read` raises.
        """
        self.size = opened_size(payload_size)
        self._opener = opener
        self._read = read
        self._payload_size = payload_size
        self._last_chunk = chunk_count(self.size) - 1
        # Kept, so that what was verified is what is given out.
        self._last_plaintext = self._open_run(range(self._last_chunk, self._last_chunk + 1))

    def open_range(self, start: int, end: int) -> bytes:
        """Return the plaintext bytes `start` up to, not with, `end`: all of them or an error.

        Fetches the chunks that cover the range and no others, at most a leaf at a time.

        Raises PayloadError unless 0 <= start <= end <= size, for a chunk that does not open, and
        when `read` gives another number of bytes than it was asked for.
        """
        chunks = covering_chunks(start, end)
        if end > self.size:
            raise PayloadError(f"the range ends at {end}, the plaintext after {self.size} bytes")
        pieces: list[bytes] = []
        for run in _split_by_leaves(chunks):
            first = run.start * CHUNK_SIZE
            pieces.append(self._open_known(run)[max(start - first, 0) : end - first])
        return b"".join(pieces)

    def _open_known(self, run: range) -> bytes:
        if self._last_chunk not in run:
            return self._open_run(run)
        before = run[:-1]
        return (self._open_run(before) if before else b"") + self._last_plaintext

    def _open_run(self, run: range) -> bytes:
        offset = chunk_offset(run.start)
        size = min(chunk_offset(run.stop), self._payload_size) - offset
        sealed = self._read(offset, size)
        if len(sealed) != size:
            raise PayloadError(
                f"{len(sealed)} bytes were read at {offset} of the payload, {size} were asked for",
                chunk=run.start,
            )
        out = bytearray(len(run) * CHUNK_SIZE)
        last = run.stop > self._last_chunk
        written = self._opener.open_run_into(run.start, sealed, out, last=last)
        return bytes(memoryview(out)[:written])


def _split_by_leaves(chunks: range) -> list[range]:
    """Return the runs of chunks that lie in one leaf each: what a store can verify by itself."""
    runs: list[range] = []
    start = chunks.start
    while start < chunks.stop:
        stop = min(chunks.stop, (leaf_of(start) + 1) * LEAF_CHUNKS)
        runs.append(range(start, stop))
        start = stop
    return runs
