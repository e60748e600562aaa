"""Writers of blobs that a store takes only whole: each waits in a spool until it is finished."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

from storage_gateway.errors import BackendUnavailable

from .contract import check_key
from .spool import SPOOLED_MIN, Spool

Send = Callable[[str, Spool], Awaitable[None]]
"""Makes what is in a spool durable under a key; raises what `SegmentWriter.finish` does."""


class SpooledWriters:
    """The writers of one store."""

    def __init__(self, folder: Path, *, store: str, send: Send) -> None:
        """``folder`` is where spools are made, ``store`` the store's name."""
        self._folder = folder
        self._store = store
        self._send = send
        self._writers: weakref.WeakValueDictionary[str, SpooledWriter] = (
            weakref.WeakValueDictionary()
        )

    def create(self, key: str) -> "SpooledWriter":
        """Begin a blob; see the contract of stores."""
        spool = Spool(self._folder, store=self._store)
        writer = self._writers[key] = SpooledWriter(key, spool, store=self._store, send=self._send)
        return writer

    async def abort(self, key: str) -> None:
        """Let go of a blob that is on its way: it is about to be deleted. Never raises."""
        writer = self._writers.get(key)
        if writer is not None:
            await writer.abort()


class SpooledWriter:
    """One blob on its way; see `SegmentWriter`."""

    def __init__(self, key: str, spool: Spool, *, store: str, send: Send) -> None:
        """Nothing is sent before `finish`."""
        self.held = asyncio.Event()
        self._key = key
        self._spool: Spool | None = spool
        self._store = store
        self._send = send

    def write(self, offset: int, data: memoryview) -> None:
        """Keep ``data`` for its place; see the contract."""
        check_key(self._key)
        spool = self._spool
        if spool is None:
            raise self._let_go()
        spool.write(offset, data)

    def only_copies(self, size: int) -> bool:
        """Tell whether it stays in memory; see the contract."""
        return size <= SPOOLED_MIN

    async def finish(self) -> tuple[str, ...]:
        """Send the blob; see the contract."""
        spool, self._spool = self._spool, None
        if spool is None:
            raise self._let_go()
        try:
            await self._send(self._key, spool)
        finally:
            await spool.close()
        return (self._store,)

    async def abort(self) -> None:
        """Drop what was written; see the contract."""
        spool, self._spool = self._spool, None
        if spool is not None:
            await spool.close()

    def _let_go(self) -> BackendUnavailable:
        return BackendUnavailable(f"{self._key} was let go of before it was written")
