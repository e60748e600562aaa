"""What a recipient and an identity are, whatever their class; no key material here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Protocol

from crypto.errors import ClassMismatch, RecipientError
from crypto.header import Stanza
from crypto.primitives import Random
from crypto.secret import Secret

CLASSIC: Final = "classic"
HYBRID: Final = "hybrid"


class Recipient(Protocol):
    """A party's public key: wraps file keys. Equal when the key is equal; `str()` is its text."""

    @property
    def key_class(self) -> str:
        """CLASSIC or HYBRID."""
        ...

    def wrap(self, file_key: Secret, *, random: Random = os.urandom) -> Stanza:
        """Return a stanza that only the identity opens; fresh randomness in every call.

        Raises SelfCheckError when the stanza does not open to the same file key.
        """
        ...

    def check_stanza(self, stanza: Stanza) -> None:
        """Raise HeaderError unless the stanza has the shape of one of this type of recipient.

        Nobody can tell from outside for whom a stanza is, or whether it opens.
        """
        ...


class Identity(Protocol):
    """A party's private key: unwraps file keys."""

    @property
    def key_class(self) -> str:
        """CLASSIC or HYBRID."""
        ...

    def to_text(self) -> str:
        """Return the private key as text; the caller must not log it."""
        ...

    def recipient(self) -> Recipient:
        """Return the public half."""
        ...

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key, or None when the stanza is for someone else.

        Raises HeaderError when it is of this type of key and malformed; that is final, no other
        stanza may be tried (https://age-encryption.org/v1).
        """
        ...


def common_class(recipients: Sequence[Recipient]) -> str:
    """Return the one class of all recipients.

    Raises RecipientError when there are none, ClassMismatch when they differ.
    """
    classes = sorted({recipient.key_class for recipient in recipients})
    if not classes:
        raise RecipientError("at least one recipient is needed; nobody could open the object")
    if len(classes) > 1:
        raise ClassMismatch(
            "classic and hybrid recipients in one header: the weaker would open it; "
            "give every party a key of the session's class"
        )
    return classes[0]
