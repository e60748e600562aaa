"""Bodies of requests to S3: in memory or spooled; hashed, and sent in pieces, also again."""

import asyncio
import hashlib

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload

from storage_gateway.errors import ServiceError
from storage_gateway.raising import fresh

from .spool import Spool

Content = bytes | bytearray | Spool
"""What a body is made of. Must not change meanwhile."""

HASHED_AT_ONCE_MAX = 64 << 10
"""Bytes. A larger body is hashed in a thread."""
READ_AT_ONCE = 1 << 20
"""Bytes of a spooled body; so much of it is in memory."""
WRITTEN_AT_ONCE = 256 << 10
"""Bytes. Of a larger piece the event loop would copy all that the socket does not take yet."""


async def digest_of(content: Content) -> str:
    """Return the SHA-256 in hexadecimal.

    Raises:
        StorageFull, BackendUnavailable: what is spooled cannot be read.

    """
    if isinstance(content, Spool):
        return await asyncio.to_thread(_digest_of_spooled, content)
    if len(content) <= HASHED_AT_ONCE_MAX:
        return hashlib.sha256(content).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())


def _digest_of_spooled(spool: Spool) -> str:
    digest = hashlib.sha256()
    for at in range(0, spool.size, READ_AT_ONCE):
        digest.update(_piece(spool, at))
    return digest.hexdigest()


def _piece(spool: Spool, at: int) -> bytes:
    return spool.read(at, min(READ_AT_ONCE, spool.size - at))


class Body(Payload):
    """The body of one attempt, for aiohttp."""

    def __init__(self, content: Content) -> None:
        """Nothing is read yet."""
        super().__init__(content)
        self._content = content
        self._size = content.size if isinstance(content, Spool) else len(content)
        self.transport: asyncio.Transport | None = None
        """Of the connection that it was sent on last."""
        self.failure: ServiceError | None = None
        """Why it could not be read: no fault of the server's."""

    def decode(self, encoding: str = "", errors: str = "") -> str:  # noqa: ARG002 - not ours
        """Refuse: nothing of ours asks for it."""
        raise TypeError("not a text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send all of it in pieces."""
        if isinstance(writer, StreamWriter):  # as it is: the abstract one says less
            self.transport = writer.transport
        if not isinstance(self._content, Spool):
            await _write(writer, memoryview(self._content))
            return
        for at in range(0, self._content.size, READ_AT_ONCE):
            try:
                piece = await asyncio.to_thread(_piece, self._content, at)
            except ServiceError as error:
                self.failure = fresh(error)
                raise
            await _write(writer, memoryview(piece))


async def _write(writer: AbstractStreamWriter, data: memoryview) -> None:
    for at in range(0, len(data), WRITTEN_AT_ONCE):
        await writer.write(data[at : at + WRITTEN_AT_ONCE])
