"""Opening a payload: plaintext leaves only after the tag of its chunk was checked.

`update` and `finish` open a payload that comes in order; `open_run_into` opens any whole chunks in
any thread, for who knows where they lie. A payload is complete only when its last chunk opened.
Source: https://age-encryption.org/v1, section "Payload".
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from crypto.errors import PayloadError
from crypto.geometry import CHUNK_SIZE, SEALED_CHUNK_SIZE, TAG_SIZE
from crypto.primitives import Buffer, chunk_nonce, view
from crypto.secret import Secret


class Opener:
    """Opens one payload: in order by `update` and `finish`, or by runs in any order."""

    __slots__ = ("_aead", "_chunk", "_ended", "_error", "_finished", "_pending")

    def __init__(self, payload_key: Secret) -> None:
        """Take the payload key (32 bytes)."""
        self._aead = ChaCha20Poly1305(payload_key.expose())
        self._chunk = 0
        self._pending = bytearray()
        self._ended = False
        self._finished = False
        self._error: PayloadError | None = None

    def update(self, data: Buffer) -> bytes:
        """Take sealed bytes; return the plaintext of all chunks that opened, possibly nothing.

        Raises PayloadError when a chunk does not open. If chunks before it opened in the same
        call, their plaintext is returned and the error is raised by the next call; so the bytes
        that come out do not depend on how the payload was cut. Who does not call `finish` cannot
        tell a whole payload from a truncated one.
        """
        self._check_open()
        source = view(data)
        pieces: list[bytes] = []
        try:
            self._open_full_chunks(source, pieces)
        except PayloadError as error:
            self._error = error
            if not pieces:
                raise
        return b"".join(pieces)

    def finish(self) -> bytes:
        """Return the plaintext of the last chunk; nothing of the payload is missing then.

        Raises PayloadError when the last chunk is missing, cut short, or not marked as last.
        """
        self._check_open()
        self._finished = True
        if self._ended:
            return b""
        return self._open_chunk(self._pending, last=True)

    def open_only_chunk(self, sealed: Buffer) -> bytes:
        """Open a payload that is one chunk, the first and the last; return its plaintext.

        The same as `open_run_into` without a buffer, which costs a small payload more than its
        cipher does. Keeps no state.

        Raises PayloadError when the chunk does not open, or no chunk has that length.
        """
        source = view(sealed)
        if len(source) > SEALED_CHUNK_SIZE:
            raise PayloadError(f"a chunk has at most {SEALED_CHUNK_SIZE} bytes, not {len(source)}")
        return self._open_at(0, source, last=True)

    def open_run_into(self, first_chunk: int, sealed: Buffer, out: Buffer, *, last: bool) -> int:
        """Open whole chunks, the first of which is number `first_chunk`; return the bytes written.

        `last` says that the payload ends with them; then the final chunk may be shorter. `out` may
        be larger than needed; it must be another buffer than `sealed`. Keeps no state.

        Raises PayloadError with the number of the first chunk that does not open. What was
        written for the chunks before it is good; the place of the faulty one is zeroed.
        """
        source, target = view(sealed), view(out)
        size = _run_size(first_chunk, len(source), last=last)
        if len(target) < size or target.readonly or source.obj is target.obj:
            raise PayloadError(f"out must be another, writable buffer of at least {size} bytes")
        whole = (len(source) - 1) // SEALED_CHUNK_SIZE
        for i in range(whole + 1):
            start, room = i * SEALED_CHUNK_SIZE, target[i * CHUNK_SIZE : (i + 1) * CHUNK_SIZE]
            piece = source[start : start + SEALED_CHUNK_SIZE]
            nonce = chunk_nonce(first_chunk + i, last=last and i == whole)
            room = room[: len(piece) - TAG_SIZE]
            try:
                self._aead.decrypt_into(nonce, piece, None, room)
            except InvalidTag:
                # The library leaves what it deciphered before the tag was found to be wrong.
                room[:] = bytes(len(room))
                raise _bad_chunk(first_chunk + i) from None
        return size

    def _open_full_chunks(self, source: memoryview, pieces: list[bytes]) -> None:
        position = 0
        while len(self._pending) + len(source) - position >= SEALED_CHUNK_SIZE:
            if self._ended:
                break
            end = position + SEALED_CHUNK_SIZE - len(self._pending)
            if self._pending:
                self._pending += source[position:end]
                pieces.append(self._open_full_chunk(self._pending))
                self._pending = bytearray()
            else:
                pieces.append(self._open_full_chunk(source[position:end]))
            position = end
        if self._ended and position < len(source):
            raise PayloadError("bytes follow the last chunk of the payload", chunk=self._chunk)
        self._pending += source[position:]

    def _open_full_chunk(self, sealed: Buffer) -> bytes:
        """Open a chunk of full size, of which only its tag tells whether it is the last.

        So it does not wait for the next byte, and what is released is what other implementations
        release (the public vectors say so, to the byte).
        """
        try:
            return self._open_chunk(sealed, last=False)
        except PayloadError:
            plaintext = self._open_chunk(sealed, last=True)
        self._ended = True
        return plaintext

    def _open_chunk(self, sealed: Buffer, *, last: bool) -> bytes:
        plaintext = self._open_at(self._chunk, sealed, last=last)
        self._chunk += 1
        return plaintext

    def _open_at(self, chunk: int, sealed: Buffer, *, last: bool) -> bytes:
        _run_size(chunk, len(sealed), last=last)
        try:
            return self._aead.decrypt(chunk_nonce(chunk, last=last), sealed, None)
        except InvalidTag:
            raise _bad_chunk(chunk) from None

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._finished:
            raise PayloadError("this payload was finished; make a new opener")


def _run_size(first_chunk: int, sealed: int, *, last: bool) -> int:
    """Return the plaintext size of a run. Raises PayloadError where no run has that length."""
    chunks, rest = divmod(sealed, SEALED_CHUNK_SIZE)
    chunk = first_chunk + chunks
    if not last and (rest or not chunks):
        raise PayloadError(f"chunk {chunk} is cut short and not the last", chunk=chunk)
    if rest == 0 and chunks:
        return chunks * CHUNK_SIZE
    # Only an empty payload may end with an empty chunk: else there were two forms of one payload.
    if rest < TAG_SIZE or (rest == TAG_SIZE and chunk > 0):
        raise PayloadError(f"chunk {chunk}, the last one, is missing or cut short", chunk=chunk)
    return chunks * CHUNK_SIZE + rest - TAG_SIZE


def _bad_chunk(chunk: int) -> PayloadError:
    return PayloadError(
        f"chunk {chunk} does not open: it was changed, moved, or is from another payload; "
        "read another copy",
        chunk=chunk,
    )
