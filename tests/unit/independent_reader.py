"""A second reader of envelopes, written from docs/format.md and what it cites, sharing no code.

For tests only: it shows that the document is enough. It is short rather than fast, and checks no
secret in constant time. What it refuses is named by the kind that the document names.
"""

import base64
import hashlib
import hmac
import json
import re
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

LETTERS = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
STANZA = re.compile(r"-> ([!-~]+(?: [!-~]+)*)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)")
KINDS = {"AGE-SECRET-KEY-": "X25519", "AGE-SECRET-KEY-PQ-": "mlkem768x25519"}
SHARES = {"X25519": 32, "mlkem768x25519": 1120}
Stanza = tuple[str, list[str], bytes]
Meta = dict[str, str | None]


class Refused(Exception):
    """Its one argument is HeaderError, NoIdentityMatch, HeaderMACError, PayloadError and so on."""


def require(holds: object, kind: str) -> None:
    if not holds:
        raise Refused(kind)


def read_base64(text: str) -> bytes:
    require(re.fullmatch(r"[A-Za-z0-9+/]*", text) and len(text) % 4 != 1, "HeaderError")
    data = base64.b64decode(text + "=" * (-len(text) % 4))
    require(base64.b64encode(data).decode().rstrip("=") == text, "HeaderError")
    return data


def derive(key: bytes, salt: bytes, info: str) -> bytes:
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info.encode() + b"\1", "sha256")


def decipher(key: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return None


def read_identity(text: str) -> tuple[str, bytes]:
    """Return stanza type and 32 bytes; the checksum is trusted, keys are the tests' own."""
    prefix, _, data = text.rpartition("1")
    bits = "".join(f"{LETTERS.index(letter):05b}" for letter in data[:-6])
    return KINDS[prefix], int(bits[:256], 2).to_bytes(32, "big")


def read_header(header: str) -> tuple[list[Stanza], bytes]:
    version, position, stanzas = "age-encryption.org/v1\n", 22, []
    require(header.startswith(version) and len(header) <= 65_536, "HeaderError")
    while found := STANZA.match(header, position):
        kind, *words = found[1].split(" ")
        stanzas.append((kind, words, read_base64(found[2].replace("\n", ""))))
        position = found.end()
    kinds = [kind for kind, _, _ in stanzas]
    require(1 <= len(kinds) <= 32 and header.isascii(), "HeaderError")
    require(re.fullmatch(r"--- [A-Za-z0-9+/]{43}\n", header[position:]), "HeaderError")
    for kind, words, body in stanzas:
        if kind == "storage-gateway/context-v1":
            require(kinds.count(kind) == 1 and not words and len(body) == 32, "HeaderError")
        if kind == "storage-gateway/meta-v1":
            require(kinds.count(kind) == len(words) == 1, "HeaderError")
            sizes = len(read_base64(words[0])), len(body) in range(128 + 16, 1024 + 17, 128)
            require(sizes == (12, True), "HeaderError")
    require("scrypt" not in kinds or len(kinds) == 1, "HeaderError")
    return stanzas, read_base64(header[position + 4 : -1])


def exchange(private: X25519PrivateKey, share: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise Refused("HeaderError") from None


def unwrap(identity: tuple[str, bytes], stanza: Stanza) -> bytes | None:
    kind, arguments, body = stanza
    if kind != identity[0]:
        return None
    share = read_base64("".join(arguments))
    sizes = len(arguments), len(share), len(body)
    require(sizes == (1, SHARES[kind], 32), "HeaderError")
    if kind == "X25519":
        private = X25519PrivateKey.from_private_bytes(identity[1])
        salt = share + private.public_key().public_bytes_raw()
        key = derive(exchange(private, share), salt, "age-encryption.org/v1/X25519")
        return decipher(key, bytes(12), body)
    return decipher(*hpke_keys(identity[1], share), body)


def hpke_keys(seed: bytes, share: bytes) -> tuple[bytes, bytes]:
    """Return AEAD key and nonce: X-Wing, then the key schedule of RFC 9180, section 5.1."""
    expanded = hashlib.shake_256(seed).digest(96)
    private = X25519PrivateKey.from_private_bytes(expanded[64:])
    quantum = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(share[:1088])
    parts = [quantum, exchange(private, share[1088:]), share[1088:]]
    parts += [private.public_key().public_bytes_raw(), bytes.fromhex("5c2e2f2f5e5c")]
    suite = b"HPKE-v1HPKE" + bytes.fromhex("647a00010003")
    names = b"psk_id_hash", b"info_hash" + b"age-encryption.org/mlkem768x25519"
    hashes = [hmac.digest(bytes(32), suite + name, "sha256") for name in names]
    context = b"\0" + b"".join(hashes)
    secret = hmac.digest(hashlib.sha3_256(b"".join(parts)).digest(), suite + b"secret", "sha256")
    key = hmac.digest(secret, b"\0\x20" + suite + b"key" + context + b"\1", "sha256")
    nonce = hmac.digest(secret, b"\0\x0c" + suite + b"base_nonce" + context + b"\1", "sha256")
    return key, nonce[:12]


def open_file_key(head: bytes, identities: list[str]) -> tuple[bytes, list[Stanza]]:
    header = head[:-16].decode("latin-1")
    stanzas, tag = read_header(header)
    keys = (unwrap(read_identity(text), one) for text in identities for one in stanzas)
    file_key = next((key for key in keys if key is not None), b"")
    require(file_key, "NoIdentityMatch")
    covered = header[: header.rindex("---") + 3].encode("latin-1")
    found = hmac.digest(derive(file_key, b"", "header"), covered, "sha256")
    require(found == tag, "HeaderMACError")
    return file_key, stanzas


def read_meta(file_key: bytes, stanzas: list[Stanza]) -> Meta | None:
    label = "storage-gateway/meta-v1"
    for arguments, body in [stanza[1:] for stanza in stanzas if stanza[0] == label]:
        opened = decipher(derive(file_key, b"", label), read_base64(arguments[0]), body)
        require(opened, "MetaError")
        return cast("Meta", json.loads(opened or b""))
    return None


def check_context(file_key: bytes, stanzas: list[Stanza], fields: list[str | None]) -> None:
    label = "storage-gateway/context-v1"
    words = [None if word is None else word.encode() for word in [label, *fields]]
    canonical = b"".join(
        b"\xff\xff" if word is None else len(word).to_bytes(2, "big") + word for word in words
    )
    expected = hmac.digest(derive(file_key, b"", label), canonical, "sha256")
    require((label, [], expected) in stanzas, "ContextMismatch")


def open_payload(file_key: bytes, nonce: bytes, payload: bytes) -> bytes:
    pieces: list[bytes | None] = []
    key = derive(file_key, nonce, "payload")
    chunks = [payload[i : i + 65_552] for i in range(0, len(payload), 65_552)]
    require(chunks and (len(chunks) == 1 or len(chunks[-1]) > 16), "PayloadError")
    for number, chunk in enumerate(chunks):
        last = bytes([number == len(chunks) - 1])
        pieces.append(decipher(key, number.to_bytes(11, "big") + last, chunk))
        require(pieces[-1] is not None, "PayloadError")
    return b"".join(filter(None, pieces))
