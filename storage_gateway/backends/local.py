"""The local store: one file a blob, in folders that mirror the key. The embedded default.

Durability: data is written in place under its final name (keys are never reused, and nothing reads
a blob that the catalog does not name), then the file is synced, then every folder that a new name
was made in. A crash at any point leaves at most a blob that an intent names.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from .contract import BlobInfo, Check, Range
from .disk import Disk, OpenBlob
from .fs import Fs, RealFs

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
LISTED_AT_ONCE = 1000
"""Blobs that are taken over from a thread in one step."""


class LocalStore:
    """Blobs in a folder of this machine's disk. Methods are those of the contract."""

    def __init__(self, root: Path, fs: Fs | None = None, *, name: str = "local") -> None:
        """``root`` is made by the first write; its parent must exist."""
        self.name = name
        self.root = root
        self.disk = Disk(name, root, fs or RealFs())
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="local-store")

    @property
    def names(self) -> tuple[str, ...]:
        """The store itself; see the contract."""
        return (self.name,)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()

    def create(self, key: str) -> "LocalSegmentWriter":
        """Begin a blob; see the contract."""
        return LocalSegmentWriter(self.name, OpenBlob(self.disk, key), self._in_thread)

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob durably; see the contract."""
        await self._in_thread(self._put, key, data)

    def _put(self, key: str, data: bytes) -> None:
        blob = OpenBlob(self.disk, key)
        try:
            blob.write(0, memoryview(data))
            blob.finish()
        finally:
            blob.close()

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        return await self._in_thread(self.disk.read, key, offset, size)

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        read = self.disk.read

        def work() -> list[T]:
            return [check(at, read(r.key, r.offset, r.size)) for at, r in enumerate(ranges)]

        # One hop for reading and checking: a second one costs as much as the check itself.
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        return await self._in_thread(self.disk.stat, key)

    async def delete(self, key: str) -> None:
        """Remove a blob durably; see the contract."""
        await self._in_thread(self.disk.delete, key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract."""
        blobs = self.disk.list(prefix, after)
        while some := await self._in_thread(lambda: list(itertools.islice(blobs, LISTED_AT_ONCE))):
            for blob in some:
                yield blob
            if len(some) < LISTED_AT_ONCE:
                return

    async def drop_folders(self, prefix: str) -> None:
        """Remove the folders that are left, empty, of a prefix that is never used again."""
        await self._in_thread(self.disk.drop_folders, prefix)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))


class LocalSegmentWriter:
    """One blob being written to the local store; see `SegmentWriter`."""

    def __init__(
        self,
        store: str,
        blob: OpenBlob,
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        """Nothing is created before the first write. ``store`` is the name of the store."""
        self.held = asyncio.Event()
        self._store = store
        self._blob = blob
        self._in_thread = in_thread

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset; see the contract."""
        self._blob.write(offset, data)

    def only_copies(self, size: int) -> bool:  # noqa: ARG002 - whatever its size
        """Say no: each write is one to a file; see the contract."""
        return False

    async def finish(self) -> tuple[str, ...]:
        """Sync the file, then the folders that got a new name; see the contract."""
        await self._in_thread(self._blob.finish)
        return (self._store,)

    async def abort(self) -> None:
        """Close the file; see the contract."""
        if not self._blob.closed:  # nearly always it is: a hop to a thread for nothing
            await self._in_thread(self._blob.close)
