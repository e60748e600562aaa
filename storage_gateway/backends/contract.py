"""What every keyed store promises. One suite in tests/contract runs over all of them.

Keys are ``/``-separated names of safe characters that the gateway makes itself. A key is written
once and never again; nothing here overwrites. A store that does not answer is never taken for an
empty one: `BlobMissing` means that the store answered, as itself, that the blob is not there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

MARKER_CONTENT = b"storage-gateway deployment marker v1\n"
"""Of the blob that shows that a store is a deployment's: always the same."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: its key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Range:
    """So many bytes of a blob, from an offset on."""

    key: str
    offset: int
    size: int
    digest: bytes | None = None
    """Their SHA-256, where they are a whole leaf: a store that has no names needs nothing else."""


Check = Callable[[int, bytes], T]
"""Turns the bytes of the range of that number into what is wanted of it, in a worker thread.

Raises BlobCorrupt when they are not what they must be.
"""


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` is a name below a store's root, and no way out of it."""
    parts = key.split("/")
    if not all(parts) or any(part in (".", "..") for part in parts) or "\0" in key:
        raise ValueError(f"not a key: {key!r}")


class SegmentWriter(Protocol):
    """One blob on its way into a store."""

    held: asyncio.Event
    """Set once a store has the blob durably, though `finish` may wait for more of them; never set
    by a store that is one: there `finish` has returned."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take ``data`` for ``offset``. May block, so it is called from worker threads, also from
        several at once for different offsets; the buffer may be reused once it returned.

        Raises:
            StorageFull, BackendUnavailable

        """

    def only_copies(self, size: int) -> bool:
        """Tell whether a first write of ``size`` bytes only copies them: that blocks nobody, and
        may be done on the event loop.
        """

    async def finish(self) -> tuple[str, ...]:
        """Make the blob durable under its key: after this it survives a power cut.

        Returns the names of the stores that hold it now.

        Raises:
            StorageFull, BackendUnavailable: whether the blob is there is then unknown.

        """

    async def abort(self) -> None:
        """Let go of what `finish` would have kept; never raises. The key may still exist."""


class KeyedStore(Protocol):
    """A store with names."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """The stores that a blob should come to: this one, or those that it is made of."""

    def create(self, key: str) -> SegmentWriter:
        """Begin a blob. Nothing is stored before the first `write` or `finish`."""

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob durably.

        Raises:
            StorageFull, BackendUnavailable

        """

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``.

        Raises:
            BlobMissing: no such blob.
            BlobCorrupt: the blob ends before ``offset + size``.
            BackendUnavailable

        """

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what ``check`` makes of each range, in order; it is called in ``threads``.

        Raises:
            BlobMissing, BlobCorrupt, BackendUnavailable: as `get`, or what ``check`` raises.

        """

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob.

        Raises:
            BlobMissing, BackendUnavailable

        """

    async def delete(self, key: str) -> None:
        """Remove a blob durably; a missing one is fine.

        Raises:
            BackendUnavailable

        """

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield every blob whose key starts with ``prefix``, a whole folder name ending in ``/``,
        and comes after ``after``, in the order of the keys as far as the server keeps to it.

        ``after`` is no name of a folder: servers that have folders would leave all of it out.

        Raises:
            BackendUnavailable

        """
