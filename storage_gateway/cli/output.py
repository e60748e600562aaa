"""Output files and progress, as every command needs them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from tqdm import tqdm

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


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
def output_file(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that appears under its name only when everything was written."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def input_file(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file, or stdin for ``-``; with its size when that is known."""
    if name == "-":
        yield sys.stdin.buffer, None
        return
    with Path(name).open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def fail(command: str, problem: object) -> None:
    """Say on stderr what went wrong."""
    print(f"storage-gateway {command}: {problem}", file=sys.stderr)
