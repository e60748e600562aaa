"""Identities for one scope, derived from another: for files that are sealed before they are sent.

A file that a stock tool sealed says nothing of where it belongs: no context is in it. So whoever
takes such files shows a recipient of its own for each scope, and a file sealed for one scope opens
in no other. What is derived is bound to the identity, and is gone with it.
Source: ours; HKDF as in RFC 5869.
"""

from __future__ import annotations

from crypto import labels
from crypto.errors import IdentityError
from crypto.hybrid import HybridIdentity
from crypto.keys import Identity
from crypto.primitives import derive
from crypto.x25519 import X25519Identity


def intake_identity(identity: Identity, scope: str) -> Identity:
    """Return the identity, of the same class, that opens what was sealed for `scope` (ASCII) and
    nothing else.

    Raises IdentityError for an identity of a class that is not known, and for another scope.
    """
    if not scope.isascii():
        raise IdentityError("the scope of an intake identity must be ASCII")
    salt = scope.encode("ascii")
    if isinstance(identity, X25519Identity):
        return X25519Identity(derive(identity.key, labels.INTAKE, salt=salt))
    if isinstance(identity, HybridIdentity):
        return HybridIdentity(derive(identity.key, labels.INTAKE_HYBRID, salt=salt))
    raise IdentityError("an intake identity is derived from an X25519 or a hybrid identity")
