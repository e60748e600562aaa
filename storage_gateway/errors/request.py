"""What the caller must change."""

from .base import RequestError


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


class UnknownJob(NotFound):
    """No such job, or one of another session."""

    code = "unknown_job"
    title = "Unknown job"
    remedy = "GET /v1/jobs lists the jobs that are known; of those that have ended only the newest."


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
