"""What is wrong with a sealed upload, as the caller is told."""

from crypto import (
    ClassMismatch,
    ContextMismatch,
    CryptoError,
    HeaderSizeError,
    NoIdentityMatch,
    PayloadError,
    StanzaLimitError,
)

from . import errors

_REFUSALS: tuple[tuple[type[CryptoError], type[errors.EnvelopeRefused]], ...] = (
    (StanzaLimitError, errors.TooManyStanzas),
    (HeaderSizeError, errors.HeaderTooLarge),
    (ClassMismatch, errors.WrongClass),
    (NoIdentityMatch, errors.NotForRouter),
    (ContextMismatch, errors.ForeignContext),
    (PayloadError, errors.PayloadRefused),
)


def refusal_of(error: CryptoError) -> errors.EnvelopeRefused:
    """Return what a sealed upload with this fault is refused with."""
    for kind, refused in _REFUSALS:
        if isinstance(error, kind):
            return refused(str(error))
    return errors.EnvelopeRefused(str(error))
