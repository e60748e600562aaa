"""The blocking half of the local store: keys to paths, durable names, errors told apart."""

import contextlib
import errno
import heapq
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull

from .contract import BlobInfo, check_key
from .fs import Fs, is_full

P = ParamSpec("P")
T = TypeVar("T")

SCANNED_AT_ONCE = 10_000
Entries = list[tuple[str, bool, int]]
LOST_AND_FOUND = "lost+found"
"""A folder in the root of every ext2, ext3 and ext4 file system: no part of a store."""


class Disk:
    """Blobs as files under one folder. Every method blocks and may run in any thread."""

    def __init__(self, name: str, root: Path, fs: Fs) -> None:
        """``name`` is the store's, for error texts."""
        self._name = name
        self._root = root
        self._fs = fs
        # Folders that several payloads share. Their names were made durable, or were seen there.
        self._durable: set[Path] = set()
        self._seen: set[Path] = set()

    def create(self, key: str) -> int:
        """Create a blob's file and the folders it needs; return its descriptor."""
        path = self._path(key)
        try:
            return self._fs.create(path)
        except FileNotFoundError:
            self._make_folders(path.parent)
            return self._fs.create(path)

    def _make_folders(self, folder: Path) -> None:
        missing = [folder]
        while missing:
            was_there = missing[-1] in self._seen
            try:
                made = self._fs.make_folder(missing[-1])
            except FileNotFoundError:
                missing.append(missing[-1].parent)
                continue
            if made and was_there:
                # What would be kept in it is hidden as soon as the right disk is back.
                self._ignoring(self._fs.remove_folder, missing[-1])
                raise self._gone()
            missing.pop()

    def write(self, descriptor: int, offset: int, data: memoryview) -> None:
        """Write all of ``data``."""
        self.writing(self._fs.write_at, descriptor, data, offset)

    def sync_names(self, key: str) -> None:
        """Make a blob's name durable in its folder, and those of the folders above."""
        folder = self._path(key).parent
        above = self._shared_above(folder)
        # The two lowest get new names all the time. A folder further up may have been made a moment
        # ago by another upload that has not synced its name yet: each is synced by us too, once.
        for unsure in [folder, folder.parent, *(f.parent for f in above if f not in self._durable)]:
            self.writing(self._fs.sync_folder, unsure)
        self._durable.update(above)
        self._seen.update(above)

    def _shared_above(self, folder: Path) -> list[Path]:
        above: list[Path] = []
        while folder != self._root:
            folder = folder.parent
            above.append(folder)
        return above

    def sync(self, descriptor: int) -> None:
        """Make what was written durable."""
        self.writing(self._fs.sync, descriptor)

    def close(self, descriptor: int) -> None:
        """Close; what was not synced may be lost, so an error of this says nothing new."""
        with contextlib.suppress(OSError):
            self._fs.close(descriptor)

    def read(self, key: str, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``."""
        data = self._reading(key, self._fs.read_at, self._path(key), offset, size)
        if len(data) != size:
            raise BlobCorrupt(f"{key} in store {self._name} ends at byte {offset + len(data)}")
        return data

    def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob."""
        path = self._path(key)
        size = self._reading(key, self._fs.size, path)
        self._seen.update(self._shared_above(path.parent))
        if path.parent != self._root:
            # The marker's folder is every key's, and not there on another disk: so the first write
            # after a start notices as well.
            self._seen.add(self._root / key.partition("/")[0])
        return BlobInfo(key, size)

    def delete(self, key: str) -> None:
        """Remove a blob, and its folder when that is then empty; again is fine."""
        path = self._path(key)
        folder = path.parent
        self._ignoring(self._fs.remove, path)
        for known in (self._durable, self._seen):
            known.discard(folder)
        if folder != self._root and self._ignoring(self._fs.remove_folder, folder):
            folder = folder.parent
        self._ignoring(self._fs.sync_folder, folder)
        if not self._answers():
            raise self._gone()

    def drop_folders(self, prefix: str) -> None:
        """Remove the empty folders under a prefix, and its own."""
        folder = self._path(prefix.rstrip("/"))
        try:
            entries = list(self._fs.scan(folder))
        except FileNotFoundError:
            return
        for name, is_folder, _ in entries:
            if is_folder:
                self.drop_folders(f"{prefix}{name}/")
        self._ignoring(self._fs.remove_folder, folder)

    def _ignoring(self, function: Callable[[Path], None], path: Path) -> bool:
        """Do it; False when there was nothing to do, or other blobs are in the folder."""
        try:
            function(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise self._unavailable(error) from error
            return False
        return True

    def list(self, prefix: str, after: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs under a folder whose keys come after ``after``, in the order of the keys.

        Of a folder `SCANNED_AT_ONCE` entries at most are in memory: it is scanned again for more.
        """
        behind = ""
        while entries := self._scan(prefix, after, behind):
            for name, is_folder, size in entries:
                if is_folder:
                    yield from self.list(name, after)
                else:
                    yield BlobInfo(name, size)
            if len(entries) < SCANNED_AT_ONCE:
                return
            behind = entries[-1][0]

    def _scan(self, prefix: str, after: str, behind: str) -> Entries:
        """Return the first entries of a folder behind ``behind`` that anything after ``after`` may
        be in, in the order of their keys; those of folders end in ``/``.
        """
        folder = self._path(prefix.rstrip("/")) if prefix else self._root
        try:
            found = (
                (f"{prefix}{name}{'/' * is_folder}", is_folder, size)
                for name, is_folder, size in self._fs.scan(folder)
                if prefix or name != LOST_AND_FOUND
            )
            wanted = (
                entry
                for entry in found
                if entry[0] > behind
                and (entry[0] > after or (entry[1] and after.startswith(entry[0])))
            )
            return heapq.nsmallest(SCANNED_AT_ONCE, wanted)
        except (FileNotFoundError, NotADirectoryError):
            if not self._answers():
                raise self._gone() from None
            return []
        except OSError as error:
            raise self._unavailable(error) from error

    def writing(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a file operation on the way in and raise what the contract says."""
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise self._unavailable(error) from error

    def _reading(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            # A folder that vanished (an unmounted disk) says nothing about the blob.
            if not self._answers():
                raise self._gone() from None
            raise BlobMissing(f"{key} is missing in store {self._name}") from None
        except OSError as error:
            raise self._unavailable(error) from error

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _answers(self) -> bool:
        """Tell whether the store is the one that it was: what was seen in it is there."""
        try:
            for folder in (self._root, *tuple(self._seen)):
                self._fs.size(folder)
        except OSError:
            return False
        return True

    def _gone(self) -> BackendUnavailable:
        return BackendUnavailable(f"the folder of store {self._name} is gone: is its disk mounted?")

    def _unavailable(self, error: OSError) -> StorageFull | BackendUnavailable:
        if is_full(error):
            return StorageFull(f"no space left in store {self._name}")
        reason = errno.errorcode.get(error.errno or 0, "an unknown error")
        return BackendUnavailable(f"store {self._name} answered {reason}")


class OpenBlob:
    """A blob being written: its file is created by the first write, and closed once, for good."""

    def __init__(self, disk: Disk, key: str) -> None:
        """Nothing is created yet."""
        self._disk = disk
        self._key = key
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self.closed = False
        """True for good once `finish` or `close` has begun."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset, creating the file if need be."""
        self._disk.write(self._open(), offset, data)

    def finish(self) -> None:
        """Sync the file, close it, then sync the names."""
        self._disk.sync(self._open())
        self.close()
        self._disk.sync_names(self._key)

    def close(self) -> None:
        """Close the file if it is open; from now on nothing creates it any more."""
        with self._lock:
            self.closed = True
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def _open(self) -> int:
        with self._lock:
            if self.closed:
                raise BackendUnavailable(f"{self._key} was let go of before it was written")
            if self._descriptor is None:
                self._descriptor = self._disk.writing(self._disk.create, self._key)
            return self._descriptor
