"""The ordinary load generator: an aiohttp client, as a Python user would write it.

It costs about as much CPU as a server does, so it shows what such a user gets, not what the server
can do. With a folder it sends a file and writes a file there; else it sends from memory and drops.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import aiohttp

from .figures import MIB

_UPLOADED, _DOWNLOADED = "uploaded", "downloaded"


class Ordinary:
    """An aiohttp client; with `folder`, one that has files at both ends."""

    def __init__(self, body: bytes, folder: Path | None = None) -> None:
        """`body` is what is sent; `folder` gets a file of it, and what comes down."""
        self.name = "aiohttp client" if folder is None else "aiohttp client with files"
        self._body = body
        self._folder = folder

    def upload(self, url: str, path: str, token: str) -> bytes:
        """Send the body; return the answer's body."""
        if self._folder is None:
            return asyncio.run(self._upload_pieces(f"{url}{path}", token))
        return asyncio.run(self._upload_file(f"{url}{path}", token, self._file(self._folder)))

    def download(self, url: str, path: str, token: str, accept: str) -> int:
        """Fetch a body; return its size."""
        return asyncio.run(self._download(f"{url}{path}", token, accept))

    async def _upload_pieces(self, url: str, token: str) -> bytes:
        headers = _headers(token) | {"Content-Length": str(len(self._body))}
        async with (
            _session() as session,
            session.post(url, data=self._pieces(), headers=headers) as answer,
        ):
            answer.raise_for_status()
            return await answer.read()

    async def _pieces(self) -> AsyncIterator[memoryview]:
        view = memoryview(self._body)
        for start in range(0, len(view), MIB):
            yield view[start : start + MIB]

    def _file(self, folder: Path) -> Path:
        """Return a file of the body, made at the first call and in the page cache since."""
        path = folder / _UPLOADED
        if not path.exists():
            path.write_bytes(self._body)
        return path

    async def _upload_file(self, url: str, token: str, path: Path) -> bytes:
        async with _session() as session:
            with path.open("rb") as file:
                async with session.post(url, data=file, headers=_headers(token)) as answer:
                    answer.raise_for_status()
                    return await answer.read()

    async def _download(self, url: str, token: str, accept: str) -> int:
        size = 0
        headers = _headers(token) | ({"Accept": accept} if accept else {})
        with (
            nullcontext()
            if self._folder is None
            else (self._folder / _DOWNLOADED).open("wb") as file
        ):
            async with _session() as session, session.get(url, headers=headers) as answer:
                answer.raise_for_status()
                async for piece in answer.content.iter_chunked(MIB):
                    size += len(piece)
                    if file is not None:
                        file.write(piece)
        return size


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=120))


def _headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})
