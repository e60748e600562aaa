"""What is refused in sessions of blind custody, or is only there for them."""

from .base import RequestError
from .envelope import EnvelopeRefused
from .request import NotFound
from .service import StaleParties


class BlindCustody(RequestError):
    """The gateway would have to seal or open, and holds no identity of the session."""

    code = "blind_custody"
    status = 409
    title = "The session's custody is blind"
    remedy = (
        "Seal here, for a reservation, and send application/age; ask for application/age, and open"
        " it here: 'storage-gateway put' and 'get -i' do."
    )


class NotBlind(RequestError):
    """The gateway is the session's router, and does itself what is asked of it."""

    code = "not_blind"
    status = 409
    title = "The session's custody is not blind"
    remedy = "Leave it to the gateway: it seals what is uploaded, and rewraps when keys change."


class UnknownReservation(NotFound):
    """No reservation of that name for this slot."""

    code = "unknown_reservation"
    title = "Unknown reservation"
    remedy = "Reserve again: POST …/reservations, and seal for what it answers."


class ReservationUsed(RequestError):
    """An upload for the reservation began already: each is for one."""

    code = "reservation_used"
    status = 409
    title = "Reservation used"
    remedy = "Use the object that 'urn' names, if there is one; else reserve again, and seal anew."


class ReservationExpired(RequestError):
    """The reservation's time is over."""

    code = "reservation_expired"
    status = 410
    title = "Reservation expired"
    remedy = "Reserve again, and seal anew for what it answers."


class StaleReservation(StaleParties):
    """A party's key changed since it was told whom to seal for; only the client can seal again."""

    status = 409
    remedy = "Reserve again, or read the manifest again, and seal for the keys that are current."
    retry_after_s = None


class HeaderMismatch(EnvelopeRefused):
    """A head is not one that the reservation, or the head before it, allows."""

    code = "header_mismatch"
    title = "Header is not as it must be"
    remedy = (
        "Seal with the reservation's context, one stanza for each recipient, in the order told; in"
        " a rewrap keep nonce and all other stanzas byte for byte."
    )


class PreconditionRequired(RequestError):
    """A head may only be replaced by who says which one."""

    code = "precondition_required"
    status = 428
    title = "Precondition required"
    remedy = 'Send If-Match with the ETag of the header that was rewrapped, like "g1".'


class GenerationMismatch(RequestError):
    """The head is another one by now."""

    code = "generation_mismatch"
    status = 412
    title = "Header has changed"
    remedy = "Read the header again, and rewrap that of the generation that 'generation' gives."
