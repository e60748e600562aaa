"""What holds for every request: an id, one shape of answer, one log line, no content coding."""

import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from storage_gateway.errors import (
    Draining,
    Forbidden,
    GatewayError,
    InternalError,
    InvalidRequest,
    MalformedHTTP,
    MethodNotAllowed,
    NotFound,
    UnsupportedEncoding,
)
from storage_gateway.metrics import CUT_OFF
from storage_gateway.raising import fresh

from .pace import wait_read
from .problems import (
    COMMON_HEADERS,
    REQUEST_ID_HEADER,
    is_for_the_operator,
    problem_response,
    request_id_of,
)
from .services import EXPECTATION, FOR_ANYBODY, REQUEST_ID, SERVICES, UNSPOKEN_VERSION

logger = logging.getLogger(__name__)

DAMAGE = ("urn", "segment", "copies_left")
"""What problems of damage say beside what all problems do."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, turn every error into a problem document, write the log line."""
    # Not yet under way: a stop does not wait for those who do not read.
    await wait_read(request, request.app[SERVICES].config)
    with request.app[SERVICES].under_way.request():
        return await _answer(request, handler)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    request_id = request_id_of(request.headers.get(REQUEST_ID_HEADER))
    request[REQUEST_ID] = request_id
    began = time.perf_counter()
    status = CUT_OFF
    try:
        response, error = await _handled(request, handler, request_id)
        status = str(response.status)
    finally:
        seconds = time.perf_counter() - began
        request.app[SERVICES].metrics.observe_request(
            _method_of(request), _route_of(request), status, seconds
        )
    logger.info(
        "request",
        extra={
            "request_id": request_id,
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "code": error.code if error else None,
            "seconds": round(seconds, 4),
        },
    )
    return response


async def _handled(
    request: web.Request, handler: Handler, request_id: str
) -> tuple[web.StreamResponse, GatewayError | None]:
    """Return the answer, and the error that it tells of.

    Raises:
        ConnectionError: the client is gone, or the answer had to be broken off.

    """
    allowed = None
    try:
        _check_request(request)
        return await handler(request), None
    except GatewayError as raised:
        error = fresh(raised)  # else it would hold the body until the collector runs
    except web.HTTPMethodNotAllowed as raised:
        error = MethodNotAllowed(f"{request.method} is not a method of this path")
        allowed = raised.allowed_methods
    except web.HTTPNotFound:
        error = NotFound("no such path")
    except web.HTTPException as raised:
        error = InvalidRequest(raised.reason)
    except ConnectionError as gone:
        logger.info("client gone", extra={"request_id": request_id})
        gone.__traceback__ = None  # aiohttp holds it in a cycle, and by it what was being sent
        raise
    except Exception:
        logger.exception("unhandled error", extra={"request_id": request_id})
        error = InternalError()
    return _told(request, error, request_id, allowed), error


def _method_of(request: web.Request) -> str:
    """Return the method if it is one of HTTP's own: any other is anybody's text."""
    return request.method if request.method in hdrs.METH_ALL else "other"


def _route_of(request: web.Request) -> str:
    """Return the path as the route table has it; a path that is not in it is anybody's text."""
    resource = request.match_info.route.resource
    return "none" if resource is None else resource.canonical


def _told(
    request: web.Request, error: GatewayError, request_id: str, allowed: set[str] | None
) -> web.Response:
    for_anybody = FOR_ANYBODY in request
    if for_anybody and is_for_the_operator(error):
        told = {"request_id": request_id, "code": error.code, "detail": error.detail}
        logger.warning("failed for a stranger", extra=told | _damage_of(error))
    if request.writer.output_size > 0:
        # Half an answer is out already. A clean end would mark a truncated body as whole.
        told = {"request_id": request_id, "code": error.code}
        logger.error("answer broken off", extra=told | _damage_of(error))
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("answer broken off") from error
    response = problem_response(error, request_id, allowed=allowed, for_anybody=for_anybody)
    if not request.content.is_eof() or request.content.exception() is not None:
        response.force_close()
    return response


def _damage_of(error: GatewayError) -> dict[str, object]:
    """Return what an error says of a damaged object, if it is about one."""
    return {name: error.extensions[name] for name in DAMAGE if name in error.extensions}


def _check_request(request: web.Request) -> None:
    services = request.app[SERVICES]
    if UNSPOKEN_VERSION in request:
        raise MalformedHTTP("only HTTP/1.1 and HTTP/1.0 are spoken here")
    # A process that drains is alive: whoever asks for its health must not kill it.
    if services.draining and request.path != "/healthz":
        raise Draining("this process is shutting down")
    proxy = services.config.behind_proxy
    if proxy is not None and not _comes_from(request.remote, proxy):
        raise Forbidden("only the reverse proxy may connect")
    codings = request.headers.getall(hdrs.CONTENT_ENCODING, [])
    if any(coding.lower() != "identity" for coding in codings):
        raise UnsupportedEncoding("the body has a Content-Encoding")
    if request.headers.get(hdrs.TRANSFER_ENCODING, "chunked").strip().lower() != "chunked":
        raise UnsupportedEncoding("the only transfer coding that is undone is chunked")
    if request.get(EXPECTATION, "100-continue").lower() != "100-continue":
        raise InvalidRequest("the only expectation that is met is 100-continue")


def _comes_from(remote: str | None, cidr: str) -> bool:
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    return address.is_loopback or address in ipaddress.ip_network(cidr)


async def set_common_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add what every answer carries; streams have no later chance."""
    response.headers.setdefault(REQUEST_ID_HEADER, request.get(REQUEST_ID, ""))
    response.headers.update(COMMON_HEADERS)
