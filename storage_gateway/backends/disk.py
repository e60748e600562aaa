"""The blocking half of the local store: keys to paths, durable names, errors told apart."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull

from .contract import BlobInfo
from .fs import Fs

P = ParamSpec("P")
T = TypeVar("T")

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Disk:
    """Blobs as files under one folder. Every method blocks and may run in any thread."""

    def __init__(self, name: str, root: Path, fs: Fs) -> None:
        """``name`` is the store's, for error texts."""
        self._name = name
        self._root = root
        self._fs = fs
        self._durable: set[Path] = set()

    def create(self, key: str) -> tuple[int, list[Path]]:
        """Create a blob's file; return its descriptor and the folders to sync after the file."""
        path = self._path(key)
        folder = path.parent
        try:
            descriptor = self._fs.create(path)
        except FileNotFoundError:
            self._make_folders(folder)
            descriptor = self._fs.create(path)
        # The folder's own name, and those above it, may have been made a moment ago by another
        # upload that has not synced them yet: each is synced by us too, once a process.
        above = [folder.parent]
        while above[-1] != self._root.parent:
            above.append(above[-1].parent)
        return descriptor, [folder, *(f for f in above if f not in self._durable)]

    def _make_folders(self, folder: Path) -> None:
        missing = [folder]
        while missing:
            try:
                self._fs.make_folder(missing[-1])
            except FileNotFoundError:
                missing.append(missing[-1].parent)
            else:
                missing.pop()

    def write(self, descriptor: int, offset: int, data: memoryview) -> None:
        """Write all of ``data``."""
        self.call("", self._fs.write_at, descriptor, data, offset)

    def sync_names(self, folders: list[Path]) -> None:
        """Make new names durable: the blob's in its folder, and of the folders above."""
        for folder in folders:
            self.call("", self._fs.sync_folder, folder)
        # The blob's own folder, first in the list, gets further names; the one above it gets a
        # new payload's name with every upload.
        self._durable.update(folders[2:])

    def sync(self, descriptor: int) -> None:
        """Make what was written durable."""
        self.call("", self._fs.sync, descriptor)

    def close(self, descriptor: int) -> None:
        """Close; what was not synced may be lost."""
        self._fs.close(descriptor)

    def read(self, key: str, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``."""
        data = self.call(key, self._fs.read_at, self._path(key), offset, size)
        if len(data) != size:
            raise BlobCorrupt(f"{key} in store {self._name} ends at byte {offset + len(data)}")
        return data

    def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob."""
        return BlobInfo(key, self.call(key, self._fs.size, self._path(key)))

    def delete(self, key: str) -> None:
        """Remove a blob, and its folder when that is then empty; again is fine."""
        path = self._path(key)
        self._ignoring(self._fs.remove, path)
        if self._ignoring(self._fs.remove_folder, path.parent):
            self._ignoring(self._fs.sync_folder, path.parent.parent)
        else:
            self._ignoring(self._fs.sync_folder, path.parent)
        if not self._root_answers():
            raise BackendUnavailable(f"the folder of store {self._name} is gone")

    def _ignoring(self, function: Callable[[Path], None], path: Path) -> bool:
        """Do it; False when there was nothing to do, or other blobs are in the folder."""
        try:
            function(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise self._unavailable(error) from error
            return False
        return True

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield the blobs under a folder in the order of their names, a folder in memory each."""
        try:
            entries = sorted(self._fs.scan(self._path(prefix.rstrip("/"))))
        except (FileNotFoundError, NotADirectoryError):
            if not self._root_answers():
                raise BackendUnavailable(f"the folder of store {self._name} is gone") from None
            return
        except OSError as error:
            raise self._unavailable(error) from error
        for name, is_folder, size in entries:
            if is_folder:
                yield from self.list(f"{prefix}{name}/")
            else:
                yield BlobInfo(f"{prefix}{name}", size)

    def call(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a file operation and raise what the contract says."""
        try:
            return function(*args, **kwargs)
        except FileNotFoundError:
            # A root that vanished (an unmounted disk) says nothing about the blob.
            if not self._root_answers():
                raise BackendUnavailable(f"the folder of store {self._name} is gone") from None
            raise BlobMissing(f"{key} is missing in store {self._name}") from None
        except OSError as error:
            raise self._unavailable(error) from error

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..") for part in parts):
            raise ValueError(f"not a key: {key!r}")
        return self._root.joinpath(*parts)

    def _root_answers(self) -> bool:
        try:
            self._fs.size(self._root)
        except OSError:
            return False
        return True

    def _unavailable(self, error: OSError) -> StorageFull | BackendUnavailable:
        if error.errno in _FULL:
            return StorageFull(f"no space left in store {self._name}")
        reason = errno.errorcode.get(error.errno or 0, "an unknown error")
        return BackendUnavailable(f"store {self._name} answered {reason}")


class OpenBlob:
    """A blob being written: its file is created by the first write, and closed once."""

    def __init__(self, disk: Disk, key: str) -> None:
        """Nothing is created yet."""
        self._disk = disk
        self._key = key
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._folders: list[Path] = []

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset, creating the file if need be."""
        self._disk.write(self._open(), offset, data)

    def finish(self) -> None:
        """Sync the file, close it, then sync the names."""
        self._disk.sync(self._open())
        self.close()
        self._disk.sync_names(self._folders)

    def close(self) -> None:
        """Close the file if it is open."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def _open(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor, self._folders = self._disk.call(
                    self._key, self._disk.create, self._key
                )
            return self._descriptor
