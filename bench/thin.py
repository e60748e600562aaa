"""The thin load generator: HTTP/1.1 on a blocking socket, one buffer, no library.

It costs so little that the server alone is measured. It believes what the servers under
measurement say; it is no HTTP client for anything else.
"""

import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from .figures import MIB

TIMEOUT_S = 120.0
_HEAD_END = b"\r\n\r\n"


class TransferFailed(Exception):
    """The server refused, or broke off; nothing was measured."""


class Thin:
    """The load generator: a new connection for each transfer, as the ordinary one has it."""

    name = "thin client"

    def __init__(self, body: bytes) -> None:
        """`body` is what is sent."""
        self._body = body

    def upload(self, url: str, path: str, token: str) -> bytes:
        """Send the body; return the answer's body. Raises TransferFailed."""
        with Connection(url, token) as connection:
            return connection.upload(path, self._body, len(self._body))

    def download(self, url: str, path: str, token: str, accept: str) -> int:
        """Fetch and drop a body; return its size. Raises TransferFailed."""
        with Connection(url, token) as connection:
            return connection.download(path, accept)


class Connection:
    """One connection to one server. A context manager."""

    def __init__(self, url: str, token: str = "", *, room: int = MIB) -> None:
        """Connect; `token` is sent as bearer token when there is one.

        `room` is how many bytes are taken from the socket at once.
        """
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._room = memoryview(bytearray(room))

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._socket.close()

    def request(
        self, method: str, path: str, body: bytes = b"", *, kind: str = "", accept: str = ""
    ) -> bytes:
        """Send a request with a small body; return the answer's body.

        Raises TransferFailed.
        """
        self.send(method, path, body, kind=kind, accept=accept)
        return self.receive()

    def send(
        self, method: str, path: str, body: bytes = b"", *, kind: str = "", accept: str = ""
    ) -> None:
        """Send a request; `receive` is to follow."""
        head = self._head(method, path, len(body), kind=kind, accept=accept)
        self._socket.sendall(head + body)

    def upload(self, path: str, part: bytes, size: int) -> bytes:
        """Send a body of `size` bytes, `part` again and again; return the answer's body.

        Raises TransferFailed.
        """
        self.begin(path, size)
        view = memoryview(part)
        try:
            for sent in range(0, size, len(part)):
                for start in range(0, min(len(part), size - sent), MIB):
                    self._socket.sendall(view[start : min(start + MIB, size - sent)])
        except ConnectionError as error:
            raise TransferFailed(f"the server broke off within {size} bytes") from error
        return self.receive()

    def begin(self, path: str, size: int) -> None:
        """Announce a body of `size` bytes; parts of it are to follow, then `receive`."""
        self._socket.sendall(self._head("POST", path, size, kind="application/octet-stream"))

    def send_part(self, part: bytes) -> None:
        """Send the next bytes of a body that was begun."""
        self._socket.sendall(part)

    def download(self, path: str, accept: str) -> int:
        """Fetch and drop a body; return its size. Raises TransferFailed."""
        self.send("GET", path, accept=accept)
        length, begun = self._answer_head()
        left = length - len(begun)
        while left > 0:
            count = self._socket.recv_into(self._room)
            if count == 0:
                raise TransferFailed(f"the server broke off with {left} bytes to go")
            left -= count
        return length

    def receive(self) -> bytes:
        """Return the next answer's body. Raises TransferFailed."""
        length, body = self._answer_head()
        while len(body) < length:
            piece = self._socket.recv(length - len(body))
            if not piece:
                raise TransferFailed("the server broke off")
            body += piece
        return body

    def _head(self, method: str, path: str, length: int, *, kind: str, accept: str = "") -> bytes:
        lines = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{self._authorization}"
        if accept:
            lines += f"Accept: {accept}\r\n"
        if length or kind:
            lines += f"Content-Type: {kind}\r\nContent-Length: {length}\r\n"
        return f"{lines}\r\n".encode("ascii")

    def _answer_head(self) -> tuple[int, bytes]:
        """Return the announced length, and what of the body came with the head."""
        buffer = b""
        while _HEAD_END not in buffer:
            piece = self._socket.recv(len(self._room))
            if not piece:
                raise TransferFailed("the server closed the connection without an answer")
            buffer += piece
        head, _, body = buffer.partition(_HEAD_END)
        status, *lines = head.decode("latin-1").split("\r\n")
        if not status.startswith("HTTP/1.1 2"):
            raise TransferFailed(f"the server answered {status!r}: {body[:500]!r}")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        return int(fields["content-length"]), body
