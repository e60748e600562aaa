"""age v1 files written by hand, so that any part of one can be wrong on purpose.

Nothing of `crypto` is used but the parser of recipients: what the gateway is sent here is not made
by the code that judges it. Source: https://age-encryption.org/v1.
"""

import base64
import hmac
import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto import X25519Recipient

CHUNK = 65_536
MAGIC = b"age-encryption.org/v1\n"


def age_file(
    plaintext: bytes,
    recipients: Sequence[str],
    *,
    extra: Sequence[bytes] = (),
    file_key: bytes | None = None,
) -> bytes:
    """Return a file sealed to recipients, with ``extra`` stanzas in front of theirs."""
    key = os.urandom(16) if file_key is None else file_key
    stanzas = [*extra, *(x25519_stanza(key, recipient) for recipient in recipients)]
    header = MAGIC + b"".join(stanzas) + b"---"
    tag = hmac.digest(_derive(key, b"header"), header, "sha256")
    nonce = os.urandom(16)
    payload_key = _derive(key, b"payload", salt=nonce)
    return header + b" " + _base64(tag) + b"\n" + nonce + _payload(payload_key, plaintext)


def stanza(kind: str, *arguments: str, body: bytes = b"") -> bytes:
    """Return a stanza's lines."""
    text = _base64(body)
    lines = [text[at : at + 64] for at in range(0, len(text) + 1, 64)]
    return b"\n".join([" ".join(["->", kind, *arguments]).encode(), *lines, b""])


def x25519_stanza(file_key: bytes, recipient: str) -> bytes:
    """Return the stanza that wraps a file key for a recipient."""
    theirs = X25519Recipient.parse(recipient).key
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs))
    wrap_key = _derive(shared, b"age-encryption.org/v1/X25519", salt=share + theirs)
    body = ChaCha20Poly1305(wrap_key).encrypt(bytes(12), file_key, None)
    return stanza("X25519", _base64(share).decode(), body=body)


def head_size(data: bytes) -> int:
    """Return the size of header and nonce."""
    return data.index(b"\n", data.index(b"\n--- ") + 1) + 1 + 16


def armored(data: bytes) -> bytes:
    """Return the armored form of a file."""
    begin, end = b"-----BEGIN AGE ENCRYPTED FILE-----\n", b"-----END AGE ENCRYPTED FILE-----\n"
    return begin + base64.encodebytes(data) + end


def flipped(data: bytes, at: int) -> bytes:
    """Return the bytes with one bit changed, counted from the end when negative."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _payload(key: bytes, plaintext: bytes) -> bytes:
    count = max(1, -(-len(plaintext) // CHUNK))
    aead = ChaCha20Poly1305(key)
    return b"".join(
        aead.encrypt(
            i.to_bytes(11) + bytes([i == count - 1]), plaintext[i * CHUNK : (i + 1) * CHUNK], None
        )
        for i in range(count)
    )


def _derive(key: bytes, label: bytes, *, salt: bytes = b"") -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(key)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")
