"""Streams of the offline commands: sources and targets that name themselves in every error.

Everything passes in pieces of about a mebibyte: memory does not grow with a file. What an offline
command does runs inside `run_offline`, which turns failures into messages and exit statuses.
"""

import argparse
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from crypto import scan_head

from .exits import EXIT_USAGE, Failure, UsageFault, about, exit_of
from .output import Input, fail, give_up_stdout, input_file, is_stdout, output_file, progress

PIECE_SIZE = 1 << 20
_STANDARD = {"in": "standard input", "out": "standard output"}


class Reader(Protocol):
    """What is read from: `size` bytes at most, none at the end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        ...


class Writer(Protocol):
    """What is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of these bytes."""
        ...


class Source:
    """A file or stdin. Moves the progress bar, and names itself when it cannot be read."""

    def __init__(self, name: str, file: Input, on_bytes: Callable[[int], object]) -> None:
        self.name = name
        self.size = file.size
        self._file = file
        self._on_bytes = on_bytes

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as they come; none only at the end. Raises Failure."""
        with about(self.name):
            piece = self._file.read(size)
        self._on_bytes(len(piece))
        return piece

    def read_at(self, position: int, size: int) -> bytes:
        """Return the `size` bytes at a place in a file, fewer at its end. Raises Failure."""
        with about(self.name):
            return self._file.read_at(position, size)


class Target:
    """A file or stdout. Names itself when it cannot be written."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self._file = file

    def write(self, data: bytes, /) -> None:
        """Take all of these bytes. Raises Failure, BrokenPipeError."""
        with about(self.name):
            self._file.write(data)

    def sync(self) -> None:
        """Wait until a file is on its disk; a pipe has none. Raises Failure."""
        with about(self.name):
            self._file.flush()
            if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                os.fsync(self._file.fileno())


def name_of(file: object) -> str:
    """Return how messages name an input."""
    return _STANDARD["in"] if str(file) == "-" else str(file)


@contextmanager
def source_of(name: str, command: str, *, quiet: bool) -> Iterator[Source]:
    """Open an input, ``-`` for stdin. Raises Failure."""
    with ExitStack() as stack:
        with about(name_of(name)):
            file = stack.enter_context(input_file(name))
        advance = stack.enter_context(progress(file.size, command, quiet=quiet))
        yield Source(name_of(name), file, advance)


@contextmanager
def target_of(path: Path | None, *, force: bool) -> Iterator[Target]:
    """Open an output as `output_file` does. Raises Failure, also for what closing it meets."""
    name = _STANDARD["out"] if is_stdout(path) else str(path)
    with about(name), output_file(path, force=force) as file:
        yield Target(name, file)


def refuse_terminal(path: Path | None, what: str) -> None:
    """Raise UsageFault when `what`, which is binary, would be written to a terminal."""
    if is_stdout(path) and sys.stdout.isatty():
        raise UsageFault(f"{what} is binary; give -o FILE, or redirect the output")


def one_stdin(names: Sequence[object]) -> None:
    """Raise UsageFault when more than one input is stdin."""
    if sum(str(name) == "-" for name in names) > 1:
        raise UsageFault("only one input can be '-' (standard input)")


def read_head(source: Reader) -> tuple[bytes, bytes]:
    """Read an age file up to and beyond its head; return the head, and what was read after it.

    Raises HeaderError and its kinds.
    """
    buffer = bytearray()
    size = None
    while size is None:
        piece = source.read(PIECE_SIZE)
        buffer += piece
        size = scan_head(buffer, at_end=not piece)
    return bytes(buffer[:size]), bytes(buffer[size:])


def pieces_of(source: Reader, size: int, first: bytes = b"") -> Iterator[bytes]:
    """Yield `first` and all that follows in pieces of exactly `size` bytes; the last is shorter."""
    piece = first
    while True:
        while len(piece) < size and (more := source.read(size - len(piece))):
            piece += more
        if not piece:
            return
        yield piece[:size]
        piece = piece[size:]


def run_offline(
    command: str, work: Callable[[argparse.Namespace], int], options: argparse.Namespace
) -> int:
    """Do the work; return its exit status, or that of its failure, which is told on stderr."""
    try:
        # Files name themselves in what they raise; what is left is the report on stdout.
        with about(_STANDARD["out"]):
            status = work(options)
            sys.stdout.flush()
    except UsageFault as fault:
        fail(command, fault)
        return EXIT_USAGE
    except Failure as failure:
        row = exit_of(failure.error)
        give_up_stdout()
        fail(command, f"{failure}\n  remedy: {row.remedy}")
        return row.status
    return status
