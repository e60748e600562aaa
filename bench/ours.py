"""Our side of sealing and opening, with what only we can time apart: heads, and the curve alone."""

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from crypto import (
    CLASSIC,
    HYBRID,
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
        return f"cryptography {importlib.metadata.version('cryptography')}"

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
