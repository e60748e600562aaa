"""Sending what is verified piece by piece, and telling a client that it has it already."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import hdrs, web

from .pace import pace_of
from .services import SERVICES

SLICE_SIZE = 256 << 10


async def send_pieces(
    request: web.Request,
    response: web.StreamResponse,
    pieces: AsyncGenerator[bytes | bytearray] | AsyncGenerator[bytes],
) -> None:
    """Send verified pieces; the answer begins only when the first one is there."""
    pace = pace_of(request.app[SERVICES].config)
    clock = asyncio.get_running_loop().time
    async with aclosing(pieces):
        async for piece in pieces:
            if not response.prepared:
                await response.prepare(request)
            # By the slice: what the kernel does not take at once is copied, and kept, by asyncio.
            for start in range(0, len(piece), SLICE_SIZE):
                part = memoryview(piece)[start : start + SLICE_SIZE]
                began = clock()
                try:
                    async with asyncio.timeout(pace.patience_s(len(part))):
                        await response.write(part)
                except TimeoutError:
                    # Whoever does not read holds memory, and the connection, for ever.
                    if request.transport is not None:
                        request.transport.abort()
                    raise ConnectionResetError("the reader is too slow") from None
                pace.moved(len(part), clock() - began)
                del part
            del piece  # not to be held while the next one is waited for
    await response.write_eof()


def matches(request: web.Request, *etags: str) -> bool:
    """Evaluate If-None-Match by weak comparison (RFC 9110, section 13.1.2)."""
    sent = [
        tag.strip().removeprefix("W/")
        for value in request.headers.getall(hdrs.IF_NONE_MATCH, [])
        for tag in value.split(",")
    ]
    return "*" in sent or not set(etags).isdisjoint(sent)
