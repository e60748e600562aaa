"""Cutting a body into leaves, the unit of hashing and verification, within a budget of memory.

Holds what was received and not yet handed on, never more than one leaf and one piece: a slow
sender costs only what it sent. While memory is short a leaf is handed on in parts of whole chunks,
so that what a body must hold to go on is a chunk and a piece, and not a leaf.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from crypto import scan_head

from .memory import Account

PIECE_BYTES_MAX = 128 << 10
"""The most that comes in one piece; see the connection's buffers in `api.protocol`."""
_HEAD_SCAN_STEP = 1024
_JOINED_SIZE = 64 << 10
_SMALL_SIZE = 4 << 10


@dataclass(frozen=True, slots=True)
class Measure:
    """How long leaves and chunks are in a body: in clear, or sealed."""

    leaf: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive bytes of one leaf, nearly always all of it.

    Only the last part of a body may end within a chunk, and only there may a leaf be short.
    """

    leaf: int
    offset: int
    data: bytes
    ends_leaf: bool
    last: bool

    @property
    def is_all(self) -> bool:
        """Whether it is the whole body."""
        return self.last and self.leaf == self.offset == 0


def floor_of(size: int | None, chunk: int) -> int:
    """Return what a body of ``size`` bytes (None: unknown) must be given to go on alone.

    A chunk that waits for the byte after it, the piece that brings it, and a piece more in the
    buffers of its connection.
    """
    wanted = chunk + 2 * PIECE_BYTES_MAX
    return wanted if size is None else min(wanted, 2 * size)


async def cut_leaves(
    pieces: AsyncGenerator[bytes], measure: Measure, memory: Account, *, size: int | None = None
) -> AsyncGenerator[Part]:
    """Yield leaves of exactly the measure, then the last one; parts of them when memory is short.

    The last bytes of a full leaf are held back until more show that it is not the last. An empty
    body is one empty last leaf. ``size`` is that of the body, if it is known. Whoever takes a part
    gives its bytes back to ``memory``.
    """
    waiting = _Waiting()
    index = offset = received = 0
    own = PIECE_BYTES_MAX if size is None else min(PIECE_BYTES_MAX, size)
    memory.take(own)  # the connection's
    while True:
        room = PIECE_BYTES_MAX if size is None else min(PIECE_BYTES_MAX, size - received)
        # Before anything is read: what cannot be held stays with the sender.
        while not memory.take(room):
            chunks = (waiting.size - 1) // measure.chunk * measure.chunk
            if chunks > 0:
                yield Part(index, offset, waiting.take(chunks), ends_leaf=False, last=False)
                offset += chunks
            else:
                # Some of the body is being placed: all else that is held is within the floor.
                await memory.wait_given()
        piece = await anext(pieces, None)
        if piece is None:
            break
        memory.give(room - len(piece))
        received += len(piece)
        while offset + waiting.size + len(piece) > measure.leaf:
            taken = measure.leaf - offset - waiting.size
            waiting.add(piece[:taken])
            yield Part(index, offset, waiting.take(waiting.size), ends_leaf=True, last=False)
            index, offset, piece = index + 1, 0, piece[taken:]
        waiting.add(piece)
    yield Part(index, offset, waiting.take(waiting.size), ends_leaf=True, last=True)


async def split_head(body: AsyncGenerator[bytes]) -> tuple[bytes, bytes]:
    """Read up to the end of a sealed body's head; return it and what was read beyond.

    Raises:
        CryptoError: what comes is no head, or its limits are passed.

    """
    buffer = bytearray()
    scan_at = 0
    async for piece in body:
        buffer += piece
        if len(buffer) < scan_at:
            continue
        size = scan_head(buffer)
        if size is not None:
            return bytes(buffer[:size]), bytes(buffer[size:])
        # Each look starts at the beginning: looking after every byte would cost its square.
        scan_at = len(buffer) + _HEAD_SCAN_STEP
    size = scan_head(buffer, at_end=True)
    return bytes(buffer[:size]), bytes(buffer[size:])


async def chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield what was read already, then the rest."""
    if first:
        yield first
    async for piece in rest:
        yield piece


class _Waiting:
    """Bytes in the order of their arrival; a million small pieces cost little more than one."""

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._small = bytearray()
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if len(piece) < _SMALL_SIZE:
            self._small += piece
            if len(self._small) >= _JOINED_SIZE:
                self._join_small()
        else:
            self._join_small()
            self._pieces.append(piece)

    def take(self, size: int) -> bytes:
        """Remove and return the first bytes."""
        self._join_small()
        joined = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [joined[size:]] if size < self.size else []
        self.size -= size
        return bytes(joined[:size])

    def _join_small(self) -> None:
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()
