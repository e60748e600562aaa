"""Connections in memory between simulated clients and aiohttp's own protocol.

Bytes arrive in order, late, in any pieces; a connection breaks at any byte. The server's end is an
asyncio transport with flow control; the client's end is a buffer that is read with `read_until` and
`read_exactly`.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

from .world import Process, World

NETWORK_S = 0.003
"""How long a piece travels on average."""
HIGH_WATER = 64 << 10
PIECES_MAX = 4


class BrokenConnectionError(Exception):
    """The connection ended before what was waited for came."""


class _Socket:
    """What the server asks of a socket: options that do nothing here."""

    family = 0

    def setsockopt(self, *_args: object) -> None:
        """Take an option."""


class Link:
    """One connection."""

    def __init__(self, world: World, client: Process, server: Process, *, in_pieces: bool) -> None:
        """Both ends are there; `Node.accept` gives the server's end its protocol."""
        self.world = world
        self.client = client
        self.server = server
        self.in_pieces = in_pieces
        self.slowness_s = 0.0
        """How long the client lets each piece wait."""
        self.break_after: int | None = None
        """How many more bytes, in both directions together, pass before the connection breaks."""
        self.broken = False
        self.transport = ServerTransport(self)
        self._arrives_at = {"to server": 0.0, "to client": 0.0}
        self._received = bytearray()
        self._ended: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        server.on_death.append(self._server_died)

    @property
    def ended(self) -> bool:
        """Whether the client knows that the connection is over."""
        return self._ended is not None

    def send(self, data: bytes) -> None:
        """Send from the client."""
        for piece in self._pieces(data):
            self._travel("to server", self.server, partial(self.transport.arrive, piece))

    def close(self) -> None:
        """Close the client's end."""
        self._end_client("closed here")
        self._travel("to server", self.server, lambda: self.transport.lose(None))

    async def read_until(self, mark: bytes) -> bytes:
        """Return what comes up to and with the mark.

        Raises:
            BrokenConnectionError: the connection ended first.

        """
        while (at := self._received.find(mark)) < 0:
            await self._more()
        return self._take(at + len(mark))

    async def read_exactly(self, size: int) -> bytes:
        """Return that many bytes, or raise as `read_until`."""
        while len(self._received) < size:
            await self._more()
        return self._take(size)

    async def read_all(self) -> bytes:
        """Return what comes until the server closes in good order, or raise as `read_until`."""
        while self._ended is None:
            await self._wait()
        if self._ended != "closed there":
            raise BrokenConnectionError(self._ended)
        return self._take(len(self._received))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _more(self) -> None:
        if self._ended is not None:
            raise BrokenConnectionError(self._ended)
        await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_client(self, how: str) -> None:
        if self._ended is None:
            self._ended = how
            self._wake()

    def _server_died(self) -> None:
        self.world.at(self.world.delay(NETWORK_S), lambda: self._end_client("reset"), self.client)

    def to_client(self, data: bytes, sent: Callable[[int], None]) -> None:
        """Carry what the server wrote; ``sent`` is told when the client has taken it."""
        for piece in self._pieces(data):

            def arrive(piece: bytes = piece) -> None:
                self._received += piece
                self._wake()
                if self.server.alive:
                    self.world.at(0.0, lambda: sent(len(piece)), self.server)

            self._travel("to client", self.client, arrive, self.slowness_s)

    def end_to_client(self, how: str) -> None:
        """Carry the end of the connection, behind what was written."""
        self._travel("to client", self.client, lambda: self._end_client(how))

    def break_off(self) -> None:
        """Cut the connection: each end notices on its own."""
        self.break_after = 0
        self.broken = True
        for process, notice in (
            (self.client, lambda: self._end_client("cut")),
            (self.server, lambda: self.transport.lose(ConnectionResetError("cut"))),
        ):
            self.world.at(self.world.delay(NETWORK_S), notice, process)

    def _travel(
        self, way: str, to: Process, arrive: Callable[[], None], extra_s: float = 0.0
    ) -> None:
        due = self.world.now + self.world.delay(NETWORK_S) + extra_s
        # Bytes never overtake each other.
        due = self._arrives_at[way] = max(due, self._arrives_at[way] + 1e-6)
        self.world.push(due, arrive, to)

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        if self.broken:
            return []
        if self.break_after is not None:
            if self.break_after < len(data):
                data = data[: self.break_after]
                self.world.note("network", f"a connection to {self.server.name} is cut")
                self.break_off()
            else:
                self.break_after -= len(data)
        if not self.in_pieces or len(data) < PIECES_MAX:
            return [data] if data else []
        chance = self.world.random
        cuts = sorted(chance.randrange(1, len(data)) for _ in range(chance.randrange(PIECES_MAX)))
        edges = [0, *cuts, len(data)]
        return [data[a:b] for a, b in pairwise(edges) if a < b]


