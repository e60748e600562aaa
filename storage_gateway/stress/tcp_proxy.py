"""A TCP proxy before one server on this machine, whose faults are exchanged while it runs: what a
network, a balancer or a dying server does to a client. For stress runs, tests and benchmarks.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage_gateway.chance import Chance

from .tcp_faults import HOST, NO_FAULT, PIECE_BYTES_MAX, Connection, FaultKind, Link, ProxyFault

BACKLOG = 512


class TCPProxy:
    """A running proxy; see `tcp_proxy`."""

    def __init__(self, target_port: int, *, seed: int) -> None:
        """Not listening yet."""
        self.accepted = 0
        """Connections so far."""
        self._target_port = target_port
        self._seed = seed
        self._changes = 0
        self._chance = Chance(seed, "proxy", 0)
        self._accepted_before = 0
        self._held = _bound(0)  # while nobody listens the port stays ours
        self.port: int = self._held.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._link = Link()
        self._running: dict[Connection, asyncio.Task[None]] = {}

    @property
    def happened(self) -> int:
        """How many connections suffered what they were caught for; REFUSE lets none come."""
        return self._link.happened

    async def inject(self, fault: ProxyFault) -> None:
        """Let this happen from now on, instead of what was before.

        Connections that cannot go on under it are reset: those that were caught before, unless what
        they carry was to be spared, and, unless ``fault`` has no kind, all others. Draws and counts
        of connections begin anew.
        """
        self._link.fault = fault
        self._changes += 1
        self._chance = Chance(self._seed, "proxy", self._changes)
        self._accepted_before = self.accepted
        if fault.kind is FaultKind.REFUSE:
            self._stop_listening()
        await self._reset(every=fault.kind is not None)
        if fault.kind is not FaultKind.REFUSE and self._server is None:
            await self.listen()

    async def heal(self) -> None:
        """Let nothing go wrong any more; connections that were not caught go on."""
        await self.inject(NO_FAULT)

    async def listen(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(
            self._serve, sock=_bound(self.port), backlog=BACKLOG, limit=PIECE_BYTES_MAX
        )

    async def close(self) -> None:
        """Stop for good; all connections are reset."""
        self._stop_listening()
        self._held.close()
        await self._reset(every=True)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self, *, every: bool) -> None:
        ending = {one: task for one, task in self._running.items() if every or not one.spare()}
        for one in ending:
            one.reset()
        if ending:
            await asyncio.wait(ending.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault, number = self._link.fault, self.accepted - self._accepted_before
        self.accepted += 1
        drawn = self._chance.below(fault.one_in) == 0
        among_first = fault.connections_max is None or number < fault.connections_max
        caught = fault if fault.kind is not None and drawn and among_first else None
        connection = Connection(self._link, caught, reader, writer)
        if self._server is None:  # closed since it was accepted
            connection.reset()
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._running[connection] = task
        try:
            await connection.run(self._target_port)
        finally:
            del self._running[connection]


@asynccontextmanager
async def tcp_proxy(target_port: int, *, seed: int) -> AsyncIterator[TCPProxy]:
    """Listen on a free loopback port for a server on another one, until the end of the block."""
    proxy = TCPProxy(target_port, seed=seed)
    try:
        await proxy.listen()
        yield proxy
    finally:
        await proxy.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.bind((HOST, port))
    return bound
