"""Made-up contents: each body is told from every other one, and from itself a chunk further on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from crypto import new_bare_head, parse_recipient

PIECE_SIZE = 64 << 10
_NUMBER_SIZE = 8
MARK_SIZE = 32


@dataclass(frozen=True)
class Body:
    """A body of ``size`` bytes that its label alone decides."""

    label: str
    size: int

    @property
    def mark(self) -> bytes:
        """What every piece begins with, as far as it goes: looked for where no plaintext may be."""
        return hashlib.sha256(self.label.encode()).digest()

    @cached_property
    def _pattern(self) -> bytes:
        return hashlib.shake_256(self.label.encode()).digest(min(self.size, PIECE_SIZE))

    def pieces(self) -> Iterator[bytes]:
        """Yield the content."""
        for at in range(0, self.size, PIECE_SIZE):
            number = (at // PIECE_SIZE).to_bytes(_NUMBER_SIZE)
            rest = self._pattern[_NUMBER_SIZE + MARK_SIZE :]
            yield (self.mark + number + rest)[: min(PIECE_SIZE, self.size - at)]

    @cached_property
    def digest(self) -> bytes:
        """The SHA-256 of the content."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.digest()


def sealed_to(body: Body, recipient: str) -> bytes:
    """Return what any tool makes of a body for the session's router."""
    made = new_bare_head([parse_recipient(recipient)])
    pieces = [made.sealer.update(piece) for piece in body.pieces()]
    return b"".join([made.head, *pieces, made.sealer.finish()])
