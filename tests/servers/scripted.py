"""An HTTP server that says what a test wrote, byte for byte: what no real server can be made to say
when it is wanted.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """What to answer; with a `length` beyond the body's, the connection then breaks off."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    closes: bool = False
    """The connection is closed after it, without a word."""

    def encoded(self) -> bytes:
        """Return the bytes to send."""
        length = len(self.body) if self.length is None else self.length
        headers = {"Content-Length": str(length), **self.headers}
        lines = [f"HTTP/1.1 {self.status} So", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + self.body


HANG = None
"""Says nothing, and keeps the connection."""

Script = Callable[[Received], Say | None]


@dataclass(slots=True)
class Scripted:
    """A running server."""

    script: Script
    received: list[Received] = field(default_factory=list)
    endpoint: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes on one connection."""
        try:
            while True:
                request = await _read(reader)
                self.received.append(request)
                say = self.script(request)
                if say is HANG:
                    await reader.read()
                    return
                writer.write(say.encoded())
                await writer.drain()
                if say.length is not None or say.closes:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    method, target, _ = head[0].split(" ")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)


@asynccontextmanager
async def scripted(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """Run a server until the end of the block."""
    running = Scripted(script)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    running.endpoint = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    try:
        yield running
    finally:
        server.close()
