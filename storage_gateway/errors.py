"""Every error that leaves the gateway: one class, one ``code``, one status, one remedy.

    GatewayError
    |- RequestError ........ the caller must change the request
    |  |- EnvelopeRefused .. a sealed upload that is not acceptable
    |  |- InvalidRequest, InvalidField, InvalidURN, UnsupportedEncoding, NotAcceptable, ...
    |  |- Unauthenticated, TokenExpired, Forbidden
    |  |- NotFound, UnknownSession, ForeignName, Erased
    |  |- SlotBusy, SlotTaken, SessionExists, CIDSuperseded, FileKeyReused
    |  `- BodyTooLarge, BodyIncomplete, BodyTimeout
    `- ServiceError ........ the service is at fault; Retry-After where trying again helps
       |- Draining, Busy, CatalogUnavailable, BackendUnavailable, IntentLost, StorageFull
       |- StaleParties, PlacementImpossible
       `- BlobMissing, BlobCorrupt, InternalError

``detail`` goes to the caller and to logs: it never holds a key, a token, a header or a payload.
"""

from typing import ClassVar


class GatewayError(Exception):
    """Base of all; the HTTP layer turns it into problem+json (RFC 9457)."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    remedy: ClassVar[str] = "Report the request_id to the operator."
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str = "", **extensions: str | int | list[str]) -> None:
        """``extensions`` become members of the problem document."""
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extensions = extensions


class RequestError(GatewayError):
    """The request is at fault; sending it again unchanged cannot help."""

    code = "invalid_request"
    status = 400
    title = "Invalid request"
    remedy = "Correct the request as the detail says."


class InvalidRequest(RequestError):
    """The request's form is wrong (HTTP syntax, JSON syntax)."""


class MalformedHTTP(RequestError):
    """The HTTP parser could not read the request."""

    code = "malformed_http"
    title = "Malformed HTTP request"
    remedy = "Send well-formed HTTP/1.1 within the header limits."


class InvalidField(RequestError):
    """A field, parameter or identifier has an unacceptable value."""

    code = "invalid_field"
    status = 422
    title = "Invalid field"
    remedy = "Correct the field that 'field' names."


class InvalidURN(RequestError):
    """The name in the path is not a URN that this gateway reads."""

    code = "invalid_urn"
    title = "Invalid URN"
    remedy = "Send a name of the form urn:blob:v4:<object-id>, as it was answered at upload."


class UnsupportedEncoding(RequestError):
    """The body carries a content coding."""

    code = "unsupported_encoding"
    status = 415
    title = "Content coding not supported"
    remedy = "Send the body without Content-Encoding."


class UnsupportedMediaType(RequestError):
    """A JSON body was expected."""

    code = "unsupported_media_type"
    status = 415
    title = "Media type not supported"
    remedy = "Send application/json."


class NotAcceptable(RequestError):
    """None of the representations that the caller may have matches Accept."""

    code = "not_acceptable"
    status = 406
    title = "Not acceptable"
    remedy = "Ask for application/age (the sealed file) or application/octet-stream (plaintext)."


class Unauthenticated(RequestError):
    """No token, or one that is not known."""

    code = "unauthenticated"
    status = 401
    title = "Authentication required"
    remedy = "Send 'Authorization: Bearer <token>' with a token of this deployment."


class TokenExpired(RequestError):
    """The token was known but its time is over, or it was revoked."""

    code = "token_expired"
    status = 401
    title = "Token expired"
    remedy = "Ask the operator for a new token."


class Forbidden(RequestError):
    """The token is good but does not allow this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"
    remedy = "Use a token of the party that may do this."


class NotFound(RequestError):
    """Nothing there, or nothing that this token may know of (the two are told alike)."""

    code = "not_found"
    status = 404
    title = "Not found"
    remedy = "Check the name and the token's session."


class UnknownSession(NotFound):
    """No such session."""

    code = "unknown_session"
    title = "Unknown session"
    remedy = "Open the session first: POST /v1/sessions."


class ForeignName(NotFound):
    """A well-formed name of the network that this catalog has no alias for."""

    code = "foreign_name"
    title = "Foreign name"
    remedy = "Resolve v1 to v3 names where they were minted, or have the operator import them."


class MethodNotAllowed(RequestError):
    """The route exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"
    remedy = "Use one of the methods in the Allow header."


class Erased(RequestError):
    """The object was erased; its tombstone remains."""

    code = "erased"
    status = 410
    title = "Erased"
    remedy = "The object cannot be read any more; upload under another task if it is needed."


