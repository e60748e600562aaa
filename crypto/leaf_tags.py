"""Leaf tags: what tells a stored leaf from a changed one at a fifteenth of the price of SHA-256.

A tag is AES-256-GMAC (NIST SP 800-38D): whoever does not hold the key cannot make a leaf that has
it. The key stays with the tags, where stores have no access. A leaf's SHA-256, which names it for
everybody, is computed once, when it is sealed.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

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


class LeafTagger:
    """Makes the tag of a leaf that comes in parts; the same as `leaf_tag` of all of it."""

    __slots__ = ("_context",)

    def __init__(self, key: Secret, position: int) -> None:
        """Begin the one leaf that is tagged at this position under this key."""
        nonce = position.to_bytes(AEAD_NONCE_SIZE, "big")
        self._context = Cipher(AES(key.expose()), GCM(nonce)).encryptor()

    def update(self, sealed: Buffer) -> None:
        """Take the next bytes of the leaf."""
        self._context.authenticate_additional_data(sealed)

    def finish(self) -> bytes:
        """Return the 16-byte tag; nothing can follow."""
        self._context.finalize()
        return self._context.tag


def check_leaf(key: Secret, position: int, sealed: Buffer, tag: bytes) -> None:
    """Raise LeafMismatch unless the leaf has the tag."""
    if not hmac.compare_digest(leaf_tag(key, position, sealed), tag):
        raise LeafMismatch("the leaf was changed after it was stored; read another copy")
