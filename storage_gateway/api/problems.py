"""Errors as problem documents (RFC 9457): one shape for every refusal and failure."""

import json
import re
import secrets

from aiohttp import web

from storage_gateway.errors import GatewayError, ServiceError

PROBLEM_TYPE = "application/problem+json"
REQUEST_ID_HEADER = "X-Request-ID"
COMMON_HEADERS = {"Server": "storage-gateway", "X-Content-Type-Options": "nosniff"}
"""On every answer, also on those that never reach the application."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def request_id_of(sent: str | None) -> str:
    """Return the caller's request id when it is harmless to repeat, else a fresh one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return secrets.token_hex(8)


def is_for_the_operator(error: GatewayError) -> bool:
    """Tell whether an error's detail may name stores, keys in them and objects."""
    return isinstance(error, ServiceError)


def problem_response(
    error: GatewayError,
    request_id: str,
    *,
    allowed: set[str] | None = None,
    for_anybody: bool = False,
) -> web.Response:
    """Return the problem document of an error, with the headers that go with its status.

    ``for_anybody``: nothing of it that is for the operator.
    """
    detail, remedy, extensions = error.detail, error.remedy, error.extensions
    if for_anybody and is_for_the_operator(error):
        passes = error.retry_after_s is not None
        remedy = ServiceError.remedy if passes else GatewayError.remedy
        detail, extensions = error.title, {}
    document = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": detail,
        "code": error.code,
        "remedy": remedy,
        "request_id": request_id,
        **extensions,
    }
    response = web.Response(
        status=error.status,
        body=f"{json.dumps(document)}\n".encode(),
        content_type=PROBLEM_TYPE,
        headers={REQUEST_ID_HEADER: request_id, "Cache-Control": "no-store", **COMMON_HEADERS},
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == web.HTTPUnauthorized.status_code:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == web.HTTPRequestRangeNotSatisfiable.status_code:
        response.headers["Content-Range"] = f"bytes */{error.extensions['size']}"
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response
