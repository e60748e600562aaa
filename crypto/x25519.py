"""X25519 recipients and identities, the class "classic".

It wraps and unwraps file keys and reads and writes the two Bech32 texts; it knows no headers.
Source: https://age-encryption.org/v1, section "X25519 recipient stanza"; RFC 7748.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from crypto import bech32, labels
from crypto.curve import exchange, find_fault, parse_point
from crypto.errors import HeaderError, IdentityError, RecipientError, SelfCheckError
from crypto.geometry import FILE_KEY_SIZE, TAG_SIZE
from crypto.header import Stanza
from crypto.keys import CLASSIC
from crypto.primitives import (
    AEAD_NONCE_SIZE,
    KEY_SIZE,
    Random,
    aead_open,
    aead_seal,
    decode_base64,
    derive,
    draw,
    encode_base64,
)
from crypto.secret import Secret

_RECIPIENT_PREFIX: Final = "age"
_IDENTITY_PREFIX: Final = "AGE-SECRET-KEY-"
_BODY_SIZE: Final = FILE_KEY_SIZE + TAG_SIZE
# The wrap key is used once, as it hangs on a fresh ephemeral key: a fixed nonce is safe.
_WRAP_NONCE: Final = bytes(AEAD_NONCE_SIZE)


@dataclass(frozen=True, slots=True, repr=False)
class X25519Recipient:
    """A party's X25519 public key: 32 bytes, a point that has a private key.

    Raises RecipientError for another length, an encoding that no implementation writes, and the
    points of low order, whose shared secret with any key is zero.
    """

    key: bytes
    # Kept ready: it is exchanged with twice in every wrap.
    _point: X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise RecipientError(f"an X25519 recipient has {KEY_SIZE} bytes, not {len(self.key)}")
        if fault := find_fault(self.key):
            raise RecipientError(f"the recipient is {fault}")
        object.__setattr__(self, "_point", parse_point(self.key))

    @classmethod
    def parse(cls, text: str) -> X25519Recipient:
        """Return the recipient that an `age1…` text names. Raises RecipientError."""
        try:
            return cls(bech32.decode(text, _RECIPIENT_PREFIX, KEY_SIZE))
        except ValueError as error:
            raise RecipientError(f"not an X25519 recipient (age1…): {error}") from None

    @property
    def key_class(self) -> str:
        """The class of the key, CLASSIC."""
        return CLASSIC

    def wrap(self, file_key: Secret, *, random: Random = os.urandom) -> Stanza:
        """Return a stanza for this recipient; draws 32 random bytes.

        Raises SelfCheckError when the stanza, derived a second time, does not hold the file key.
        """
        ephemeral = Secret(draw(random, KEY_SIZE))
        stanza = self._stanza(ephemeral, file_key)
        # The last moment at which anyone but the recipient can tell whether the stanza opens.
        self.verify(stanza, ephemeral, file_key)
        return stanza

    def verify(self, stanza: Stanza, ephemeral: Secret, file_key: Secret) -> None:
        """Raise SelfCheckError unless ephemeral secret and file key make this very stanza.

        All of it is computed anew, from the 32 bytes of the secret on: share, shared secret, key,
        body. Nothing cheaper sees a fault in each of them.
        """
        again = self._stanza(ephemeral, file_key)
        same = hmac.compare_digest(again.body, stanza.body)
        if not same or (again.type, again.args) != (stanza.type, stanza.args):
            raise SelfCheckError("a stanza derived again is another one; nothing was sealed")

    def check_stanza(self, stanza: Stanza) -> None:
        """Raise HeaderError unless the stanza has the shape of an X25519 stanza."""
        if stanza.type != labels.STANZA_X25519:
            raise HeaderError("expected an X25519 stanza")
        _parse_share(stanza)

    def _stanza(self, ephemeral: Secret, file_key: Secret) -> Stanza:
        private = _private_key(ephemeral)
        share = _public_bytes(private)
        shared = exchange(private, self._point)
        if shared is None:
            raise RecipientError("the shared secret is zero; the recipient is not acceptable")
        wrap_key = derive(shared, labels.X25519_WRAP, salt=share + self.key)
        body = aead_seal(wrap_key, _WRAP_NONCE, file_key.expose())
        return Stanza(labels.STANZA_X25519, (encode_base64(share),), body)

    def __str__(self) -> str:
        return bech32.encode(_RECIPIENT_PREFIX, self.key)

    def __repr__(self) -> str:
        return f"X25519Recipient({self})"


@dataclass(frozen=True, slots=True)
class X25519Identity:
    """A party's X25519 private key (32 bytes). Raises IdentityError for another length."""

    key: Secret
    # Kept ready: the library computes the public key anew for every private one it is given.
    _private: X25519PrivateKey = field(init=False, repr=False, compare=False)
    _recipient: X25519Recipient = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise IdentityError(f"an X25519 identity has {KEY_SIZE} bytes, not {len(self.key)}")
        private = _private_key(self.key)
        object.__setattr__(self, "_private", private)
        object.__setattr__(self, "_recipient", X25519Recipient(_public_bytes(private)))

    @classmethod
    def generate(cls, *, random: Random = os.urandom) -> X25519Identity:
        """Return a new identity from 32 random bytes."""
        return cls(Secret(draw(random, KEY_SIZE)))

    @classmethod
    def parse(cls, text: str) -> X25519Identity:
        """Return the identity that an `AGE-SECRET-KEY-1…` text holds.

        Raises IdentityError, whose text holds nothing of the input.
        """
        try:
            return cls(Secret(bech32.decode(text, _IDENTITY_PREFIX, KEY_SIZE)))
        except ValueError as error:
            raise IdentityError(f"not an X25519 identity (AGE-SECRET-KEY-1…): {error}") from None

    @property
    def key_class(self) -> str:
        """The class of the key, CLASSIC."""
        return CLASSIC

    def to_text(self) -> str:
        """Return the private key as `AGE-SECRET-KEY-1…`; the caller must not log it."""
        return bech32.encode(_IDENTITY_PREFIX.lower(), self.key.expose()).upper()

    def recipient(self) -> X25519Recipient:
        """Return the public half."""
        return self._recipient

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key (16 bytes), or None when the stanza is not for this identity.

        Raises HeaderError for an X25519 stanza that has not exactly one canonical share of 32
        bytes and a body of 32, or whose shared secret is zero.
        """
        if stanza.type != labels.STANZA_X25519:
            return None
        share = _parse_share(stanza)
        shared = exchange(self._private, parse_point(share))
        if shared is None:
            raise HeaderError("an X25519 stanza's share is a point of low order")
        wrap_key = derive(shared, labels.X25519_WRAP, salt=share + self._recipient.key)
        return aead_open(wrap_key, _WRAP_NONCE, stanza.body)


def _parse_share(stanza: Stanza) -> bytes:
    if len(stanza.args) != 1:
        raise HeaderError(f"an X25519 stanza has one argument, not {len(stanza.args)}")
    share = decode_base64(stanza.args[0])
    if share is None or len(share) != KEY_SIZE:
        raise HeaderError(f"an X25519 stanza's share is {KEY_SIZE} bytes of canonical base64")
    # Checked before decryption, so that no file key of another length is ever tried (age v1).
    if len(stanza.body) != _BODY_SIZE:
        raise HeaderError(f"an X25519 stanza's body is {_BODY_SIZE} bytes, not {len(stanza.body)}")
    return share


def _private_key(key: Secret) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(key.expose())


def _public_bytes(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()
