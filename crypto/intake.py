"""Identities for one scope, derived from another: for files that are sealed before they are sent.

A file that a stock tool sealed says nothing of where it belongs: no context is in it. So whoever
takes such files shows a recipient of its own for each scope, and a file sealed for one scope opens
in no other. What is derived is bound to the identity, and is gone with it.
Source: ours; HKDF as in RFC 5869.
"""

from __future__ import annotations

from crypto import labels
from crypto.errors import IdentityError
from crypto.keys import Identity
from crypto.primitives import derive
from crypto.x25519 import X25519Identity


def intake_identity(identity: Identity, scope: str) -> X25519Identity:
    """Return the identity that opens what was sealed for `scope` (ASCII) and nothing else.

    Raises IdentityError for an identity of another class than classic, and for another scope.
    """
    if not scope.isascii():
        raise IdentityError("the scope of an intake identity must be ASCII")
    if not isinstance(identity, X25519Identity):
        raise IdentityError("an intake identity is derived from an X25519 identity only")
    return X25519Identity(derive(identity.key, labels.INTAKE, salt=scope.encode("ascii")))
