"""What the cases with an upload under way have in common: a body that stops until it may go on."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from crypto import LEAF_PLAINTEXT_SIZE

from .bodies import PIECE_SIZE, Body

HELD_SIZE = LEAF_PLAINTEXT_SIZE + 100_000
"""Of a body of which one leaf is stored, and that does not go on for a while."""


@dataclass(slots=True)
class Held:
    """An upload that is under way for as long as the case wants it to be."""

    body: Body
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, which stops when its first leaf is sent."""
        async for piece in self._stopping(self.body.pieces()):
            yield piece

    async def pieces_of(self, sealed: bytes) -> AsyncIterator[bytes]:
        """Yield the file that it was sealed into, which stops as well."""
        at = range(0, len(sealed), PIECE_SIZE)
        async for piece in self._stopping(sealed[each : each + PIECE_SIZE] for each in at):
            yield piece

    async def _stopping(self, pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        for piece in pieces:
            yield piece
            sent += len(piece)
            if sent > LEAF_PLAINTEXT_SIZE:
                await self.goes_on.wait()
