"""The HTTP server below the application: what its parser refuses is told as a problem, too.

aiohttp answers such requests itself, in plain text, with the offending bytes in body and log:
those may hold a token. Here neither shows them.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import _ErrInfo, _RequestFactory
from multidict import CIMultiDict, CIMultiDictProxy

from storage_gateway.config import Config
from storage_gateway.errors import GatewayError, InternalError, MalformedHTTP

from .pace import pace_of
from .problems import problem_response, request_id_of
from .services import EXPECTATION, SERVICES, UNSPOKEN_VERSION

logger = logging.getLogger(__name__)

SPOKEN = (HttpVersion10, HttpVersion11)

UNREAD_MS_MAX = 60_000

RECEIVED_BYTES_MAX = 64 << 10
"""Taken from a socket at once: asyncio's own 256 KiB would wait in every connection."""
READ_BUFFER_SIZE = 32 << 10
"""aiohttp stops receiving at twice as much. With the above: `leaves.PIECE_BYTES_MAX`."""

TAKEN_AT_ONCE = 32 << 10
"""Bytes of an answer that asyncio takes without making the sender wait; its own limit is 64 KiB."""

CUT_OFF_S = 1.0
"""What answers get to be written, and uploads that were cut off to be settled, after the drain."""


class _Handler(web.RequestHandler):
    """One connection."""

    __slots__ = ("_config", "_unread_timer", "_unread_until")

    def __init__(self, manager: web.Server, *, config: Config, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        """``options`` are those of aiohttp's own handler."""
        super().__init__(manager, **options)
        self._config = config
        self._unread_until = 0.0
        self._unread_timer: asyncio.TimerHandle | None = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of an answer, and cut off whoever reads it too slowly.

        aiohttp waits for the most part of it, for ever; the rest is asyncio's, which waits for ever
        too. What the kernel has taken is not counted: it costs us nothing once we have closed.
        """
        transport = self.transport
        size = resp.content_length or 0
        held = 0 if transport is None else transport.get_write_buffer_size()
        never_waits = held + size <= TAKEN_AT_ONCE
        limit_s = None if never_waits else pace_of(self._config).patience_s(size)
        try:
            async with asyncio.timeout(limit_s):
                finished = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if transport is not None:
                transport.abort()
            return resp, True
        if transport is not None and (unread := transport.get_write_buffer_size()):
            patience_s = pace_of(self._config).patience_s(unread)
            self._unread_until = self._loop.time() + patience_s
            if self._unread_timer is None:
                self._unread_timer = self._loop.call_later(
                    patience_s, self._look_at_unread, transport
                )
        return finished

    def _look_at_unread(self, transport: asyncio.Transport) -> None:
        self._unread_timer = None
        # An answer that is under way has its own pace, and what it leaves is looked at again.
        if self._request_in_progress or not transport.get_write_buffer_size():
            return
        if self._loop.time() < self._unread_until:
            until = self._unread_until
            self._unread_timer = self._loop.call_at(until, self._look_at_unread, transport)
        else:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a body whose framing breaks is told so at once.

        aiohttp queues the parser's error behind the request, and leaves the body that it was
        reading without an end: the request would wait for its idle limit.
        """
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            bodies = [body for _, body in self._messages]
            if self._current_request is not None:
                bodies.append(self._current_request.content)
            for body in bodies:
                if not body.is_eof() and body.exception() is None:
                    body.set_exception(web.RequestPayloadError("the framing broke"))
                    body.feed_eof()  # nothing can follow that would be worth waiting for

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer what never reached, or escaped from, the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun already")
        request_id = request_id_of(None)
        error: GatewayError
        if status < web.HTTPInternalServerError.status_code:
            error = MalformedHTTP("the HTTP parser refused the request")
            logger.info(
                "malformed request", extra={"request_id": request_id, "reason": type(exc).__name__}
            )
        else:
            error = InternalError()
            logger.error("unhandled error", exc_info=exc, extra={"request_id": request_id})
        response = problem_response(error, request_id)
        response.force_close()
        return response


def _noting_what_aiohttp_acts_on(make_request: _RequestFactory) -> _RequestFactory:
    """Move two things out of aiohttp's sight, into the request's state, for the application.

    It would answer an expectation before anybody is authenticated, also on paths that are not
    there, and would answer in the very version of HTTP that was asked for, spoken or not.
    """

    def make(
        message: RawRequestMessage,
        body: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        noted: dict[web.RequestKey[str], str] = {}
        if message.version not in SPOKEN:
            noted[UNSPOKEN_VERSION] = f"{message.version.major}.{message.version.minor}"
            message = message._replace(version=HttpVersion11)
        if hdrs.EXPECT in message.headers:
            headers = CIMultiDict(message.headers)
            noted[EXPECTATION] = ", ".join(headers.popall(hdrs.EXPECT))
            message = message._replace(headers=CIMultiDictProxy(headers))
        request = make_request(message, body, protocol, writer, task)
        for key, value in noted.items():
            request[key] = value
        return request

    return make


class _Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    def __init__(self, plain: web.Server, *, config: Config, on_lost: Callable[[], None]) -> None:
        self._config = config
        self._on_lost = on_lost
        super().__init__(
            plain.request_handler,
            request_factory=_noting_what_aiohttp_acts_on(plain.request_factory),
            **plain._kwargs,  # noqa: SLF001 - aiohttp has no public way to name the handler class
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection; those over the limit are cut before they cost a descriptor more."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._config.connections_max:
            # Not at once: aiohttp's own task has to see the connection first.
            self._loop.call_soon(transport.abort)
            return
        transport.max_size = RECEIVED_BYTES_MAX  # type: ignore[attr-defined]  # not in the base
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Nothing above notices that a peer does not take what the kernel holds for it.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS_MAX)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Tell that a connection has ended."""
        super().connection_lost(handler, exc)
        self._on_lost()

    def __call__(self) -> web.RequestHandler:
        return _Handler(self, config=self._config, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """Runs the application on a server whose every answer is ours."""

    def __init__(self, app: web.Application, *, on_lost: Callable[[], None] = lambda: None) -> None:
        """Requests under way have ``drain_s`` seconds to end once `cleanup` is called.

        ``on_lost`` is called for each connection that has ended.
        """
        super().__init__(app, shutdown_timeout=CUT_OFF_S)
        self._config = app[SERVICES].config
        self._on_lost = on_lost

    async def cleanup(self) -> None:
        """Stop listening, let what is under way end, then cut off the rest.

        aiohttp's own shutdown drops all that still arrives on a connection: waiting there, an
        upload could never end.
        """
        for site in list(self.sites):
            await site.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self.app[SERVICES].under_way.wait_none()
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        return _Server(
            await super()._make_server(),
            config=self._config,
            on_lost=self._on_lost,
        )