class SlotBusy(RequestError):
    """Another upload to the same slot is under way."""

    code = "slot_busy"
    status = 409
    title = "Slot busy"
    remedy = "Wait for its end: ask 'status_url', if there is one, or list the session's objects."
    retry_after_s = 5


class SlotTaken(RequestError):
    """The slot already holds an object."""

    code = "slot_taken"
    status = 409
    title = "Slot taken"
    remedy = "Use the object that 'urn' names; if it was erased, upload under another task."


class SessionExists(RequestError):
    """A session with this id exists."""

    code = "session_exists"
    status = 409
    title = "Session exists"
    remedy = "Choose another session_id, or use the session that exists."


class CIDSuperseded(RequestError):
    """The name pins a payload that is no longer the object's."""

    code = "cid_superseded"
    status = 409
    title = "CID superseded"
    remedy = "Use the bare URN, or pin the current CID that 'cid' gives."


class FileKeyReused(RequestError):
    """A sealed upload whose file key was seen before: a file key seals one byte string, ever."""

    code = "file_key_reused"
    status = 409
    title = "File key reused"
    remedy = "Seal the content anew, so that it gets a fresh file key, and upload that."


class BodyTooLarge(RequestError):
    """The body is over the limit."""

    code = "body_too_large"
    status = 413
    title = "Body too large"
    remedy = "Send at most as many bytes as 'limit' says."


class BodyIncomplete(RequestError):
    """The body ended early or its framing broke."""

    code = "body_incomplete"
    title = "Body incomplete"
    remedy = "Send the whole body again; nothing of this attempt was kept."


class BodyTimeout(RequestError):
    """No byte of the body came for too long."""

    code = "body_timeout"
    status = 408
    title = "Body timed out"
    remedy = "Send the whole body again without long pauses; nothing of this attempt was kept."


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


class ServiceError(GatewayError):
    """The service is at fault for now."""

    retry_after_s: ClassVar[int | None] = 5

    code = "unavailable"
    status = 503
    title = "Service unavailable"
    remedy = "Try again after the time in Retry-After."


class Draining(ServiceError):
    """The process is shutting down."""

    code = "draining"
    title = "Shutting down"
    retry_after_s = 2


class Busy(ServiceError):
    """As many uploads and downloads as one process takes are under way."""

    code = "busy"
    title = "Too many transfers"
    retry_after_s = 2


class CatalogUnavailable(ServiceError):
    """The catalog cannot be read or written."""

    code = "catalog_unavailable"
    title = "Catalog unavailable"


class BackendUnavailable(ServiceError):
    """A store cannot be reached, or does not answer as itself."""

    code = "backend_unavailable"
    title = "Storage backend unavailable"


class PlacementImpossible(ServiceError):
    """A session wants stores, or a quorum of them, that the deployment does not have any more."""

    code = "placement_impossible"
    title = "Wanted stores are not configured"
    remedy = "Have the operator configure what the detail names, or open another session."
    retry_after_s = None


class StorageFull(ServiceError):
    """A store has no room left."""

    code = "storage_full"
    status = 507
    title = "Storage full"
    remedy = "Free or add space on the store; the upload can then be sent again."
    retry_after_s = 60


class IntentLost(ServiceError):
    """The upload was claimed from this process, or its lease ran out, before it could commit."""

    code = "intent_lost"
    title = "Upload was interrupted"
    remedy = "Send the upload again; nothing of this attempt was kept."


class StaleParties(ServiceError):
    """The parties of a session, or their keys, changed while an upload was sealed for them."""

    code = "stale_parties"
    title = "Keys changed meanwhile"
    remedy = "Send the upload again: it is then sealed for the keys that are current."


class BlobMissing(ServiceError):
    """A store that answers as itself does not have a blob that it should have."""

    code = "blob_missing"
    status = 500
    title = "Stored bytes are missing"
    remedy = "Run 'storage-gateway check'; restore the named blob from a backup of the store."
    retry_after_s = None


class BlobCorrupt(ServiceError):
    """Stored bytes do not have the digest that the manifest gives."""

    code = "blob_corrupt"
    status = 500
    title = "Stored bytes are damaged"
    remedy = "Run 'storage-gateway check'; restore the named blob from a backup of the store."
    retry_after_s = None


class InternalError(GatewayError):
    """A fault of this program; the log has the trace under the request_id."""
