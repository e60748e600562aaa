"""Keys, a context and repeatable randomness for the tests of `crypto`; nothing here is secret."""

from __future__ import annotations

import dataclasses
import hashlib

from crypto import Context, HybridIdentity, X25519Identity

USER = X25519Identity.parse(
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
)


class FixedRandom:
    """A stream of bytes that hangs on its name alone: the same in every run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.drawn: list[int] = []

    def __call__(self, size: int) -> bytes:
        seed = f"{self._name} {len(self.drawn)}".encode()
        self.drawn.append(size)
        return hashlib.shake_256(seed).digest(size)


ROUTER = X25519Identity.generate(random=FixedRandom("router"))
MINER = X25519Identity.generate(random=FixedRandom("miner"))
OUTSIDER = X25519Identity.generate(random=FixedRandom("outsider"))

HYBRID_USER = HybridIdentity.generate(random=FixedRandom("hybrid user"))
HYBRID_ROUTER = HybridIdentity.generate(random=FixedRandom("hybrid router"))
HYBRID_MINER = HybridIdentity.generate(random=FixedRandom("hybrid miner"))
HYBRID_OUTSIDER = HybridIdentity.generate(random=FixedRandom("hybrid outsider"))

CONTEXT = Context(
    object_id="a" * 31 + "2",
    payload_id="b" * 31 + "7",
    session_id="101",
    task_id="task.1_A",
    direction="output",
    miner="0x" + "0123456789abcdef" * 2 + "01234567",
    key_class="classic",
)
HYBRID_CONTEXT = dataclasses.replace(CONTEXT, key_class="hybrid")


def plaintext_of(size: int) -> bytes:
    """Bytes without a pattern, the same for the same size."""
    return hashlib.shake_128(b"plaintext").digest(size)


def flip(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
