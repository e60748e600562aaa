"""Our side of sealing and opening, with what only we can time apart: heads, and the curve alone."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from crypto import (
    CLASSIC,
    HYBRID,
    LEAF_CHUNKS,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    Context,
    Envelope,
    HybridIdentity,
    Identity,
    X25519Identity,
    new_head,
    open_envelope,
    open_head,
    rewrap,
    seal,
    sealed_size,
)

from .sides import RECIPIENTS, Side


def context(key_class: str) -> Context:
    """Return the context of a made-up object."""
    return Context(
        object_id="a" * 32,
        payload_id="b" * 32,
        session_id="101",
        task_id="1",
        direction="input",
        miner=None,
        key_class=key_class,
    )


class Ours(Side):
    """The kernel `crypto`, one class of recipients."""

    sealed: Envelope

    def __init__(self, _folder: Path, key_class: str = CLASSIC) -> None:
        """Make three parties, and one who takes the place of the second."""
        makers: dict[str, Callable[[], Identity]] = {
            CLASSIC: X25519Identity.generate,
            HYBRID: HybridIdentity.generate,
        }
        make = makers[key_class]
        identities = [make() for _ in range(RECIPIENTS)]
        self._context = context(key_class)
        self._recipients = [identity.recipient() for identity in identities]
        first, _, last = self._recipients
        self._spliced = [first, make().recipient(), last]
        self._last = identities[-1:]
        self._head = new_head(self._recipients, context=self._context).head
        self._curve = X25519PrivateKey.generate().public_key()
        self._secret = os.urandom(32)

    @property
    def version(self) -> str:
        return _version()

    def seal(self) -> None:
        self.sealed = seal(self.plaintext, self._recipients, context=self._context)

    def open(self) -> None:
        self.opened = open_envelope(self.sealed.head, self.sealed.payload, self._last)

    def works(self) -> dict[str, Callable[[], object]]:
        return {
            **super().works(),
            "seal head": lambda: new_head(self._recipients, context=self._context),
            "open head": lambda: open_head(self._head, self._last),
            "splice head": self._splice,
            "wrap on the curve": self._wrap_on_the_curve,
        }

    def _splice(self) -> None:
        rewrap(self._head, self._last, current=self._recipients, wanted=self._spliced)

    def _wrap_on_the_curve(self) -> None:
        """Do what three classic wraps cannot do without: an ephemeral key and an exchange each."""
        for _ in range(RECIPIENTS):
            X25519PrivateKey.from_private_bytes(self._secret).exchange(self._curve)


class OursByLeaf(Side):
    """The kernel as the gateway uses it: a leaf at a time, into memory that is there already.

    Each leaf goes to its place in one buffer, which the next call writes again: so all that was
    sealed on the clock is there to be checked off it.
    """

    sealed: tuple[bytes, bytearray]

    def __init__(self, _folder: Path) -> None:
        """Make three parties."""
        identities = [X25519Identity.generate() for _ in range(RECIPIENTS)]
        self._context = context(CLASSIC)
        self._recipients = [identity.recipient() for identity in identities]
        self._last = identities[-1:]

    @property
    def version(self) -> str:
        return _version()

    def take(self, plaintext: bytes) -> None:
        super().take(plaintext)
        self._payload = bytearray(sealed_size(len(plaintext)))
        self._plaintext = bytearray(len(plaintext))

    def seal(self) -> None:
        made = new_head(self._recipients, context=self._context)
        source, out = memoryview(self.plaintext), memoryview(self._payload)
        for leaf, start in enumerate(range(0, len(source), LEAF_PLAINTEXT_SIZE)):
            part = source[start : start + LEAF_PLAINTEXT_SIZE]
            run = made.sealer.claim(len(part), last=start + len(part) == len(source))
            run.seal_into(part, out[leaf * LEAF_SIZE :])
        self.sealed = made.head, self._payload

    def open(self) -> None:
        head, payload = self.sealed
        opener = open_head(head, self._last).opener()
        source, out = memoryview(payload), memoryview(self._plaintext)
        for leaf, start in enumerate(range(0, len(source), LEAF_SIZE)):
            part = source[start : start + LEAF_SIZE]
            last = start + len(part) == len(source)
            room = out[leaf * LEAF_PLAINTEXT_SIZE :]
            opener.open_run_into(leaf * LEAF_CHUNKS, part, room, last=last)
        self.opened = self._plaintext

    def gave_back(self) -> bool:
        """Return whether both ways to open give the plaintext; forget what was opened."""
        head, payload = self.sealed
        same = super().gave_back() and open_envelope(head, payload, self._last) == self.plaintext
        # Used again, the buffer would show the plaintext of this call for one that wrote nothing.
        self._plaintext[:] = bytes(len(self._plaintext))
        return same


def _version() -> str:
    return f"cryptography {importlib.metadata.version('cryptography')}"
