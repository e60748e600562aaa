"""Post-quantum hybrid recipients and identities (mlkem768x25519), the class "hybrid".

It wraps and unwraps file keys and reads and writes the two Bech32 texts; it knows no headers.
Sources: https://age-encryption.org/v1, section "Hybrid recipient stanza"; HPKE base mode (RFC
9180) with X-Wing (draft-connolly-cfrg-xwing-kem): ML-KEM-768 (FIPS 203) and X25519 (RFC 7748).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from crypto import bech32, labels
from crypto.curve import find_fault, is_low_order
from crypto.errors import HeaderError, IdentityError, RecipientError, SelfCheckError
from crypto.geometry import FILE_KEY_SIZE, TAG_SIZE
from crypto.header import Stanza
from crypto.keys import HYBRID
from crypto.primitives import KEY_SIZE, Random, decode_base64, draw, encode_base64
from crypto.secret import Secret

_RECIPIENT_PREFIX: Final = "age1pq"
_IDENTITY_PREFIX: Final = "AGE-SECRET-KEY-PQ-"
_MLKEM_SEED_SIZE: Final = 64
_MLKEM_PUBLIC_SIZE: Final = 1184
_MLKEM_CIPHERTEXT_SIZE: Final = 1088
_PUBLIC_SIZE: Final = _MLKEM_PUBLIC_SIZE + KEY_SIZE
_SHARE_SIZE: Final = _MLKEM_CIPHERTEXT_SIZE + KEY_SIZE
_BODY_SIZE: Final = FILE_KEY_SIZE + TAG_SIZE
_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True, repr=False)
class HybridRecipient:
    """A party's X-Wing public key: ML-KEM-768 key (1184 bytes), then X25519 key (32).

    Raises RecipientError for another length, an ML-KEM key whose coefficients are not reduced
    (FIPS 203, section 7.2), and an X25519 key that is not canonical or of low order.
    """

    key: bytes
    # Kept ready: parsing the ML-KEM part expands a matrix, which takes as long as wrapping.
    _public: MLKEM768X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != _PUBLIC_SIZE:
            raise RecipientError(
                f"a hybrid recipient has {_PUBLIC_SIZE} bytes, not {len(self.key)}"
            )
        if fault := find_fault(self.key[_MLKEM_PUBLIC_SIZE:]):
            raise RecipientError(f"the X25519 part of the recipient is {fault}")
        try:
            public = _parse_public(self.key)
        except ValueError:
            raise RecipientError("the recipient's ML-KEM part is no key (FIPS 203, 7.2)") from None
        object.__setattr__(self, "_public", public)

    @classmethod
    def parse(cls, text: str) -> HybridRecipient:
        """Return the recipient that an `age1pq1…` text names. Raises RecipientError."""
        try:
            return cls(bech32.decode(text, _RECIPIENT_PREFIX, _PUBLIC_SIZE))
        except ValueError as error:
            raise RecipientError(f"not a hybrid recipient (age1pq1…): {error}") from None

    @property
    def key_class(self) -> str:
        """The class of the key, HYBRID."""
        return HYBRID

    def wrap(
        self,
        file_key: Secret,
        *,
        random: Random = os.urandom,  # noqa: ARG002 - the library draws for itself
    ) -> Stanza:
        """Return a stanza for this recipient; `random` is not asked, the library draws for itself.

        The ephemeral secrets stay in the library, so nobody but the recipient can see whether the
        stanza opens. What can be seen is checked: sizes, and a share that a reader would take. Who
        makes a head for a party whose identity is at hand opens it again with that.

        Raises SelfCheckError when a reader would refuse the stanza.
        """
        sealed = _SUITE.encrypt(file_key.expose(), self._public, labels.HYBRID_WRAP)
        share, body = sealed[:_SHARE_SIZE], sealed[_SHARE_SIZE:]
        stanza = Stanza(labels.STANZA_HYBRID, (encode_base64(share),), body)
        try:
            self.check_stanza(stanza)
        except HeaderError as error:
            raise SelfCheckError(
                "a stanza just wrapped is malformed; nothing was sealed"
            ) from error
        return stanza

    def check_stanza(self, stanza: Stanza) -> None:
        """Raise HeaderError unless the stanza has the shape of a hybrid stanza."""
        if stanza.type != labels.STANZA_HYBRID:
            raise HeaderError("expected an mlkem768x25519 stanza")
        _parse_share(stanza)

    def __str__(self) -> str:
        return bech32.encode(_RECIPIENT_PREFIX, self.key)

    def __repr__(self) -> str:
        return f"HybridRecipient({self})"


@dataclass(frozen=True, slots=True)
class HybridIdentity:
    """A party's X-Wing private key, a seed of 32 bytes. Raises IdentityError for another length."""

    key: Secret
    # Kept ready: expanding the seed takes longer than unwrapping.
    _private: MLKEM768X25519PrivateKey = field(init=False, repr=False, compare=False)
    _recipient: HybridRecipient = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise IdentityError(f"a hybrid identity has {KEY_SIZE} bytes, not {len(self.key)}")
        expanded = hashlib.shake_256(self.key.expose()).digest(_MLKEM_SEED_SIZE + KEY_SIZE)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_SIZE])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_SIZE:])
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        object.__setattr__(self, "_private", MLKEM768X25519PrivateKey(mlkem, x25519))
        object.__setattr__(self, "_recipient", HybridRecipient(public))

    @classmethod
    def generate(cls, *, random: Random = os.urandom) -> HybridIdentity:
        """Return a new identity from 32 random bytes."""
        return cls(Secret(draw(random, KEY_SIZE)))

    @classmethod
    def parse(cls, text: str) -> HybridIdentity:
        """Return the identity that an `AGE-SECRET-KEY-PQ-1…` text holds.

        Raises IdentityError, whose text holds nothing of the input.
        """
        try:
            return cls(Secret(bech32.decode(text, _IDENTITY_PREFIX, KEY_SIZE)))
        except ValueError as error:
            raise IdentityError(f"not a hybrid identity (AGE-SECRET-KEY-PQ-1…): {error}") from None

    @property
    def key_class(self) -> str:
        """The class of the key, HYBRID."""
        return HYBRID

    def to_text(self) -> str:
        """Return the private key as `AGE-SECRET-KEY-PQ-1…`; the caller must not log it."""
        return bech32.encode(_IDENTITY_PREFIX.lower(), self.key.expose()).upper()

    def recipient(self) -> HybridRecipient:
        """Return the public half."""
        return self._recipient

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key (16 bytes), or None when the stanza is not for this identity.

        Raises HeaderError for a hybrid stanza that has not exactly one canonical share of 1120
        bytes and a body of 32, or whose X25519 secret is zero.
        """
        if stanza.type != labels.STANZA_HYBRID:
            return None
        share = _parse_share(stanza)
        try:
            opened = _SUITE.decrypt(share + stanza.body, self._private, labels.HYBRID_WRAP)
        except InvalidTag:
            return None
        return Secret(opened)


def _parse_public(key: bytes) -> MLKEM768X25519PublicKey:
    """Return the key as the library wants it. Raises ValueError for a faulty ML-KEM part."""
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(key[:_MLKEM_PUBLIC_SIZE]),
        X25519PublicKey.from_public_bytes(key[_MLKEM_PUBLIC_SIZE:]),
    )


def _parse_share(stanza: Stanza) -> bytes:
    if len(stanza.args) != 1:
        raise HeaderError(f"an mlkem768x25519 stanza has one argument, not {len(stanza.args)}")
    share = decode_base64(stanza.args[0])
    if share is None or len(share) != _SHARE_SIZE:
        raise HeaderError(
            f"an mlkem768x25519 stanza's share is {_SHARE_SIZE} bytes of canonical base64"
        )
    # Checked before decryption, so that no file key of another length is ever tried (age v1).
    if len(stanza.body) != _BODY_SIZE:
        raise HeaderError(
            f"an mlkem768x25519 stanza's body is {_BODY_SIZE} bytes, not {len(stanza.body)}"
        )
    # The library answers a zero secret as it answers a wrong tag; age wants them told apart.
    if is_low_order(share[_MLKEM_CIPHERTEXT_SIZE:]):
        raise HeaderError("the X25519 part of an mlkem768x25519 stanza's share is of low order")
    return share
