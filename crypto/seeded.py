"""Identities that come of a seed and a salt: of ours, no other tool derives them.

Who erases the salt has erased the identity, though the seed stays.
Source: ours; HKDF as in RFC 5869.
"""

from __future__ import annotations

from typing import Final

from crypto import labels
from crypto.errors import IdentityError
from crypto.hybrid import HybridIdentity
from crypto.keys import CLASSIC, HYBRID, Identity
from crypto.primitives import derive
from crypto.secret import Secret
from crypto.x25519 import X25519Identity

SEED_SIZE_MIN: Final = 32
SALT_SIZE: Final = 32


def seeded_identity(seed: Secret, salt: bytes, key_class: str) -> Identity:
    """Return the one identity of that class which seed and salt make.

    Raises IdentityError for a seed that is too short, a salt of another size, an unknown class.
    """
    if len(seed) < SEED_SIZE_MIN:
        raise IdentityError(f"a seed has at least {SEED_SIZE_MIN} bytes, not {len(seed)}")
    if len(salt) != SALT_SIZE:
        raise IdentityError(f"a salt has {SALT_SIZE} bytes, not {len(salt)}")
    if key_class not in (CLASSIC, HYBRID):
        raise IdentityError("an identity is of class classic or hybrid")
    key = derive(seed, labels.ROUTER_SEED + b"/" + key_class.encode(), salt=salt)
    return X25519Identity(key) if key_class == CLASSIC else HybridIdentity(key)
