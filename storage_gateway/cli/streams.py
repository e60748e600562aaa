"""Streams of the offline commands: sources and targets that name themselves in every error.

Everything passes in pieces of about a mebibyte: memory does not grow with a file. What an offline
command does runs inside `run_offline`, which turns failures into messages and exit statuses.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

from crypto import scan_head

from .exits import EXIT_HUNG_UP, EXIT_TERMINATED, EXIT_USAGE, Failure, UsageFault, about, exit_of
from .output import fail, input_file, output_file, progress

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

    def __init__(
        self, name: str, file: BufferedReader, size: int | None, on_bytes: Callable[[int], object]
    ) -> None:
        self.name = name
        self.size = size
        self._file = file
        self._on_bytes = on_bytes

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as they come; none only at the end. Raises Failure."""
        with about(self.name):
            piece = self._file.read1(size)
        self._on_bytes(len(piece))
        return piece

    def read_at(self, position: int, size: int) -> bytes:
        """Return the `size` bytes at a place in a file, fewer at its end. Raises Failure."""
        with about(self.name):
            self._file.seek(position)
            return self._file.read(size)


class Target:
    """A file or stdout. Names itself when it cannot be written."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self._file = file

    def write(self, data: bytes, /) -> None:
        """Take all of these bytes. Raises Failure, BrokenPipeError."""
        with about(self.name):
            self._file.write(data)


def name_of(file: object) -> str:
    """Return how messages name an input."""
    return _STANDARD["in"] if str(file) == "-" else str(file)


@contextmanager
def source_of(name: str, command: str, *, quiet: bool) -> Iterator[Source]:
    """Open an input, ``-`` for stdin. Raises Failure."""
    with ExitStack() as stack:
        with about(name_of(name)):
            file, size = stack.enter_context(input_file(name))
        advance = stack.enter_context(progress(size, command, quiet=quiet))
        yield Source(name_of(name), file, size, advance)


@contextmanager
def target_of(path: Path | None, *, force: bool) -> Iterator[Target]:
    """Open an output as `output_file` does. Raises Failure, also for what closing it meets."""
    name = _STANDARD["out"] if path is None or str(path) == "-" else str(path)
    with about(name), output_file(path, force=force) as file:
        yield Target(name, file)


def refuse_terminal(path: Path | None, what: str) -> None:
    """Raise UsageFault when `what`, which is binary, would be written to a terminal."""
    if (path is None or str(path) == "-") and sys.stdout.isatty():
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
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has hang-ups ignored
            signal.signal(number, _terminate)  # so that temporary files are removed
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
        _drop_what_cannot_be_written()
        fail(command, f"{failure}\n  remedy: {row.remedy}")
        return row.status
    return status


def _drop_what_cannot_be_written() -> None:
    """Flush stdout, or give its text up: Python would try again at exit, and change the status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_HUNG_UP if number == signal.SIGHUP else EXIT_TERMINATED)
