"""Stores for those who work step by step in a thread of their own: checks and searches."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from .contract import BlobInfo, KeyedStore
from .local import LocalStore

T = TypeVar("T")

LISTED_AT_ONCE = 1000
"""Blobs that are taken over from the event loop in one step."""


class Shelf(Protocol):
    """What is there in a store, read without an event loop; errors are those of the contract."""

    def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob."""

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield every blob whose key starts with ``prefix``."""

    def read(self, key: str, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``."""


def shelf_of(store: KeyedStore, loop: asyncio.AbstractEventLoop) -> Shelf:
    """Return what reads a store whose event loop runs in another thread than the reader's."""
    return store.disk if isinstance(store, LocalStore) else _Distant(store, loop)


class _Distant:
    """Has the event loop do it, and waits."""

    def __init__(self, store: KeyedStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop

    def stat(self, key: str) -> BlobInfo:
        return self._wait(self._store.stat(key))

    def read(self, key: str, offset: int, size: int) -> bytes:
        return self._wait(self._store.get(key, offset, size))

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        blobs = self._store.list(prefix)
        while some := self._wait(_take(blobs)):
            yield from some

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _take(blobs: AsyncIterator[BlobInfo]) -> list[BlobInfo]:
    taken: list[BlobInfo] = []
    async for blob in blobs:
        taken.append(blob)
        if len(taken) == LISTED_AT_ONCE:
            break
    return taken
