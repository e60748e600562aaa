"""A file system in memory that forgets in a crash all that was not synced.

File data and the names in folders are forgotten separately, as POSIX allows: a synced file is lost
with its name, a synced name is that of an empty file while its data was not synced.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

BASE = Path("/disk")
"""The one folder that is there from the beginning."""


@dataclass(slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass(slots=True)
class _Folder:
    names: "dict[str, _File | _Folder]" = field(default_factory=dict)
    durable: "dict[str, _File | _Folder]" = field(default_factory=dict)


class ForgetfulFs:
    """Keeps the `Fs` protocol. `crash` gives what would be found after a power cut."""

    def __init__(self) -> None:
        self._base = _Folder()
        self._open: dict[int, _File] = {}
        self._next_descriptor = 100
        self._lock = threading.RLock()
        self.operations = 0
        self.on_operation: Callable[[], None] = lambda: None
        """Called before each operation that changes something."""

    def crash(self, random: Random | None = None) -> "ForgetfulFs":
        """Return the disk after a power cut; this one goes on as if there had been none.

        Without ``random`` all that was not synced is lost, else each piece of it by chance.
        """
        after = ForgetfulFs()
        with self._lock:
            after._base = _crashed_folder(self._base, random)
        return after

    # The protocol.

    def make_folder(self, path: Path) -> bool:
        with self._changing():
            names = self._folder(path.parent).names
            if path.name in names:
                return False
            names[path.name] = _Folder()
            return True

    def create(self, path: Path) -> int:
        with self._changing():
            names = self._folder(path.parent).names
            if path.name in names:
                raise _os_error(errno.EEXIST)
            file = names[path.name] = _File()
            self._next_descriptor += 1
            self._open[self._next_descriptor] = file
            return self._next_descriptor

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        with self._changing():
            target = self._descriptor(descriptor).data
            target.extend(bytes(max(0, offset + len(data) - len(target))))
            target[offset : offset + len(data)] = data

    def sync(self, descriptor: int) -> None:
        with self._changing():
            file = self._descriptor(descriptor)
            file.durable = bytes(file.data)

    def close(self, descriptor: int) -> None:
        with self._changing():
            self._descriptor(descriptor)
            del self._open[descriptor]

    def sync_folder(self, path: Path) -> None:
        with self._changing():
            folder = self._folder(path)
            folder.durable = dict(folder.names)

    def read_at(self, path: Path, offset: int, size: int) -> bytes:
        with self._lock:
            return bytes(self._file(path).data[offset : offset + size])

    def size(self, path: Path) -> int:
        with self._lock:
            found = self._find(path)
            return len(found.data) if isinstance(found, _File) else 4096

    def remove(self, path: Path) -> None:
        with self._changing():
            self._file(path)
            del self._folder(path.parent).names[path.name]

    def remove_folder(self, path: Path) -> None:
        with self._changing():
            if self._folder(path).names:
                raise _os_error(errno.ENOTEMPTY)
            del self._folder(path.parent).names[path.name]

    def scan(self, path: Path) -> Iterator[tuple[str, bool, int]]:
        with self._lock:
            found = [
                (name, isinstance(node, _Folder), len(node.data) if isinstance(node, _File) else 0)
                for name, node in self._folder(path).names.items()
            ]
        yield from found

    def _changing(self) -> threading.RLock:
        self.operations += 1
        self.on_operation()
        return self._lock

    def _find(self, path: Path) -> _File | _Folder:
        node: _File | _Folder = self._base
        for name in path.relative_to(BASE).parts:
            if isinstance(node, _File):
                raise _os_error(errno.ENOTDIR)
            if name not in node.names:
                raise _os_error(errno.ENOENT)
            node = node.names[name]
        return node

    def _folder(self, path: Path) -> _Folder:
        found = self._find(path)
        if isinstance(found, _File):
            raise _os_error(errno.ENOTDIR)
        return found

    def _file(self, path: Path) -> _File:
        found = self._find(path)
        if isinstance(found, _Folder):
            raise _os_error(errno.EISDIR)
        return found

    def _descriptor(self, descriptor: int) -> _File:
        if descriptor not in self._open:
            raise _os_error(errno.EBADF)
        return self._open[descriptor]


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _crashed_folder(folder: _Folder, random: Random | None) -> _Folder:
    names = dict(folder.durable)
    if random is not None:
        for name in folder.names.keys() | folder.durable.keys():
            if random.random() < 0.5:
                names.pop(name, None)
                if name in folder.names:
                    names[name] = folder.names[name]
    kept = {
        name: _crashed_folder(node, random)
        if isinstance(node, _Folder)
        else _crashed_file(node, random)
        for name, node in names.items()
    }
    return _Folder(dict(kept), kept)


def _crashed_file(file: _File, random: Random | None) -> _File:
    data = file.durable
    if random is not None and random.random() < 0.5:
        data = bytes(file.data)
    return _File(bytearray(data), data)
