"""Output files and progress, as every command needs them."""

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from tqdm import tqdm

from .exits import EXIT_FAILED, EXIT_OK, EXIT_USAGE

__all__ = [
    "EXIT_FAILED",
    "EXIT_OK",
    "EXIT_USAGE",
    "fail",
    "input_file",
    "output_file",
    "progress",
]

_IDENTITY = re.compile(r"AGE-SECRET-KEY-[^\s'\"]*", re.IGNORECASE)


@contextmanager
def progress(total: int | None, label: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar in bytes on stderr, when that is a terminal; yields what moves it."""
    bar: tqdm[NoReturn] = tqdm(
        total=total,
        desc=label,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=quiet or not sys.stderr.isatty(),
    )

    def advance(count: int) -> None:
        bar.update(count)

    with bar:
        yield advance


@contextmanager
def output_file(path: Path | None, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open stdout (None or ``-``), or a file that appears under its name only when it is whole.

    What is there already and is no regular file (a pipe, a device) is written to as it is.

    Raises:
        FileExistsError: there is such a file, and `force` is not given.
        OSError: it cannot be written.

    """
    if path is None or str(path) == "-":
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
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
    # Not made from the file's name, which may be as long as names can be.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".storage-gateway-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        if force:
            temporary.replace(path)
        else:
            _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


@contextmanager
def input_file(name: str) -> Iterator[tuple[BufferedReader, int | None]]:
    """Open a file, or stdin for ``-``; with its size when that is known."""
    if name == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "it is closed")
        yield cast("BufferedReader", sys.stdin.buffer), None
        return
    with Path(name).open("rb") as file:
        state = os.fstat(file.fileno())
        yield file, state.st_size if stat.S_ISREG(state.st_mode) else None


def fail(command: str, problem: object) -> None:
    """Say on stderr what went wrong."""
    print(f"storage-gateway {command}: {redacted(str(problem))}", file=sys.stderr)


def redacted(text: str) -> str:
    """Return a message without the identity that somebody gave where a file name belongs."""
    return _IDENTITY.sub("AGE-SECRET-KEY-[not shown: give the file that holds it]", text)
