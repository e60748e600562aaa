"""Bytes in, bytes out: HKDF, HMAC, one-shot AEAD, canonical base64, drawn randomness.

Besides `sealer`, `opener`, `curve`, `x25519` and `hybrid` no module touches `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from crypto.errors import CryptoError
from crypto.secret import Secret

Buffer: TypeAlias = bytes | bytearray | memoryview
Random: TypeAlias = Callable[[int], bytes]

KEY_SIZE: Final = 32
AEAD_NONCE_SIZE: Final = 12
MAC_SIZE: Final = 32
# HKDF-Expand numbers its blocks of 32 bytes from one.
_FIRST_BLOCK: Final = b"\x01"


def draw(random: Random, size: int) -> bytes:
    """Return `size` random bytes, or raise CryptoError when the source gave another number."""
    value = random(size)
    if len(value) != size:
        msg = f"the random source gave {len(value)} bytes where {size} were asked for; replace it"
        raise CryptoError(msg)
    return value


def derive(key: Secret, label: bytes, *, salt: bytes = b"") -> Secret:
    """Return 32 bytes of HKDF-SHA256 (RFC 5869) over `key`, with `label` as info."""
    # By hand, at half the time of the library's: one block of output is one HMAC to extract and
    # one to expand. No salt is as good as one of zeros: HMAC pads its key with them.
    pseudorandom_key = hmac.digest(salt, key.expose(), "sha256")
    return Secret(hmac.digest(pseudorandom_key, label + _FIRST_BLOCK, "sha256"))


def mac(key: Secret, message: bytes) -> bytes:
    """Return HMAC-SHA256 (RFC 2104)."""
    return hmac.digest(key.expose(), message, "sha256")


def aead_seal(key: Secret, nonce: bytes, plaintext: bytes) -> bytes:
    """Return ChaCha20-Poly1305 (RFC 8439) ciphertext and tag, without associated data."""
    return ChaCha20Poly1305(key.expose()).encrypt(nonce, plaintext, None)


def aead_open(key: Secret, nonce: bytes, sealed: bytes) -> Secret | None:
    """Return the plaintext, or None when the tag is wrong."""
    try:
        return Secret(ChaCha20Poly1305(key.expose()).decrypt(nonce, sealed, None))
    except InvalidTag:
        return None


def encode_base64(data: bytes) -> str:
    """Return canonical base64 without padding (RFC 4648 section 4, as age v1 writes it)."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Return the bytes, or None unless `text` is exactly what `encode_base64` writes."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    # Only the one text that encodes these bytes: no padding, no stray low bits.
    return data if encode_base64(data) == text else None


def view(buffer: Buffer) -> memoryview:
    """Return a flat view of the bytes of a contiguous buffer."""
    return memoryview(buffer).cast("B")


def chunk_nonce(chunk: int, *, last: bool) -> bytes:
    """Return the nonce of a chunk: 11 bytes of big-endian counter and a flag (age v1, STREAM)."""
    return (chunk << 8 | last).to_bytes(AEAD_NONCE_SIZE, "big")
