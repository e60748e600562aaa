"""The root of all errors, and its two branches."""

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


class ServiceError(GatewayError):
    """The service is at fault for now."""

    retry_after_s: ClassVar[int | None] = 5

    code = "unavailable"
    status = 503
    title = "Service unavailable"
    remedy = "Try again after the time in Retry-After."


class InternalError(GatewayError):
    """A fault of this program; the log has the trace under the request_id."""
