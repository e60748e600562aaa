"""Points of Curve25519 as bytes: the exchange, and which of them no party may have as a key.

Only about the curve; it knows neither stanzas nor texts.
Source: RFC 7748, sections 5 and 6.1.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from crypto.primitives import KEY_SIZE
from crypto.secret import Secret

_FIELD_PRIME: Final = 2**255 - 19
# Any clamped scalar takes a point of low order to zero, so one that everybody knows will do.
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(KEY_SIZE)))
_ZERO: Final = bytes(KEY_SIZE)


def parse_point(point: bytes) -> X25519PublicKey:
    """Return the point as the library wants it. Raises ValueError unless it has 32 bytes."""
    return X25519PublicKey.from_public_bytes(point)


def exchange(private: X25519PrivateKey, point: X25519PublicKey) -> Secret | None:
    """Return the shared secret, or None where it is the forbidden zero (RFC 7748, section 6.1)."""
    try:
        shared = private.exchange(point)
    except ValueError:
        return None
    # The library refuses zero itself; this holds should it ever stop to.
    return None if hmac.compare_digest(shared, _ZERO) else Secret(shared)


def is_low_order(point: bytes) -> bool:
    """Return whether the shared secret of this point (32 bytes) with any key is zero."""
    return exchange(_PROBE, parse_point(point)) is None


def find_fault(point: bytes) -> str | None:
    """Return why the point (32 bytes) cannot be a party's public key, None when it can."""
    # A key is hashed as it is: its owner, who computes it anew, could never open.
    if int.from_bytes(point, "little") >= _FIELD_PRIME:
        return "not canonical (RFC 7748, section 5)"
    if is_low_order(point):
        return "a point of low order, which nobody can own"
    return None
