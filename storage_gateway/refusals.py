"""What is wrong with a sealed upload, or with a wish of how long things stay, as the caller is
told.
"""

from crypto import (
    ClassMismatch,
    ContextMismatch,
    CryptoError,
    HeaderSizeError,
    NoIdentityMatch,
    PayloadError,
    StanzaLimitError,
)
from retention import LifetimeTooLong, LifetimeTooShort, RetentionError

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


def refused_wish(error: RetentionError, field: str) -> errors.RequestError:
    """Return what a wish of how long something stays is refused with."""
    if isinstance(error, LifetimeTooLong):
        return errors.LifetimeTooLong(str(error), field=field)
    if isinstance(error, LifetimeTooShort):
        return errors.LifetimeTooShort(str(error), field=field)
    return errors.InvalidField(str(error), field=field)
