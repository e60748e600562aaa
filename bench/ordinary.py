"""The ordinary load generator: an aiohttp client, as a Python user would write it.

It costs about as much CPU as a server does, so it shows what such a user gets, not what the server
can do.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp

from .figures import MIB


def upload(url: str, token: str, piece: bytes, size: int) -> bytes:
    """Send a body of `size` bytes from memory, a piece at a time; return the answer's body."""
    return asyncio.run(_upload(url, token, piece, size))


def download(url: str, token: str, accept: str) -> int:
    """Fetch and drop a body; return its size."""
    return asyncio.run(_download(url, token, accept))


async def _upload(url: str, token: str, piece: bytes, size: int) -> bytes:
    headers = _headers(token) | {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
    }
    async with (
        _session() as session,
        session.post(url, data=_pieces(piece, size), headers=headers) as answer,
    ):
        answer.raise_for_status()
        return await answer.read()


async def _pieces(piece: bytes, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield piece[:size]
        size -= len(piece)


async def _download(url: str, token: str, accept: str) -> int:
    size = 0
    async with (
        _session() as session,
        session.get(url, headers=_headers(token) | {"Accept": accept}) as answer,
    ):
        answer.raise_for_status()
        async for piece in answer.content.iter_chunked(MIB):
            size += len(piece)
    return size


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=120))


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
