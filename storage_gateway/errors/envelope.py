"""What is wrong with a sealed upload."""

from .base import RequestError


class EnvelopeRefused(RequestError):
    """A sealed upload is not an age file that this session takes."""

    code = "malformed_envelope"
    status = 422
    title = "Malformed age file"
    remedy = "Seal with age v1 (binary, not armored) to the router's recipient of the session."


class TooManyStanzas(EnvelopeRefused):
    """The header has more stanzas than the limit."""

    code = "too_many_stanzas"
    title = "Too many stanzas"
    remedy = "Seal to fewer recipients; the router's alone is enough."


class HeaderTooLarge(EnvelopeRefused):
    """The age header is over the limit."""

    code = "header_too_large"
    title = "age header too large"
    remedy = "Seal to fewer recipients; the router's alone is enough."


class WrongClass(EnvelopeRefused):
    """A recipient of another class than the session's."""

    code = "class_mismatch"
    title = "Recipient class mismatch"
    remedy = "Use recipients of the session's class only; classic and hybrid never mix."


class NotForRouter(EnvelopeRefused):
    """The router's identity opens no stanza of the header."""

    code = "not_for_router"
    title = "Not sealed to the router"
    remedy = "Seal to 'parties.router.recipient' of the session (and to nobody else if you like)."


class ForeignContext(EnvelopeRefused):
    """The file carries a context: it was sealed for another object."""

    code = "foreign_context"
    title = "Sealed for another object"
    remedy = "Open the file and seal its content anew."


class PayloadRefused(EnvelopeRefused):
    """The payload is truncated, extended or altered."""

    code = "payload_invalid"
    title = "Payload does not verify"
    remedy = "Upload the whole, unaltered file; nothing of this attempt was kept."
