"""Every error that the package raises, as types.

    CryptoError
    ├── EnvelopeError             a sealed file, or a part of one, is not acceptable
    │   ├── HeaderError           the header breaks the format
    │   │   ├── HeaderSizeError   ... by being longer than HEADER_SIZE_MAX
    │   │   └── StanzaLimitError  ... by holding more than STANZAS_MAX stanzas
    │   ├── NoIdentityMatch       no identity at hand opens any stanza
    │   ├── HeaderMACError        the header was changed after it was made
    │   ├── PayloadError          a chunk is missing, changed, out of place or cut short
    │   └── ContextMismatch       the envelope belongs to another object, or to none
    ├── RecipientError            the text or the key of a recipient is not acceptable
    ├── IdentityError             the text or the key of an identity is not acceptable
    ├── ClassMismatch             classic and hybrid would meet in one header
    ├── ContextError              the fields or the bytes of a context are malformed
    ├── MetaError                 a meta stanza is too large or malformed
    ├── CopyError                 a copy of a record does not open, or is none of ours
    ├── PossessionError           an answer proves nothing of the identity
    ├── LeafMismatch              a stored leaf does not have its tag
    ├── SealerReuse               a second use of what seals once
    └── SelfCheckError            what was just made does not open again: faulty memory or a bug

Callers tell errors apart by type, never by text. No text holds key, header or payload bytes.
"""

from __future__ import annotations


class CryptoError(Exception):
    """The root of all errors of this package."""


class EnvelopeError(CryptoError):
    """A sealed file, or a part of one, is not acceptable."""


class HeaderError(EnvelopeError):
    """The header breaks the format."""


class HeaderSizeError(HeaderError):
    """The header is longer than HEADER_SIZE_MAX."""


class StanzaLimitError(HeaderError):
    """The header holds more than STANZAS_MAX stanzas."""


class NoIdentityMatch(EnvelopeError):
    """No identity at hand opens any stanza of the header."""


class HeaderMACError(EnvelopeError):
    """The header was changed after it was made."""


class PayloadError(EnvelopeError):
    """A chunk is missing, changed, out of place or cut short.

    `chunk` is the number of the chunk at fault, counted from 0 in the payload, or None where the
    fault lies in a length and no chunk was looked at.
    """

    def __init__(self, message: str, *, chunk: int | None = None) -> None:
        """Keep the number of the chunk beside the text."""
        super().__init__(message)
        self.chunk = chunk


class ContextMismatch(EnvelopeError):
    """The envelope belongs to another object, or to none."""


class RecipientError(CryptoError):
    """The text or the key of a recipient is not acceptable."""


class IdentityError(CryptoError):
    """The text or the key of an identity is not acceptable."""


class ClassMismatch(CryptoError):
    """Classic and hybrid would meet in one header."""


class ContextError(CryptoError):
    """The fields or the bytes of a context are malformed."""


class MetaError(CryptoError):
    """A meta stanza is too large or malformed."""


class CopyError(CryptoError):
    """A copy of a record does not open, or was not made by this deployment for that name."""


class PossessionError(CryptoError):
    """What is sent does not show that a recipient's identity is at hand."""


class LeafMismatch(CryptoError):
    """A stored leaf does not have its tag."""


class SealerReuse(CryptoError):
    """A second use of what seals once."""


class SelfCheckError(CryptoError):
    """What was just made does not open again: faulty memory or a bug; nothing of it may be kept."""