class ServerTransport(asyncio.Transport):
    """The server's end, as aiohttp's protocol sees it."""

    def __init__(self, link: Link) -> None:
        """The protocol is set when the connection is accepted."""
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 80)})
        self._extra["socket"] = _Socket()  # type: ignore[attr-defined]
        self._link = link
        self._protocol: asyncio.Protocol | None = None
        self._loop: Any = link.server.loop
        self._closing = False
        self._lost = False
        self._reading = True
        self._held: list[bytes] = []
        self._early: list[tuple[Callable[[Any], None], object]] | None = []
        self._unsent = 0
        self._writing_paused = False

    def open(self, protocol: asyncio.BaseProtocol) -> None:
        """Begin, on the server's loop."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        self._loop.call_soon(self._begin, protocol)

    def _begin(self, protocol: asyncio.Protocol) -> None:
        protocol.connection_made(self)
        # As a selector's transport: nothing is read, nor an end seen, before the next turn.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        early, self._early = self._early or [], None
        for callback, argument in early:
            callback(argument)

    def _soon(self, callback: Callable[[Any], None], argument: object) -> None:
        if self._early is None:
            self._loop.call_soon(callback, argument)
        else:
            self._early.append((callback, argument))

    def arrive(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._closing or self._protocol is None:
            return
        if self._reading:
            self._soon(self._received, data)
        else:
            self._held.append(data)

    def _received(self, data: bytes) -> None:
        if self._closing or self._protocol is None:
            return
        if self._reading:
            self._protocol.data_received(data)
        else:
            self._held.append(data)

    def lose(self, error: Exception | None) -> None:
        """Notice that the client's end is gone."""
        if self._protocol is None:
            self._lost = self._closing = True
        elif not self._lost:
            self._lost = self._closing = True
            self._soon(self._protocol.connection_lost, error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; asks the protocol to pause when too much is on its way."""
        if self._lost or not data:
            return
        self._unsent += len(data)
        self._link.to_client(bytes(data), self._sent)
        if self._unsent > HIGH_WATER and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of it."""
        self.write(b"".join(list_of_data))

    def _sent(self, size: int) -> None:
        self._unsent -= size
        if self._writing_paused and self._unsent <= HIGH_WATER // 4 and self._protocol is not None:
            self._writing_paused = False
            self._loop.call_soon(self._protocol.resume_writing)

    def pause_reading(self) -> None:
        """Hold what comes."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on what was held."""
        if self._reading:
            return
        self._reading = True
        held, self._held = self._held, []
        for data in held:
            self._loop.call_soon(self._received, data)

    def close(self) -> None:
        """End in good order: what was written arrives."""
        self._finish("closed there")

    def abort(self) -> None:
        """End at once: the client sees that something is missing."""
        self._finish("reset")

    def _finish(self, how: str) -> None:
        if self._closing:
            return
        self._closing = True
        self._link.end_to_client(how)
        if not self._lost and self._protocol is not None:
            self._lost = True
            self._soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        """Tell whether the end has begun."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are on their way."""
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing: the limits are fixed."""
