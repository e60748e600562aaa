"""The file operations that the local store is made of, so that a fake can lose what was not synced.

Every call is one system call (or one whole small job) and blocks; the store runs them in threads.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def is_full(error: OSError) -> bool:
    """Tell whether there was no room, on the disk or for who asked."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Fs(Protocol):
    """A file system, or a fake that forgets. Errors are `OSError` with the usual errno."""

    def make_folder(self, path: Path) -> bool:
        """Create one folder; False when it is there already."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist and return a descriptor to write with."""

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def sync(self, descriptor: int) -> None:
        """Make what was written to the file durable."""

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""

    def read_at(self, path: Path, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes from ``offset``."""

    def size(self, path: Path) -> int:
        """Return the file's size in bytes."""

    def remove(self, path: Path) -> None:
        """Unlink a file."""

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""

    def scan(self, path: Path) -> Iterator[tuple[str, bool, int]]:
        """Yield name, whether it is a folder, and size of everything in a folder."""


class RealFs:
    """The operating system's file system."""

    def make_folder(self, path: Path) -> bool:  # noqa: D102 - the protocol says it
        try:
            path.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            return False
        return True

    def create(self, path: Path) -> int:  # noqa: D102
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:  # noqa: D102
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def sync(self, descriptor: int) -> None:  # noqa: D102
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:  # noqa: D102
        os.close(descriptor)

    def sync_folder(self, path: Path) -> None:  # noqa: D102
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read_at(self, path: Path, offset: int, size: int) -> bytes:  # noqa: D102
        # A pipe in a blob's place must not hold a thread for ever, nor a link lead elsewhere.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            data = os.pread(descriptor, size, offset)
            # A regular file gives all there is at once, but POSIX does not promise it.
            while len(data) < size and (more := os.pread(descriptor, size, offset + len(data))):
                data += more
        finally:
            os.close(descriptor)
        return data[:size]

    def size(self, path: Path) -> int:  # noqa: D102
        return path.stat().st_size

    def remove(self, path: Path) -> None:  # noqa: D102
        path.unlink()

    def remove_folder(self, path: Path) -> None:  # noqa: D102
        path.rmdir()

    def scan(self, path: Path) -> Iterator[tuple[str, bool, int]]:  # noqa: D102
        with os.scandir(path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # deleted between the two calls
                    folder = entry.is_dir(follow_symlinks=False)
                    size = 0 if folder else entry.stat(follow_symlinks=False).st_size
                    yield entry.name, folder, size
