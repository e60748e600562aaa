"""A small HTTP client that speaks bytes: one request, one answer, or a broken connection."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .network import BrokenConnectionError, Link


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; empty for what is no problem."""
        if self.headers.get("content-type", "").startswith("application/problem+json"):
            return str(self.document["code"])
        return ""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be sent."""

    method: str
    path: str
    token: str
    request_id: str
    headers: Mapping[str, str]
    body: bytes | None = None

    def head(self) -> bytes:
        """Return request line and headers."""
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            "Host: gateway",
            f"Authorization: Bearer {self.token}",
            f"X-Request-ID: {self.request_id}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_answer(link: Link, *, to_head: bool = False) -> Answer:
    """Read one answer.

    Raises:
        BrokenConnectionError: it did not come whole.

    """
    while True:
        head = (await link.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        if status != 100:
            break
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if to_head or status in (204, 304):
        body = b""
    elif "content-length" in headers:
        body = await link.read_exactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(link)
    else:
        body = await link.read_all()
    return Answer(status, headers, body)


async def _read_chunks(link: Link) -> bytes:
    whole = bytearray()
    while size := int((await link.read_until(b"\r\n")).strip(), 16):
        whole += await link.read_exactly(size)
        if await link.read_exactly(2) != b"\r\n":
            raise BrokenConnectionError("a chunk without its end")
    await link.read_until(b"\r\n")
    return bytes(whole)
