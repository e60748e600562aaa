"""What requests may ask for in sessions of blind custody, and what only they name."""

from aiohttp import hdrs, web

from storage_gateway.blind import look_at_reservation
from storage_gateway.catalog import Unit
from storage_gateway.catalog.blind import Reservation
from storage_gateway.errors import BlindCustody, InvalidField, NotAcceptable, NotBlind
from storage_gateway.records import BLIND, Manifest, Session, Slot
from urn import ObjectName, URNError, parse_name

from .representations import PLAINTEXT_TYPE, SEALED_TYPE, preferred

PARAMETER = "reservation"
_URN = "urn:"


def reserved(request: web.Request, slot: Slot) -> Unit[Reservation | None]:
    """Return the unit that finds the reservation which an upload names, by URN or object id."""
    text = request.query.get(PARAMETER)
    if text is None:
        return lambda _connection: None
    name = text if text.startswith(_URN) else f"urn:blob:v4:{text}"
    try:
        parsed = parse_name(name)
    except URNError as error:
        raise InvalidField(str(error), field=PARAMETER) from None
    if not isinstance(parsed, ObjectName):
        raise InvalidField("the reservation is no object's name", field=PARAMETER)
    return look_at_reservation(parsed.object_id, slot)


def check_custody(request: web.Request, session: Session, reservation: Reservation | None) -> None:
    """Refuse what would have the gateway seal for a session that it holds no identity of.

    Raises:
        BlindCustody: the upload is in clear.
        InvalidField: it names no reservation.

    """
    if session.custody != BLIND:
        return
    if request.content_type != SEALED_TYPE:
        raise BlindCustody("the upload is not application/age: it would come in clear")
    if reservation is None:
        raise InvalidField(
            "an upload of blind custody is sealed for a reservation: POST …/reservations, and name"
            " it: ?reservation=<urn>",
            field=PARAMETER,
        )


def require_blind(manifest: Manifest) -> None:
    """Raise NotBlind for an object whose head the gateway itself makes."""
    if manifest.custody != BLIND:
        raise NotBlind("the gateway wraps and rewraps this session's objects itself")


def offered_kind(request: web.Request, manifest: Manifest) -> str:
    """Return the media type that an object is sent as.

    Raises:
        NotAcceptable: none that there is.
        BlindCustody: plaintext alone, which is not there to be had.

    """
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    if manifest.custody != BLIND:
        return preferred(accept, (SEALED_TYPE, PLAINTEXT_TYPE))
    try:
        return preferred(accept, (SEALED_TYPE,))
    except NotAcceptable:
        preferred(accept, (PLAINTEXT_TYPE,))
        raise BlindCustody("the gateway cannot open what it holds") from None
