"""A file system in memory that forgets in a crash all that was not synced, or any part of it.

File data and the names in folders are forgotten separately, as POSIX allows: a synced file is lost
with its name, a synced name is that of an empty file while its data was not synced. A write may be
torn in two, of which either half is kept; a name may be found in any state that it went through
since its folder was synced. Each of these is one *choice* of a crash.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Union

BASE = Path("/disk")
"""The one folder that is there from the beginning."""

Choose = Callable[[int], int]
"""Given how many states a piece may be found in, from nothing of it (0) to all, picks one."""

_Node = Union["_File", "_Folder"]


@dataclass(slots=True)
class _File:
    durable: tuple[tuple[int, bytes], ...] = ()
    """Writes one after the other, each with its offset."""
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)
    _data: bytes | None = None

    def data(self) -> bytes:
        if self._data is None:
            writes = (*self.durable, *self.unsynced)
            whole = bytearray(max((at + len(data) for at, data in writes), default=0))
            for at, data in writes:
                whole[at : at + len(data)] = data
            self._data = bytes(whole)
        return self._data

    def write(self, at: int, data: bytes) -> None:
        self._data = None
        half = (len(data) + 1) // 2
        self.unsynced.append((at, data[:half]))
        if data[half:]:
            self.unsynced.append((at + half, data[half:]))

    def sync(self) -> None:
        self.durable += tuple(self.unsynced)
        self.unsynced = []

    def copy(self) -> "_File":
        return _File(self.durable, list(self.unsynced), self._data)


@dataclass(slots=True)
class _Folder:
    names: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    unsynced: dict[str, list[_Node | None]] = field(default_factory=dict)
    """The states that a name went through since the folder was synced."""

    def put(self, name: str, node: _Node | None) -> None:
        self.unsynced.setdefault(name, []).append(node)
        if node is None:
            del self.names[name]
        else:
            self.names[name] = node

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced = {}


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
        return self._crash(random.randrange if random is not None else lambda _states: 0)

    def choices(self) -> list[int]:
        """Return how many states each piece that was not synced may be found in after a crash."""
        found: list[int] = []

        def choose(states: int) -> int:
            found.append(states)
            return 0

        self._crash(choose)
        return found

    def crash_choosing(self, chosen: Sequence[int]) -> "ForgetfulFs":
        """As `crash`; ``chosen`` has one state for each of `choices`."""
        left = iter(chosen)
        return self._crash(lambda _states: next(left))

    def _crash(self, choose: Choose) -> "ForgetfulFs":
        after = ForgetfulFs()
        with self._lock:
            after._base = _crashed_folder(self._base, choose)
        return after

    def copy(self) -> "ForgetfulFs":
        """Return the same disk once more, what is not synced included, and no open file."""
        other = ForgetfulFs()
        with self._lock:
            other._base = _copied_folder(self._base, {})
        return other

    def fingerprint(self) -> object:
        """Return what is equal only for disks that hold the same, synced or not."""
        return _fingerprint(self._base)

    # The protocol.

    def make_folder(self, path: Path) -> bool:
        with self._changing():
            parent = self._folder(path.parent)
            if path.name in parent.names:
                return False
            parent.put(path.name, _Folder())
            return True

    def create(self, path: Path) -> int:
        with self._changing():
            parent = self._folder(path.parent)
            if path.name in parent.names:
                raise _os_error(errno.EEXIST)
            file = _File()
            parent.put(path.name, file)
            self._next_descriptor += 1
            self._open[self._next_descriptor] = file
            return self._next_descriptor

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        with self._changing():
            self._descriptor(descriptor).write(offset, bytes(data))

    def sync(self, descriptor: int) -> None:
        with self._changing():
            self._descriptor(descriptor).sync()

    def close(self, descriptor: int) -> None:
        with self._changing():
            self._descriptor(descriptor)
            del self._open[descriptor]

    def sync_folder(self, path: Path) -> None:
        with self._changing():
            self._folder(path).sync()

    def read_at(self, path: Path, offset: int, size: int) -> bytes:
        with self._lock:
            return self._file(path).data()[offset : offset + size]

    def size(self, path: Path) -> int:
        with self._lock:
            found = self._find(path)
            return len(found.data()) if isinstance(found, _File) else 4096

    def remove(self, path: Path) -> None:
        with self._changing():
            self._file(path)
            self._folder(path.parent).put(path.name, None)

    def remove_folder(self, path: Path) -> None:
        with self._changing():
            if self._folder(path).names:
                raise _os_error(errno.ENOTEMPTY)
            self._folder(path.parent).put(path.name, None)

    def scan(self, path: Path) -> Iterator[tuple[str, bool, int]]:
        with self._lock:
            found = [
                (
                    name,
                    isinstance(node, _Folder),
                    len(node.data()) if isinstance(node, _File) else 0,
                )
                for name, node in self._folder(path).names.items()
            ]
        yield from found

    def _changing(self) -> threading.RLock:
        self.operations += 1
        self.on_operation()
        return self._lock

    def _find(self, path: Path) -> _Node:
        node: _Node = self._base
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


def _crashed_folder(folder: _Folder, choose: Choose) -> _Folder:
    """Each piece is chosen on exactly once and in the same order, whatever was chosen before."""
    kept: dict[str, _Node] = {}
    for name in sorted(folder.durable.keys() | folder.unsynced.keys()):
        states = [folder.durable.get(name), *folder.unsynced.get(name, ())]
        chosen = states[choose(len(states)) if len(states) > 1 else 0]
        after = {
            id(node): _crashed_folder(node, choose)
            if isinstance(node, _Folder)
            else _crashed_file(node, choose)
            for node in {id(state): state for state in states}.values()
            if node is not None
        }
        if chosen is not None:
            kept[name] = after[id(chosen)]
    return _Folder(dict(kept), kept)


def _crashed_file(file: _File, choose: Choose) -> _File:
    return _File(file.durable + tuple(piece for piece in file.unsynced if choose(2)))


def _copied_folder(folder: _Folder, copied: dict[int, _Node]) -> _Folder:
    def copy(node: _Node) -> _Node:
        if id(node) not in copied:
            copied[id(node)] = (
                _copied_folder(node, copied) if isinstance(node, _Folder) else node.copy()
            )
        return copied[id(node)]

    return _Folder(
        {name: copy(node) for name, node in folder.names.items()},
        {name: copy(node) for name, node in folder.durable.items()},
        {
            name: [None if node is None else copy(node) for node in states]
            for name, states in folder.unsynced.items()
        },
    )


def _fingerprint(folder: _Folder) -> object:
    return tuple(
        (
            name,
            _fingerprint(node)
            if isinstance(node, _Folder)
            # Their hashes, which Python keeps: not their places in memory, which are used again.
            else tuple((at, hash(data)) for at, data in (*node.durable, *node.unsynced) if data),
        )
        for name, node in sorted(folder.names.items())
    )
