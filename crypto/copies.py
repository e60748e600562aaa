"""Copies of records that only the deployment could have made, and that only its operator opens.

A copy is an age file of a signature (Ed25519, RFC 8032) and what was signed: the copy's name in the
store and its content. So what a store exchanges, makes up or moves is refused before it is parsed.
The same content under the same name makes the same bytes, each time: a copy that is put again is
the one that was put before, and no file key seals two contents.
Source: ours; https://age-encryption.org/v1, HKDF as in RFC 5869.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from crypto import labels
from crypto.envelope import open_file, seal_file
from crypto.errors import CopyError, CryptoError, IdentityError
from crypto.keys import Identity, Recipient
from crypto.primitives import Random, decode_base64, derive, encode_base64, mac
from crypto.secret import Secret
from crypto.x25519 import X25519Identity

_FIRST_LINE: Final = b"storage-gateway copy v1 "
_NAME_SIZE: Final = 20


def recovery_identity(identity: Identity) -> X25519Identity:
    """Return the identity that opens copies, where the operator has named no other recipient.

    It is derived from the router's, opens nothing else, and is gone with it.
    Raises IdentityError for an identity of another class than classic.
    """
    return X25519Identity(derive(_key_of(identity), labels.RECOVERY))


@dataclass(frozen=True, slots=True)
class CopySealer:
    """Makes and opens the copies of one deployment, with keys derived from the router's identity.

    `deployment` is bound into each signature.
    Raises IdentityError for an identity of another class than classic.
    """

    identity: Identity = field(repr=False)
    deployment: str
    _signing: Ed25519PrivateKey = field(init=False, repr=False, compare=False)
    _names: Secret = field(init=False, repr=False, compare=False)
    _random: Secret = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = _key_of(self.identity)
        seed = derive(key, labels.SIGNING).expose()
        object.__setattr__(self, "_signing", Ed25519PrivateKey.from_private_bytes(seed))
        object.__setattr__(self, "_names", derive(key, labels.COPY_NAMES))
        object.__setattr__(self, "_random", derive(key, labels.COPY_RANDOM))

    def hidden_name(self, name: str) -> str:
        """Return 32 characters that stand for a name which stores must not read."""
        code = mac(self._names, name.encode())[:_NAME_SIZE]
        return base64.b32encode(code).decode().lower()

    def seal(self, name: str, content: bytes, recipient: Recipient) -> bytes:
        """Return the copy that lies under ``name``: an age file.

        Raises CryptoError when the recipient cannot be sealed to.
        """
        signature = self._signing.sign(self._signed(name, content))
        text = _FIRST_LINE + encode_base64(signature).encode() + b"\n" + content
        bound = hashlib.sha256(str(recipient).encode() + b"\n" + self._signed(name, text)).digest()
        return seal_file(text, [recipient], random=_stream(self._random, bound))

    def open(self, name: str, data: bytes, identity: Identity) -> bytes:
        """Return the content of a copy that was found under ``name``.

        Raises CopyError: it does not open, or is not signed by this deployment for that name.
        """
        try:
            text = open_file(data, [identity])
        except CryptoError as error:
            msg = f"it does not open with the recovery identity ({error})"
            raise CopyError(msg) from None
        line, newline, content = text.partition(b"\n")
        signature = decode_base64(line.removeprefix(_FIRST_LINE).decode("ascii", "replace"))
        if not line.startswith(_FIRST_LINE) or not newline or signature is None:
            raise CopyError("it is no copy of a record")
        try:
            self._signing.public_key().verify(signature, self._signed(name, content))
        except InvalidSignature:
            msg = "it is not signed by this deployment, or for another name"
            raise CopyError(msg) from None
        return content

    def _signed(self, name: str, content: bytes) -> bytes:
        parts = (self.deployment.encode(), name.encode())
        head = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return labels.SIGNING + b"\n" + head + content


def _key_of(identity: Identity) -> Secret:
    if not isinstance(identity, X25519Identity):
        raise IdentityError("copies are made with an X25519 identity only")
    return identity.key


def _stream(key: Secret, bound: bytes) -> Random:
    """Return what draws the same bytes each time for the same content."""
    drawn = 0

    def random(size: int) -> bytes:
        nonlocal drawn
        out = b""
        while len(out) < size:
            drawn += 1
            out += mac(key, bound + drawn.to_bytes(4, "big"))
        return out[:size]

    return random
