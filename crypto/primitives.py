"""Bytes in, bytes out: HKDF, HMAC, one-shot AEAD, canonical base64, drawn randomness.

Besides `sealer`, `opener`, `curve`, `x25519`, `hybrid`, `scrypt` and `copies` no module touches
`cryptography`.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.errors import CryptoError
from crypto.secret import Secret

Buffer: TypeAlias = bytes | bytearray | memoryview
Random: TypeAlias = Callable[[int], bytes]

KEY_SIZE: Final = 32
AEAD_NONCE_SIZE: Final = 12
MAC_SIZE: Final = 32
_PADDING: Final = ("", "===", "==", "=")
_SHA256: Final = SHA256()


def draw(random: Random, size: int) -> bytes:
    """Return `size` random bytes, or raise CryptoError when the source gave another number."""
    value = random(size)
    if len(value) != size:
        msg = f"the random source gave {len(value)} bytes where {size} were asked for; replace it"
        raise CryptoError(msg)
    return value


def derive(key: Secret, label: bytes, *, salt: bytes = b"") -> Secret:
    """Return 32 bytes of HKDF-SHA256 (RFC 5869) over `key`, with `label` as info."""
    kdf = HKDF(algorithm=_SHA256, length=KEY_SIZE, salt=salt, info=label)
    return Secret(kdf.derive(key.expose()))


def mac(key: Secret, message: bytes) -> bytes:
    """Return HMAC-SHA256 (RFC 2104).

    Not by the standard library's `hmac`: that is another OpenSSL than the one which does all the
    rest here, and its code would have to come into the processor's cache for a single call.
    """
    code = HMAC(key.expose(), _SHA256)
    code.update(message)
    return code.finalize()


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
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode()


def decode_base64(text: str) -> bytes | None:
    """Return the bytes, or None unless `text` is exactly what `encode_base64` writes."""
    try:
        data = binascii.a2b_base64(text + _PADDING[len(text) % 4])
    except ValueError:
        return None
    # The decoder passes over much; here only the one text that encodes these bytes gets through: no
    # padding, no other characters, no stray low bits.
    return data if encode_base64(data) == text else None


def view(buffer: Buffer) -> memoryview:
    """Return a flat view of the bytes of a contiguous buffer."""
    return memoryview(buffer).cast("B")


def chunk_nonce(chunk: int, *, last: bool) -> bytes:
    """Return the nonce of a chunk: 11 bytes of big-endian counter and a flag (age v1, STREAM)."""
    return (chunk << 8 | last).to_bytes(AEAD_NONCE_SIZE, "big")
