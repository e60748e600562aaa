"""Output files and progress, as every command needs them."""

import errno
import os
import re
import select
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NoReturn

from tqdm import tqdm

from storage_gateway.ids import new_random_id

from .exits import EXIT_FAILED, EXIT_HUNG_UP, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE

__all__ = [
    "EXIT_FAILED",
    "EXIT_OK",
    "EXIT_USAGE",
    "Input",
    "fail",
    "give_up_stdout",
    "input_file",
    "is_stdout",
    "note",
    "output_file",
    "progress",
]

_TERMINAL = os.terminal_size((80, 24))
_STATUS = {signal.SIGTERM: EXIT_TERMINATED, signal.SIGHUP: EXIT_HUNG_UP}
_IDENTITY = re.compile(r"AGE-SECRET-KEY-[^\s'\"]*", re.IGNORECASE)


@contextmanager
def progress(
    total: int | None, label: str, *, quiet: bool, unit: str = "B"
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr, when that is a terminal; yields what moves it."""
    shown = sys.stderr.isatty() and not quiet
    size = os.get_terminal_size(sys.stderr.fileno()) if shown else _TERMINAL
    bar: tqdm[NoReturn] = tqdm(
        total=total,
        desc=label,
        unit=unit,
        unit_scale=True,
        unit_divisor=1024 if unit == "B" else 1000,
        # A terminal that does not say how large it is (0) would be shown nothing.
        ncols=(size.columns or _TERMINAL.columns) - 1,
        nrows=size.lines or _TERMINAL.lines,
        disable=not shown,
    )

    def advance(count: int) -> None:
        bar.update(count)

    with bar:
        yield advance


def is_stdout(path: Path | None) -> bool:
    """Tell whether an output is stdout: none given, or ``-``."""
    return path is None or str(path) == "-"


@contextmanager
def output_file(path: Path | None, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open stdout (None or ``-``), or a file that appears under its name only when it is whole.

    What is there already and is no regular file (a pipe, a device) is written to as it is.

    Raises:
        FileExistsError: there is such a file, and `force` is not given.
        OSError: it cannot be written.

    """
    if path is None or is_stdout(path):
        sys.stdout.flush()
        # A descriptor of its own: what could not be written to it is not tried again at exit.
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as file:
            yield file
    elif path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        if not force and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "the file exists", str(path))
        with _whole_file(path, force=force) as file:
            yield file


@contextmanager
def _whole_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    # Not made from the file's name, which may be as long as names can be; chosen before the file is
    # made, so that whatever stops us, we know what to remove.
    temporary = path.with_name(f".storage-gateway-{new_random_id()}.part")
    with _cleared_away_when_told_to_stop(temporary):
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                yield file
            if force:
                temporary.replace(path)
            else:
                _link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _cleared_away_when_told_to_stop(temporary: Path) -> Iterator[None]:
    """Remove the file before SIGTERM or SIGHUP ends the program.

    There and then: an exception that a signal raises within a finalizer would be lost. A signal
    that is ignored stays so, as nohup wants it.
    """
    caught = [number for number in _STATUS if signal.getsignal(number) is signal.SIG_DFL]

    def clear_away(number: int, _frame: object) -> NoReturn:
        temporary.unlink(missing_ok=True)
        os._exit(_STATUS[signal.Signals(number)])

    for number in caught:
        signal.signal(number, clear_away)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name; unlike a rename, replace nothing that appeared meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links; the check and the rename leave a moment between them.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "the file exists", str(path)) from None
        temporary.replace(path)


class Input:
    """A file or a pipe, read as its bytes come; `size` is that of a regular file."""

    def __init__(self, file: FileIO, size: int | None) -> None:
        """Take an open file, which stays the caller's to close."""
        self.size = size
        self._file = file

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none only at the end. Raises OSError."""
        # None, not nothing, has come yet of a pipe that somebody set not to block.
        while (piece := self._file.read(size)) is None:
            select.select([self._file], [], [])
        return piece

    def read_at(self, position: int, size: int) -> bytes:
        """Return the `size` bytes at a place in a file, fewer at its end. Raises OSError."""
        pieces = bytearray()
        while piece := os.pread(self._file.fileno(), size - len(pieces), position + len(pieces)):
            pieces += piece
        return bytes(pieces)


@contextmanager
def input_file(name: str) -> Iterator[Input]:
    """Open a file, or stdin for ``-``. Raises OSError."""
    if name == "-":
        # Even of a regular file some may have been read: its size would say nothing.
        yield Input(FileIO(sys.stdin.fileno(), closefd=False), None)
        return
    with FileIO(name) as file:
        state = os.fstat(file.fileno())
        yield Input(file, state.st_size if stat.S_ISREG(state.st_mode) else None)


def give_up_stdout() -> bool:
    """Flush stdout; return whether its text had to be given up, as it cannot be written.

    Python would try again at exit, and change the status.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def fail(command: str, problem: object) -> None:
    """Say on stderr what went wrong."""
    print(f"storage-gateway {command}: {redacted(str(problem))}", file=sys.stderr)


def note(command: str, text: str) -> None:
    """Say on stderr what goes on, above a progress bar if there is one."""
    tqdm.write(f"storage-gateway {command}: {text}", file=sys.stderr)


def redacted(text: str) -> str:
    """Return a message without the identity that somebody gave where a file name belongs."""
    return _IDENTITY.sub("AGE-SECRET-KEY-[not shown: give the file that holds it]", text)
