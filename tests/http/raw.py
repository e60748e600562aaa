"""Hand-written HTTP over a raw socket, and what every refusal must look like.

It adds nothing to what a test writes and repairs nothing: bytes go out as they stand.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from storage_gateway.api.problems import PROBLEM_TYPE
from tests.gateway import DEADLINE_S

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came: header names in lower case, in order."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True
    """The body has the length that was announced."""

    def header(self, name: str) -> str | None:
        """Return the one value of a header; two of a kind are a failure."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} is there twice: {values}"
        return values[0] if values else None

    def json(self) -> dict[str, Any]:
        """Return the JSON object in the body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Check that this is the problem document wanted, whole and well-formed; return it."""
        document = self.json() if self.body else {}
        assert (status, code) == (self.status, document.get("code")), self
        assert PROBLEM_TYPE == self.header("Content-Type")
        assert status == document["status"]
        for member in ("type", "title", "detail", "remedy", "request_id"):
            assert isinstance(document[member], str), member
            assert document[member], member
        assert document["request_id"] == self.header("X-Request-ID")
        assert "no-store" == self.header("Cache-Control")
        assert "storage-gateway" == self.header("Server")
        return document


class Connection:
    """A connection on which a test writes and reads by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over both directions."""
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes; a peer that has closed already is for `answer` to find out."""
        with suppress(ConnectionError):
            self.writer.write(data)
            async with asyncio.timeout(DEADLINE_S):
                await self.writer.drain()

    async def answer(self, *, to_head: bool = False) -> Answer:
        """Read one answer, ``to_head`` when the request was HEAD."""
        async with asyncio.timeout(DEADLINE_S):
            start = await self._line()
            version, status, _reason = start.split(" ", 2)
            # What the parser refused before it knew the version is answered as HTTP/1.0.
            assert version in {"HTTP/1.0", "HTTP/1.1"}, start
            headers = []
            while line := await self._line():
                name, _, value = line.partition(": ")
                headers.append((name.lower(), value))
            size = int(dict(headers).get("content-length", "0"))
            bodiless = to_head or status in {"100", "204", "304"}
            try:
                body = b"" if bodiless else await self.reader.readexactly(size)
                return Answer(int(status), tuple(headers), body)
            except asyncio.IncompleteReadError as broken:
                return Answer(int(status), tuple(headers), broken.partial, whole=False)
            except ConnectionResetError:
                return Answer(int(status), tuple(headers), b"", whole=False)

    async def ended(self) -> bool:
        """Wait for the peer to close, with nothing more on the way."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return b"" == await self.reader.read(1)
            except ConnectionResetError:
                return True

    def half_close(self) -> None:
        """Tell the peer that nothing more comes; answers can still be read."""
        self.writer.write_eof()

    def abort(self) -> None:
        """Reset the connection, as a process that dies does."""
        self.writer.transport.abort()

    async def _line(self) -> str:
        line = await self.reader.readuntil(b"\r\n")
        return line[:-2].decode("latin-1")


@asynccontextmanager
async def connected(
    address: tuple[str, int], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Connection]:
    """Open a connection and close it at the end; ``tls`` says whom to trust."""
    reader, writer = await asyncio.open_connection(*address, ssl=tls)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(
    address: tuple[str, int], *parts: bytes, tls: ssl.SSLContext | None = None
) -> Answer:
    """Send bytes on a fresh connection and return the one answer."""
    async with connected(address, tls) as connection:
        for part in parts:
            await connection.send(part)
        return await connection.answer(to_head=parts[0].startswith(b"HEAD "))


def request(
    method: str,
    path: str,
    token: str | None = None,
    *,
    headers: Headers = (),
    body: bytes | None = None,
) -> bytes:
    """Return a request's bytes; with a body comes its Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunk(data: bytes) -> bytes:
    """Return one chunk of the chunked coding; of no bytes, the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = ("Transfer-Encoding", "chunked")
EXPECT = ("Expect", "100-continue")
SEALED = ("Content-Type", "application/age")
