"""Server-sent events: how something is, whenever it has changed, until its end.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from aiohttp import web

from .services import SERVICES

T = TypeVar("T")


async def send_events(
    request: web.Request,
    rows: AsyncGenerator[T],
    *,
    document_of: Callable[[T], dict[str, Any]],
    has_ended: Callable[[T], bool],
) -> web.StreamResponse:
    """Send each row as ``progress``, the last one as ``end``."""
    services = request.app[SERVICES]
    response = web.StreamResponse(headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    async with aclosing(rows):
        async for row in rows:
            if services.draining:  # the reader comes back, elsewhere
                break
            kind = "end" if has_ended(row) else "progress"
            await response.write(
                f"event: {kind}\ndata: {json.dumps(document_of(row))}\n\n".encode()
            )
    await response.write_eof()
    return response
