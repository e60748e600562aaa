"""Cutting a body into leaves, the unit of sealing, hashing and verification.

Holds what was received and not yet handed on, never more than one leaf and one piece: a slow
sender costs only what it sent.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf's bytes; only the last one of a body may be shorter than the leaf size."""

    index: int
    data: bytes
    last: bool


async def cut_leaves(pieces: AsyncGenerator[bytes], leaf_size: int) -> AsyncGenerator[Leaf]:
    """Yield leaves of exactly ``leaf_size`` bytes, then the last one.

    A full leaf is held back until more bytes show that it is not the last. An empty body is one
    empty last leaf.
    """
    waiting: list[bytes] = []
    size = 0
    index = 0
    async for piece in pieces:
        rest = piece
        while size + len(rest) > leaf_size:
            taken = leaf_size - size
            waiting.append(rest[:taken])
            yield Leaf(index, b"".join(waiting), last=False)
            waiting, size, index, rest = [], 0, index + 1, rest[taken:]
        if rest:
            waiting.append(rest)
            size += len(rest)
    yield Leaf(index, b"".join(waiting), last=True)
