"""What can go wrong on a connection, and a connection through `tcp_proxy` on which it does.

Of HTTP it is known where heads end, so faults in the body need plain HTTP. An *exchange* is a
request and its answer: clients are taken to wait for an answer before they ask again.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto

HOST = "127.0.0.1"
PIECE_BYTES_MAX = 64 << 10
"""Passed on at once."""
STEP_S = 0.05
"""A trickle comes in steps of so long, or of one byte."""
BURST_S = 0.01
"""What a timer was late by is caught up with; more is not saved."""
HEAD_END = b"\r\n\r\n"
NO_LINGER = struct.pack("ii", 1, 0)
"""What was not sent is dropped at a close, and the other end is told by an RST."""


class Side(Enum):
    """Who sends."""

    REQUEST = auto()
    ANSWER = auto()


class FaultKind(Enum):
    """What a connection suffers. "In the body" is once `ProxyFault.after_bytes` of it passed."""

    REFUSE = auto()
    """Nobody listens."""
    SILENCE = auto()
    """It is accepted, and what comes is taken; the server hears nothing, no word comes back."""
    STALL = auto()
    """In the body, nothing more passes; after 0 bytes, the head was all."""
    RESET = auto()
    """In the body, both ends are told that the connection broke (RST)."""
    TRUNCATE = auto()
    """In the body, both ends are told that it ended in order (FIN)."""
    FLIP = auto()
    """In the body, the lowest bit of one byte is another one."""
    TRICKLE = auto()
    """The whole side comes at `ProxyFault.trickle_bytes_per_s`."""
    LOSE_ANSWER = auto()
    """The server gets the request and answers; the client gets an RST instead."""
    LATE = auto()
    """The server gets the body of a request `ProxyFault.late_s` after the request began, also when
    its client has gone away meanwhile, of which the server is not told before the proxy is healed:
    as if it took its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFault:
    """What goes wrong, and on which connections. Latency, link and patience are those of all of
    them.
    """

    kind: FaultKind | None = None
    side: Side = Side.ANSWER
    """Whose bytes STALL, RESET, TRUNCATE, FLIP and TRICKLE are about."""
    after_bytes: int = 0
    """Of the body of each exchange."""
    trickle_bytes_per_s: float = 1.0
    late_s: float = 0.0
    """What LATE is late by."""
    requests: tuple[bytes, ...] = ()
    """Only exchanges whose requests begin with one of these suffer it; none: all of them."""
    one_in: int = 1
    """Of so many connections one is caught, drawn by the seed."""
    connections_max: int | None = None
    """Only so many can be caught, the first."""
    latency_s: float = 0.0
    """So much later each side of an exchange begins to arrive."""
    link_bytes_per_s: float | None = None
    """What all connections together carry at most, each way."""
    answer_within_s: float | None = None
    """So long the proxy waits for an answer to begin, from the beginning of the request; then both
    ends are told that the connection broke (RST)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.kind is FaultKind.REFUSE and (self.one_in, self.connections_max) != (1, None):
            raise ValueError("REFUSE is for all connections: leave out one_in and connections_max")
        if self.kind in (FaultKind.REFUSE, FaultKind.SILENCE) and self.requests:
            raise ValueError(f"{self.kind.name} hears no request: leave out requests")
        if min(self.after_bytes, self.latency_s, self.late_s, self.connections_max or 0) < 0:
            raise ValueError("after_bytes, latency_s, late_s and connections_max are at least 0")
        if self.one_in < 1:
            raise ValueError("one_in is at least 1")
        link = self.link_bytes_per_s
        if self.trickle_bytes_per_s <= 0 or (link is not None and link <= 0):
            raise ValueError("trickle_bytes_per_s and link_bytes_per_s are above 0")
        if self.answer_within_s is not None and self.answer_within_s <= 0:
            raise ValueError("answer_within_s is above 0")


NO_FAULT = ProxyFault()
_WHOLE = frozenset({FaultKind.LOSE_ANSWER, FaultKind.LATE})
"""What of an exchange passes is as it was sent."""


class Pace:
    """Lets bytes pass at a rate."""

    def __init__(self) -> None:
        """Nothing has passed."""
        self._free_at_s = 0.0

    async def passed(self, size: int, bytes_per_s: float) -> None:
        """Wait until so many more have passed."""
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(now_s - BURST_S, self._free_at_s) + size / bytes_per_s
        if self._free_at_s > now_s:
            await asyncio.sleep(self._free_at_s - now_s)


class Link:
    """What connections have in common."""

    def __init__(self) -> None:
        """Without a fault."""
        self.fault = NO_FAULT
        self.happened = 0
        """How many connections suffered what they were caught for."""
        self._paces = {side: Pace() for side in Side}

    async def carried(self, side: Side, size: int) -> None:
        """Wait until the link has carried so many bytes."""
        if self.fault.link_bytes_per_s is not None:
            await self._paces[side].passed(size, self.fault.link_bytes_per_s)


class Connection:
    """One client's connection, and the one to the server that was made for it."""

    def __init__(
        self,
        link: Link,
        caught: ProxyFault | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """``caught`` is what it suffers, if anything."""
        self.caught = caught
        self._kind = None if caught is None else caught.kind
        self._applies = caught is not None and not caught.requests
        """Whether the exchange that is under way suffers it."""
        self._client_left = False
        self._link = link
        self._reader = reader
        self._writers = [writer]
        self._ended = asyncio.Event()
        self._last_side = Side.ANSWER
        self._bodies = {side: _Body() for side in Side}
        self._trickles = Pace()
        self._cut: asyncio.TimerHandle | None = None
        self._stalled = False
        self._suffered = False

    async def run(self, port: int) -> None:
        """Carry what comes until it ends."""
        try:
            if self._kind is FaultKind.SILENCE:
                self._suffer()
                while await self._reader.read(PIECE_BYTES_MAX):
                    pass
                return
            reader, writer = await asyncio.open_connection(HOST, port, limit=PIECE_BYTES_MAX)
            self._writers.append(writer)
            if self._ended.is_set():
                self.reset()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(Side.REQUEST, self._reader, writer))
                both.create_task(self._carry(Side.ANSWER, reader, self._writers[0]))
        except* OSError:
            self.reset()  # as the side did that broke it off
        finally:
            self._stop_waiting()
            for writer in self._writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def spare(self) -> bool:
        """Let it suffer nothing from now on; False where it cannot go on."""
        if self.caught is not None and (self._applies or not self.caught.requests):
            return False
        self.caught = self._kind = None
        return True

    def reset(self) -> None:
        """Break it off, so that both ends are told (RST)."""
        self._ended.set()
        for writer in self._writers:
            raw: socket.socket | None = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()

    def _suffer(self) -> None:
        if not self._suffered:
            self._suffered = True
            self._link.happened += 1

    def _wait_for_answer(self) -> None:
        """Break the exchange that begins off, unless its answer begins in time."""

        def cut() -> None:
            if self._link.fault.answer_within_s is not None:  # not healed since
                self._suffer()
                self.reset()

        limit_s = self._link.fault.answer_within_s
        if limit_s is not None:
            self._cut = asyncio.get_running_loop().call_later(limit_s, cut)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()

    async def _carry(
        self, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # what was drained has left
        while not self._ended.is_set() and (piece := await reader.read(PIECE_BYTES_MAX)):
            if side is not self._last_side:
                piece = await self._begin(side, piece, reader, writer)
            if side is Side.ANSWER and self._applies and self._kind is FaultKind.LOSE_ANSWER:
                self._suffer()
                self.reset()
                return
            if side is Side.REQUEST or not self._client_left:
                await self._pass(side, piece, writer)
            if side is Side.REQUEST and self._client_left:
                await self._ended.wait()  # the server is not told that nobody waits for it
        if self._stalled:
            self.reset()  # who waits for the rest of it is not there any more
        elif self._client_left:
            self._ended.set()
        elif not self._ended.is_set():
            writer.write_eof()

    async def _begin(
        self, side: Side, piece: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """Begin a side of an exchange with its first bytes; return what passes, once it may."""
        self._last_side = side
        self._bodies[side] = _Body()
        self._stop_waiting()
        if side is Side.REQUEST:
            self._wait_for_answer()
            if self.caught is not None and self.caught.requests:
                self._applies = piece.startswith(self.caught.requests)
        await asyncio.sleep(self._link.fault.latency_s)
        if side is Side.REQUEST and self._applies and self._kind is FaultKind.LATE:
            # The head passes: servers close a connection on which no request begins in time.
            head, end, body = piece.partition(HEAD_END)
            await self._send(side, head + end, writer)
            return await self._held_back(body, reader)
        return piece

    async def _held_back(self, first: bytes, reader: asyncio.StreamReader) -> bytes:
        """Return what came of a body until it is late enough; nothing if it is broken off."""
        held, loop = bytearray(first), asyncio.get_running_loop()
        until_s = loop.time() + (self.caught.late_s if self.caught is not None else 0.0)
        try:
            async with asyncio.timeout_at(until_s):
                while piece := await reader.read(PIECE_BYTES_MAX):
                    held += piece
                self._client_left = True
        except TimeoutError:
            pass
        except ConnectionError:
            self._client_left = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await self._ended.wait()
        if self._ended.is_set():
            return b""
        self._suffer()
        return bytes(held)

    async def _pass(self, side: Side, piece: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self.caught
        if fault is None or not self._applies or fault.side is not side or fault.kind in _WHOLE:
            await self._send(side, piece, writer)
            return
        if fault.kind is FaultKind.TRICKLE:
            self._suffer()
            await self._trickle(side, piece, writer, fault.trickle_bytes_per_s)
            return
        at = self._bodies[side].place_in(piece, fault.after_bytes)
        if at is None:
            await self._send(side, piece, writer)
            return
        if fault.kind is FaultKind.FLIP:
            self._suffer()
            flipped = bytes([piece[at] ^ 1])
            await self._send(side, piece[:at] + flipped + piece[at + 1 :], writer)
            return
        await self._send(side, piece[:at], writer)
        self._suffer()
        if fault.kind is FaultKind.STALL:
            self._stalled = True
            await self._ended.wait()
        elif fault.kind is FaultKind.RESET:
            self.reset()
        elif fault.kind is FaultKind.TRUNCATE:
            self._ended.set()
            for one in self._writers:
                one.close()

    async def _send(self, side: Side, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if piece:
            await self._link.carried(side, len(piece))
            writer.write(piece)
            await writer.drain()

    async def _trickle(
        self, side: Side, piece: bytes, writer: asyncio.StreamWriter, bytes_per_s: float
    ) -> None:
        step = max(1, int(bytes_per_s * STEP_S))
        for at in range(0, len(piece), step):
            part = piece[at : at + step]
            await self._trickles.passed(len(part), bytes_per_s)
            await self._send(side, part, writer)


class _Body:
    """Finds a place in the body of one side of an exchange."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        """Its last bytes, until its end came."""
        self._seen = 0

    def place_in(self, piece: bytes, after_bytes: int) -> int | None:
        """Return where in the next piece so many bytes of the body are over; None if not in it."""
        begins = 0
        if self._head is not None:
            text = self._head + piece
            found = text.find(HEAD_END)
            if found < 0:
                self._head = text[1 - len(HEAD_END) :]
                return None
            begins = found + len(HEAD_END) - len(self._head)
            self._head = None
        at = begins + after_bytes - self._seen
        self._seen += len(piece) - begins
        return at if begins <= at < len(piece) else None
