"""A store that tells of all it is asked for: how long it took, how it ended, how much it was.

Nothing else is changed: answers and errors are those of the store below.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from storage_gateway.errors import GatewayError

from .contract import BlobInfo, Check, KeyedStore, Range, SegmentWriter

T = TypeVar("T")

OK = "ok"
CANCELLED = "cancelled"
UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a store was asked for, and how it ended."""

    store: str
    operation: str
    seconds: float
    outcome: str
    """`OK`, the code of an error of ours, `CANCELLED` or `UNEXPECTED`."""
    sent: int = 0
    received: int = 0
    """Bytes of blobs, as far as they are known to have gone through; ``sent`` likewise."""


Observe = Callable[[Operation], None]
"""Told of each operation once it has ended; may be called from any thread."""


class Meter:
    """Tells of the operations of one store."""

    def __init__(self, name: str, observe: Observe) -> None:
        """``name`` is the store's."""
        self.name = name
        self._observe = observe

    def failed(self, operation: str, seconds: float, error: GatewayError) -> None:
        """Tell of an operation that failed."""
        self._observe(Operation(self.name, operation, seconds, error.code))

    @contextmanager
    def timed(self, operation: str) -> "Iterator[_Seen]":
        """Tell of an operation when it has ended, however it did."""
        seen, began = _Seen(), time.perf_counter()
        outcome = OK
        try:
            yield seen
        except (asyncio.CancelledError, GeneratorExit):
            outcome = CANCELLED
            raise
        except GatewayError as error:
            outcome = error.code
            raise
        except BaseException:
            outcome = UNEXPECTED
            raise
        finally:
            seconds = time.perf_counter() - began
            self._observe(
                Operation(self.name, operation, seconds, outcome, seen.sent, seen.received)
            )


class MeteredStore(Meter):
    """A store over another one. Methods are those of the contract."""

    def __init__(self, inner: KeyedStore, observe: Observe) -> None:
        """Observe what ``inner`` does."""
        super().__init__(inner.name, observe)
        self.inner = inner

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the store below; see the contract."""
        return self.inner.names

    def create(self, key: str) -> SegmentWriter:
        """Begin a blob; see the contract."""
        return _MeteredWriter(self, self.inner.create(key))

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob; see the contract."""
        with self.timed("put") as seen:
            await self.inner.put(key, data)
            seen.sent = len(data)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        with self.timed("read") as seen:
            data = await self.inner.get(key, offset, size)
            seen.received = len(data)
            return data

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        with self.timed("read") as seen:
            made = await self.inner.fetch(ranges, check, threads)
            seen.received = sum(wanted.size for wanted in ranges)
            return made

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        with self.timed("stat"):
            return await self.inner.stat(key)

    async def delete(self, key: str) -> None:
        """Remove a blob; see the contract."""
        with self.timed("delete"):
            await self.inner.delete(key)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder; see the contract. The time is the taker's, too."""
        with self.timed("list"):
            async for blob in self.inner.list(prefix, after=after):
                yield blob


class _Seen:
    """What went through."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


class _MeteredWriter:
    """One blob on its way; see `SegmentWriter`. Told of when it is finished, or cannot be."""

    def __init__(self, store: MeteredStore, inner: SegmentWriter) -> None:
        self._store = store
        self._inner = inner
        self._size = 0
        self._lock = threading.Lock()
        self._failed = False
        self.held = inner.held

    def write(self, offset: int, data: memoryview) -> None:
        began = time.perf_counter()
        try:
            self._inner.write(offset, data)
        except GatewayError as error:
            with self._lock:
                is_first, self._failed = not self._failed, True
            if is_first:  # nobody finishes it
                self._store.failed("write", time.perf_counter() - began, error)
            raise
        with self._lock:
            self._size = max(self._size, offset + len(data))

    def only_copies(self, size: int) -> bool:
        return self._inner.only_copies(size)

    async def finish(self) -> tuple[str, ...]:
        with self._store.timed("write") as seen:
            placed = await self._inner.finish()
            seen.sent = self._size
            return placed

    async def abort(self) -> None:
        await self._inner.abort()
