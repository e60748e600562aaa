"""A site that does not listen: its connections are handed to it by the parent process."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from storage_gateway.line import LineEnded, Report, WorkerEnd

TAKEN_AT_ONCE_MAX = 16
"""Connections taken before the loop turns to others."""


class HandedSite(web.BaseSite):
    """Takes connections from a line, and tells the parent what becomes of them."""

    __slots__ = ("_line", "_on_end", "_opening")

    def __init__(
        self,
        runner: web.AppRunner,
        line: WorkerEnd,
        *,
        ssl_context: ssl.SSLContext | None,
        on_end: Callable[[], None],
    ) -> None:
        """``on_end`` is called once the parent is gone."""
        super().__init__(runner, ssl_context=ssl_context)
        self._line = line
        self._on_end = on_end
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """What the site is called; it has no address of its own."""
        return "handed"

    async def start(self) -> None:
        """Take connections from now on."""
        await super().start()
        asyncio.get_running_loop().add_reader(self._line.down, self._take_waiting)
        self._line.report(Report.READY)

    async def stop(self) -> None:
        """Take no more."""
        # Before the report: the parent then hands what was not taken to others.
        asyncio.get_running_loop().add_reader(self._line.down, self._let_go)
        self._line.report(Report.DRAINING)
        await super().stop()

    def _let_go(self) -> None:
        """Drop our copy of a connection that others serve, else their closing does not end it."""
        try:
            connection = self._line.take()
        except LineEnded:
            asyncio.get_running_loop().remove_reader(self._line.down)
            return
        if connection is not None:
            connection.close()

    def _take_waiting(self) -> None:
        for _ in range(TAKEN_AT_ONCE_MAX):
            try:
                connection = self._line.take()
            except LineEnded:
                asyncio.get_running_loop().remove_reader(self._line.down)
                self._on_end()
                return
            if connection is None:
                return
            # Before anything is read from it: the parent hands on what was not taken.
            self._line.report(Report.TAKEN)
            task = asyncio.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        server = self._runner.server
        if server is None:
            connection.close()
            return
        opened = False
        try:
            # A TLS handshake that fails is the client's affair; asyncio has closed the connection.
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    server, connection, ssl=self._ssl_context
                )
                opened = True
        finally:
            if not opened:
                self._line.report(Report.CLOSED)
