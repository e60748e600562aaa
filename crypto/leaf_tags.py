"""Leaf tags: what tells a stored leaf from a changed one at a fifteenth of the price of SHA-256.

A tag is AES-256-GMAC (NIST SP 800-38D): whoever does not hold the key cannot make a leaf that has
it. The key stays with the tags, where stores have no access. A leaf's SHA-256, which names it for
everybody, is computed once, when it is sealed.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.errors import LeafMismatch
from crypto.primitives import AEAD_NONCE_SIZE, KEY_SIZE, Buffer, Random, draw
from crypto.secret import Secret

LEAF_TAG_SIZE: Final = 16


def new_tag_key(random: Random) -> Secret:
    """Return a key, 32 bytes, for the leaves of one segment sealed once."""
    return Secret(draw(random, KEY_SIZE))


def leaf_tag(key: Secret, position: int, sealed: Buffer) -> bytes:
    """Return the 16-byte tag of the leaf at a position; under one key each position is used once.

    The position is the nonce: two leaves tagged at one position would give the tags' key away.
    """
    return AESGCM(key.expose()).encrypt(position.to_bytes(AEAD_NONCE_SIZE, "big"), b"", sealed)


def check_leaf(key: Secret, position: int, sealed: Buffer, tag: bytes) -> None:
    """Raise LeafMismatch unless the leaf has the tag."""
    if not hmac.compare_digest(leaf_tag(key, position, sealed), tag):
        raise LeafMismatch("the leaf was changed after it was stored; read another copy")
