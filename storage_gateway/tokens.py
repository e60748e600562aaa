"""Bearer tokens: made here, stored as digests only. Pure but for randomness, which is an argument.

A token carries 256 random bits, so a plain SHA-256 is a safe thing to store: there is nothing to
guess. The kind in front is for people who find one lying about; nothing relies on it.
"""

import base64
import hashlib
import os
from collections.abc import Callable

from .records import TokenKind

TOKEN_RANDOM_BYTES = 32
TOKEN_LENGTH_MIN = 40
"""For tokens that an operator made: 32 random bytes are 43 characters of base64."""
TOKEN_LENGTH_MAX = 128


def new_token(kind: TokenKind, random: Callable[[int], bytes] = os.urandom) -> str:
    """Return a fresh token, to be shown once."""
    secret = base64.b32encode(random(TOKEN_RANDOM_BYTES)).decode("ascii").rstrip("=").lower()
    return f"sg_{kind.value}_{secret}"


def token_digest(token: str) -> bytes:
    """Return the SHA-256 digest, 32 bytes, that a token is stored and found by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
