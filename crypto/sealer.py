"""Sealing a payload: the STREAM construction of age v1, one pass, one use.

`claim` hands out the payload in order, as runs of chunks that any thread may seal; `update` and
`finish` do the same for who has bytes and one thread. Nothing here is ever sealed twice: a chunk
counter that covers two plaintexts under one key gives both away.
Source: https://age-encryption.org/v1, section "Payload".
"""

from __future__ import annotations

import threading
from typing import NoReturn

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from crypto.errors import PayloadError, SealerReuse
from crypto.geometry import CHUNK_SIZE, SEALED_CHUNK_SIZE, sealed_size
from crypto.memory import fill_bytes
from crypto.primitives import Buffer, chunk_nonce, view
from crypto.secret import Secret, wipe


class Run:
    """Consecutive chunks of one payload, to be sealed once, by any thread."""

    __slots__ = ("_aead", "_last", "_spent", "first_chunk", "plaintext_size", "sealed_size")

    def __init__(
        self, aead: ChaCha20Poly1305, first_chunk: int, plaintext_size: int, *, last: bool
    ) -> None:
        """Made by `Sealer.claim` alone, which sees to it that no two runs share a chunk."""
        self._aead = aead
        self._last = last
        # Taken without waiting and never released: a flag that two threads cannot both find down.
        self._spent = threading.Lock()
        self.first_chunk = first_chunk
        self.plaintext_size = plaintext_size
        self.sealed_size = sealed_size(plaintext_size)

    def seal_into(self, plaintext: Buffer, out: Buffer) -> int:
        """Seal exactly `plaintext_size` bytes to the beginning of `out`; return the bytes written.

        `out` may be larger; it must be another buffer than the plaintext. The interpreter lock is
        released while a chunk is sealed.

        Raises PayloadError when a buffer has the wrong size (the run can still be used), and
        SealerReuse in every call but the first.
        """
        source, target = view(plaintext), view(out)
        if len(source) != self.plaintext_size or len(target) < self.sealed_size:
            raise PayloadError(
                f"the run seals {self.plaintext_size} to {self.sealed_size} bytes, "
                f"got {len(source)} and room for {len(target)}"
            )
        if source.obj is target.obj:
            # Sealed chunks are longer: they would overwrite plaintext that is still to be sealed.
            raise PayloadError("plaintext and out must be different buffers")
        if target.readonly:
            raise PayloadError("out cannot be written to")
        if not self._spent.acquire(blocking=False):
            raise SealerReuse("this run was sealed already; a file key seals one byte string")
        self._seal(source, target)
        return self.sealed_size

    def _seal(self, source: memoryview, target: memoryview) -> None:
        seal = self._aead.encrypt_into
        chunk, position = self.first_chunk, 0
        whole = (self.sealed_size - 1) // SEALED_CHUNK_SIZE
        for start in range(0, whole * CHUNK_SIZE, CHUNK_SIZE):
            end = position + SEALED_CHUNK_SIZE
            piece = source[start : start + CHUNK_SIZE]
            seal(chunk_nonce(chunk, last=False), piece, None, target[position:end])
            chunk, position = chunk + 1, end
        piece, room = source[whole * CHUNK_SIZE :], target[position : self.sealed_size]
        seal(chunk_nonce(chunk, last=self._last), piece, None, room)


class Sealer:
    """Seals one payload, once. Claim on one thread; seal the runs in as many as you like."""

    __slots__ = ("_aead", "_claiming", "_done", "_lock", "_next_chunk", "_pending", "_pushing")

    def __init__(self, payload_key: Secret) -> None:
        """Take a payload key (32 bytes) that no other Sealer ever had."""
        self._aead = ChaCha20Poly1305(payload_key.expose())
        self._lock = threading.Lock()
        self._next_chunk = 0
        self._pending = bytearray()
        self._claiming = False
        self._pushing = False
        self._done = False

    def __del__(self) -> None:
        """Overwrite the plaintext of a payload that was not finished."""
        wipe(self._pending)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse copies: two sealers would count the same chunks under one key."""
        raise TypeError("a Sealer cannot be copied or pickled; a file key seals one byte string")

    def claim(self, plaintext_size: int, *, last: bool) -> Run:
        """Reserve the next chunks, for `plaintext_size` bytes of plaintext.

        Raises PayloadError unless the size is a multiple of CHUNK_SIZE and not 0; the last run
        may have any size, 0 only as the one run of an empty payload. Raises SealerReuse once the
        last run was claimed, and when `update` was used.
        """
        if self._pushing:
            raise SealerReuse("this sealer is being fed by update; it cannot be claimed as well")
        run = self._claim(plaintext_size, last=last)
        self._claiming = True
        return run

    def update(self, data: Buffer) -> bytes:
        """Take plaintext; return what could be sealed so far, possibly nothing.

        Raises SealerReuse after `finish`, and when `claim` was used.
        """
        self._begin_push()
        source = view(data)
        # The last chunk is known only when the payload ends: a full one waits for the next byte.
        chunks = max(0, len(self._pending) + len(source) - 1) // CHUNK_SIZE
        if chunks == 0:
            self._pending += source
            return b""
        used = chunks * CHUNK_SIZE - len(self._pending)
        sealed = fill_bytes(
            chunks * SEALED_CHUNK_SIZE, lambda out: self._push(source[:used], chunks, out)
        )
        self._pending += source[used:]
        return sealed

    def finish(self) -> bytes:
        """Return the last chunk. Raises SealerReuse when called again, or `claim` was used."""
        self._begin_push()
        run = self._claim(len(self._pending), last=True)
        sealed = fill_bytes(run.sealed_size, lambda out: run.seal_into(self._pending, out))
        self._drop_pending()
        return sealed

    def _push(self, source: memoryview, chunks: int, out: memoryview) -> None:
        """Seal whole chunks; only the one that straddles two updates is copied together."""
        start = position = 0
        if self._pending:
            start = CHUNK_SIZE - len(self._pending)
            self._pending += source[:start]
            position = self._claim(CHUNK_SIZE, last=False).seal_into(self._pending, out)
            self._drop_pending()
            chunks -= 1
        if chunks:
            run = self._claim(chunks * CHUNK_SIZE, last=False)
            run.seal_into(source[start:], out[position:])

    def _drop_pending(self) -> None:
        wipe(self._pending)
        self._pending = bytearray()

    def _begin_push(self) -> None:
        if self._claiming:
            raise SealerReuse("runs of this sealer were claimed; it cannot be fed by update")
        if self._done:
            raise SealerReuse("this sealer has finished; a file key seals one byte string")
        self._pushing = True

    def _claim(self, plaintext_size: int, *, last: bool) -> Run:
        with self._lock:
            if self._done:
                raise SealerReuse("the last run was claimed; a file key seals one byte string")
            lawful = plaintext_size > 0 or (last and plaintext_size == self._next_chunk == 0)
            if not lawful or (not last and plaintext_size % CHUNK_SIZE):
                raise PayloadError(
                    f"a run of {plaintext_size} bytes: a multiple of {CHUNK_SIZE} is needed, or "
                    "any size for the last (0 only for an empty payload)"
                )
            run = Run(self._aead, self._next_chunk, plaintext_size, last=last)
            self._next_chunk += max(1, -(-plaintext_size // CHUNK_SIZE))
            self._done = last
            return run
