"""Bytes on their way to a store that takes only whole blobs: a few wait in memory, more of them in
a file without a name, which is gone when the process is.
"""

import asyncio
import contextlib
import errno
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from storage_gateway.errors import BackendUnavailable, StorageFull

from .fs import RealFs, is_full

SPOOLED_MIN = 64 << 10
"""Bytes. What is no larger stays in memory."""


class Spool:
    """What is written at offsets, from any thread, and then read."""

    def __init__(self, folder: Path, *, store: str) -> None:
        """No file is made before there is more than `SPOOLED_MIN`.

        Args:
            folder: where the file is made; it exists.
            store: the name of the store, for error texts.

        """
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        """Held for moments only, also by the event loop."""
        self._making = threading.Lock()
        """Held while the file is made, by threads only."""
        self._memory = bytearray()
        self._in_file = False
        self._file: io.FileIO | None = None
        self._users = 0
        self._closed = False
        self.size = 0
        """Where what was written ends, in bytes."""

    @property
    def memory(self) -> bytearray | None:
        """All of it, unless it is in a file."""
        return None if self._in_file else self._memory

    def write(self, offset: int, data: memoryview) -> None:
        """Keep ``data`` for ``offset``. Blocks.

        Raises:
            StorageFull, BackendUnavailable

        """
        with self._lock:
            self._check_open()
            self.size = max(self.size, offset + len(data))
            self._in_file = self._in_file or self.size > SPOOLED_MIN
            if not self._in_file:
                self._memory.extend(bytes(self.size - len(self._memory)))
                self._memory[offset : offset + len(data)] = data
                return
        with self._descriptor() as descriptor:
            RealFs().write_at(descriptor, data, offset)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes of what is in a file. Blocks.

        Raises:
            StorageFull, BackendUnavailable

        """
        with self._descriptor() as descriptor:
            data = os.pread(descriptor, size, offset)
            while len(data) < size:
                more = os.pread(descriptor, size - len(data), offset + len(data))
                if not more:
                    raise self._failed(f"ends at byte {offset + len(data)}")
                data += more
        return data

    async def close(self) -> None:
        """Let go of it, for good; a thread that still uses the file closes it. Never raises."""
        if not self._in_file:
            self._close()
        else:
            # Not to_thread: what is cancelled there before it began is never done.
            closing = asyncio.get_running_loop().run_in_executor(None, self._close)
            await asyncio.wait([closing])

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        self._close_unused()

    def _close_unused(self) -> None:
        # Never under a thread that uses it: the number of a closed file is soon another file's.
        with self._lock:
            if not self._closed or self._users > 0:
                return
            file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _check_open(self) -> None:
        if self._closed:
            raise self._failed("was let go of")

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        """Keep the file open meanwhile; raise what the contract says."""
        with self._lock:
            self._check_open()
            self._users += 1
        try:
            yield self._made().fileno()
        except OSError as error:
            if is_full(error):
                raise StorageFull(
                    f"no space left on the gateway's disk for what goes to store {self._store}"
                ) from error
            reason = errno.errorcode.get(error.errno or 0, "an unknown error")
            raise self._failed(f"answered {reason}") from error
        finally:
            with self._lock:
                self._users -= 1
            self._close_unused()

    def _made(self) -> io.FileIO:
        """Return the file. It begins with what was in memory, before anything else is written."""
        with self._making:
            if self._file is None:
                file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - see `close`
                try:
                    RealFs().write_at(file.fileno(), memoryview(self._memory), 0)
                except BaseException:
                    file.close()
                    raise
                self._file, self._memory = file, bytearray()
            return self._file

    def _failed(self, text: str) -> BackendUnavailable:
        return BackendUnavailable(f"the spool of store {self._store} {text}")
