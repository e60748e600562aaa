"""Proof that who registers a recipient holds its identity: they open a challenge.

A challenge is an age file for the recipient, of an answer that only its maker can tell from a made
up one: a MAC over the scope, the recipient and the time until which it holds. So nothing is kept of
a challenge, and any process of a deployment checks the answer to one that another has made.
Source: ours; https://age-encryption.org/v1, HKDF as in RFC 5869.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from crypto import labels
from crypto.envelope import seal_file
from crypto.errors import IdentityError, PossessionError
from crypto.keys import Identity, Recipient
from crypto.primitives import Random, decode_base64, derive, encode_base64, mac
from crypto.secret import Secret
from crypto.x25519 import X25519Identity

_DIGITS_MAX: Final = 12
"""Of a time in seconds: a number of any length costs time to read."""


@dataclass(frozen=True, slots=True)
class Challenger:
    """Makes challenges and checks the answers, with a key derived from `identity`.

    Raises IdentityError for an identity of another class than classic.
    """

    identity: Identity = field(repr=False)
    _key: Secret = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.identity, X25519Identity):
            raise IdentityError("challenges are made with an X25519 identity only")
        object.__setattr__(self, "_key", derive(self.identity.key, labels.POSSESSION))

    def challenge(
        self,
        scope: str,
        recipient: Recipient,
        *,
        until_s: int,
        random: Random = os.urandom,
    ) -> bytes:
        """Return an age file that only the recipient's identity opens, to the answer.

        `scope` says what the recipient is registered for; `until_s` is in seconds since 1970.
        Raises CryptoError when the recipient cannot be sealed to.
        """
        return seal_file(self._answer(scope, recipient, until_s), [recipient], random=random)

    def check(self, scope: str, recipient: Recipient, answer: str, *, now_s: int) -> None:
        """Raise PossessionError unless this is the answer to a challenge that still holds."""
        until, _, code = answer.strip().partition(".")
        if not (until.isascii() and until.isdigit()) or decode_base64(code) is None:
            raise PossessionError("it is no answer to a challenge; send the text that it opens to")
        # In constant time, and before the time in it is believed.
        expected = self._answer(scope, recipient, int(until[:_DIGITS_MAX]))
        if not hmac.compare_digest(expected, answer.strip().encode("ascii", "replace")):
            raise PossessionError("it answers no challenge for this party and this recipient")
        if now_s > int(until):
            raise PossessionError("the challenge has run out; ask for another one")

    def _answer(self, scope: str, recipient: Recipient, until_s: int) -> bytes:
        parts = (scope.encode(), str(recipient).encode(), str(until_s).encode())
        bound = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        code = mac(self._key, bound)
        return f"{until_s}.{encode_base64(code)}".encode()
