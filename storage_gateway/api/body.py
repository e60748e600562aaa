"""Reading request bodies: bounded, timed, told apart when they break."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from storage_gateway.errors import (
    BodyIncomplete,
    BodyTimeout,
    BodyTooLarge,
    InvalidField,
    InvalidRequest,
    UnsupportedMediaType,
)

from .pace import Pace
from .services import EXPECTATION

T = TypeVar("T")


async def read_pieces(request: web.Request, *, bytes_max: int, pace: Pace) -> AsyncGenerator[bytes]:
    """Yield the body as it comes.

    Raises:
        BodyTooLarge: as soon as it is known to be over ``bytes_max``.
        BodyTimeout: it comes slower than the pace; what we made the sender wait is not counted.
        BodyIncomplete: the connection or the framing broke before the end.

    """
    if request.content_length is not None and request.content_length > bytes_max:
        raise BodyTooLarge(f"the body may have at most {bytes_max} bytes", limit=bytes_max)
    if EXPECTATION in request and request.version >= HttpVersion11:
        # Sent only now, after everything that could be refused without the body was checked.
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    received = 0
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        try:
            if request.content.is_eof():
                piece = await request.content.readany()  # all has come: nothing is waited for
            else:
                async with asyncio.timeout(pace.patience_s()):
                    piece = await request.content.readany()
        except TimeoutError:
            raise BodyTimeout("the body stalls, or comes slower than it must") from None
        except (RequestPayloadError, HttpProcessingError, ConnectionError) as broken:
            # A frame of aiohttp's holds it, and would hold by this one what has come.
            broken.__traceback__ = None
            raise BodyIncomplete("the body broke off") from None
        if not piece:
            return
        received += len(piece)
        pace.moved(len(piece), clock() - began)
        if received > bytes_max:
            raise BodyTooLarge(f"the body may have at most {bytes_max} bytes", limit=bytes_max)
        yield piece


async def read_json(request: web.Request, kind: type[T], *, bytes_max: int, pace: Pace) -> T:
    """Read a JSON body into a typed record; unknown members are errors.

    Raises:
        UnsupportedMediaType, InvalidRequest, InvalidField: not JSON, or not of that form.
        BodyTooLarge, BodyTimeout, BodyIncomplete: as `read_pieces`.

    """
    if request.content_type != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    body = bytearray()
    async for piece in read_pieces(request, bytes_max=bytes_max, pace=pace):
        body += piece
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        # The text names the member and the expected type, never the value.
        raise InvalidField(str(error), field=_member_of(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("the body is not well-formed JSON") from None


def _member_of(text: str) -> str:
    _, found, path = text.rpartition(" - at `$")
    return (path.strip(".`") if found else "") or "body"
