"""Goal: the offline commands stream in flat memory, leave nothing half-made, and speak to a
terminal only where there is one. Method: real pipes of many mebibytes with the peak memory read
from the kernel; slow pipes, and such as do not block; pseudo-terminals.
"""

import fcntl
import hashlib
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crypto import CHUNK_SIZE, SEALED_CHUNK_SIZE, new_bare_head
from tests.e2e.offline import DEADLINE_S, ENVIRONMENT, Desk

MIB = 1 << 20
TEXT = b"What is the tide at noon?\n"
GROWTH_MAX = 24 * MIB
# Runs a command, then writes the peak of its memory (VmHWM, kB) as the last line of stderr.
MEASURED = """
import re, sys
from pathlib import Path
from storage_gateway.cli import run
status = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(status)
"""
PIECE = bytes(range(256)) * 4096


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def measured(desk: Desk, *arguments: str, stdin: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", MEASURED, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=desk.path,
        env=ENVIRONMENT,
    )


def through_pipes(desk: Desk, mebibytes: int) -> list[int]:
    """Seal, rewrap and open through pipes; return each one's peak of memory in bytes."""
    user = str(desk.user.recipient())
    rewrap = ("rewrap", "-i", "user.txt", "--current", user, "--wanted", user, "-")
    source, sink = os.pipe()
    seal = measured(desk, "seal", "-r", user, stdin=source)
    os.close(source)
    assert seal.stdout
    rewrapped = measured(desk, *rewrap, stdin=seal.stdout.fileno())
    seal.stdout.close()
    assert rewrapped.stdout
    opened = measured(desk, "open", "-i", "user.txt", "-", stdin=rewrapped.stdout.fileno())
    rewrapped.stdout.close()

    def feed() -> None:
        with os.fdopen(sink, "wb") as pipe:
            for _ in range(mebibytes):
                pipe.write(PIECE)

    thread = threading.Thread(target=feed)
    thread.start()
    digest, expected = hashlib.sha256(), hashlib.sha256()
    assert opened.stdout
    while piece := opened.stdout.read(MIB):
        digest.update(piece)
    thread.join()
    for _ in range(mebibytes):
        expected.update(PIECE)
    assert expected.digest() == digest.digest()
    peaks = []
    for process in (seal, rewrapped, opened):
        assert process.stderr
        peaks.append(int(process.stderr.read().split()[-1]) * 1024)
        process.stderr.close()
        assert 0 == process.wait(DEADLINE_S)
    opened.stdout.close()
    return peaks


@pytest.mark.parametrize("mebibytes", [128, pytest.param(1024, marks=pytest.mark.nightly)])
def test_memory_does_not_grow_with_what_passes(desk: Desk, mebibytes: int) -> None:
    least = through_pipes(desk, 4)

    peaks = through_pipes(desk, mebibytes)

    for low, high in zip(least, peaks, strict=True):
        assert high - low < GROWTH_MAX


def test_memory_of_inspect_and_cid_does_not_grow(desk: Desk) -> None:
    desk.well("seal", "-r", desk.user.recipient(), "-o", "a.age", stdin=PIECE * 64)

    for command in (("inspect", "--cid", "a.age"), ("cid", "a.age"), ("inspect", "-")):
        with desk.path.joinpath("a.age").open("rb") as file:
            process = measured(desk, *command, stdin=file.fileno())
            _, told = process.communicate(timeout=DEADLINE_S)
        small = measured(desk, "urn", "parse", "urn:blob:v4:" + "a" * 32, stdin=subprocess.DEVNULL)
        _, least = small.communicate(timeout=DEADLINE_S)
        assert (0, 0) == (process.returncode, small.returncode)
        assert (int(told.split()[-1]) - int(least.split()[-1])) * 1024 < GROWTH_MAX


def test_a_reader_that_has_seen_enough_is_no_error_in_words(desk: Desk) -> None:
    desk.well("seal", "-r", desk.user.recipient(), "-o", "a.age", stdin=PIECE * 4)
    process = desk.start("open", "-i", "user.txt", "a.age")
    assert process.stdout
    assert process.stderr

    assert PIECE[:10] == process.stdout.read(10)
    process.stdout.close()

    assert b"" == process.stderr.read()
    assert 1 == process.wait(DEADLINE_S)
    for stream in (process.stdin, process.stderr):
        assert stream
        stream.close()


def test_plaintext_with_a_faulty_end_gets_no_name(desk: Desk) -> None:
    sealed = desk.well("seal", "-r", desk.user.recipient(), stdin=PIECE)
    names = desk.names()

    done = desk.run("open", "-i", "user.txt", "-o", "out", "-", stdin=sealed[:-1])
    piped = desk.run("open", "-i", "user.txt", "-", stdin=sealed[:-1])

    assert (15, names) == (done.status, desk.names())
    assert 15 == piped.status
    assert PIECE.startswith(piped.stdout)


@pytest.mark.parametrize("left", [0, 1, 16])
def test_a_file_whose_length_shows_the_cut_releases_nothing(desk: Desk, left: int) -> None:
    sealed = desk.well("seal", "-r", desk.user.recipient(), stdin=PIECE)
    first = len(sealed) % SEALED_CHUNK_SIZE  # the head: the plaintext fills its chunks
    size = first + 15 * SEALED_CHUNK_SIZE + left
    desk.write("cut.age", sealed[:size])
    desk.write("head", sealed[:first])
    desk.write("cut", sealed[first:size])

    whole = desk.run("open", "-i", "user.txt", "cut.age")
    apart = desk.run("open", "-i", "user.txt", "--head", "head", "cut")
    piped = desk.run("open", "-i", "user.txt", "-", stdin=sealed[:size])

    assert (15, 15, 15) == (whole.status, apart.status, piped.status)
    # Whole chunks are a length that a payload can have; only the missing mark tells of the cut.
    released = PIECE[: 15 * CHUNK_SIZE]
    assert (released if left == 0 else b"") == whole.stdout == apart.stdout
    assert released == piped.stdout


def test_a_named_pipe_and_a_device_are_written_as_they_are(desk: Desk) -> None:
    desk.well("seal", "-r", desk.user.recipient(), "-o", "a.age", stdin=TEXT)
    os.mkfifo(desk.path / "fifo")
    reader = desk.start("cid", "fifo")

    desk.well("open", "-i", "user.txt", "-o", "fifo", "a.age")
    desk.well("open", "-i", "user.txt", "-o", "/dev/null", "a.age")

    told, _ = reader.communicate(timeout=DEADLINE_S)
    assert desk.well("cid", stdin=TEXT) == told
    assert (desk.path / "fifo").is_fifo()


@contextmanager
def terminal(columns: int = 80) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24 if columns else 0, columns))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("columns", [80, 0])
@pytest.mark.parametrize(("option", "shown"), [((), True), (("--quiet",), False)])
def test_progress_is_shown_on_a_terminal(
    desk: Desk, option: tuple[str, ...], *, shown: bool, columns: int
) -> None:
    desk.write("file", PIECE)
    user = str(desk.user.recipient())
    for arguments in (
        ("cid", "file"),
        ("seal", "-r", user, "-o", "a.age", "file"),
        ("open", "-i", "user.txt", "-o", "out", "a.age"),
        ("rewrap", "-i", "user.txt", "--current", user, "--wanted", user, "-o", "b.age", "a.age"),
        ("inspect", "--cid", "a.age"),
    ):
        with terminal(columns) as (ours, theirs):
            process = desk.start(*arguments, *option, stderr=theirs)
            process.communicate(timeout=DEADLINE_S)
            os.write(theirs, b"end")
            told = os.read(ours, 4096)

        assert shown == (f"{arguments[0]}: 100%".encode() in told), told
    assert b"" == desk.run("cid", "file").stderr.encode()


def test_a_sealed_file_is_not_written_to_a_terminal(desk: Desk) -> None:
    with terminal() as (_, theirs):
        done = desk.run("seal", "-r", desk.user.recipient(), stdin=TEXT, stdout=theirs)

    assert 2 == done.status
    assert "-o FILE" in done.stderr


def comes(process: "subprocess.Popen[bytes]", size: int) -> bytes:
    """Return the next `size` bytes that a command writes while its input stays open."""
    assert process.stdout
    data = b""
    while len(data) < size:
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        assert ready, f"{len(data)} of {size} bytes came"
        data += os.read(process.stdout.fileno(), size - len(data))
    return data


def test_a_slow_pipe_is_passed_on_as_its_bytes_come(desk: Desk) -> None:
    sealing = desk.start("seal", "-r", desk.user.recipient())
    opening = desk.start("open", "-i", "user.txt", "-")
    for process in (sealing, opening):
        assert process.stdin
    chunk = PIECE[:CHUNK_SIZE]

    # One byte more than a chunk: only then a chunk is known not to be the last.
    for piece in (chunk[:1000], chunk[1000:], b"!"):
        sealing.stdin.write(piece)  # type: ignore[union-attr]
        sealing.stdin.flush()  # type: ignore[union-attr]
    head = len(new_bare_head([desk.user.recipient()]).head)
    sealed = comes(sealing, head + SEALED_CHUNK_SIZE)
    for start in range(0, len(sealed), 9_999):
        opening.stdin.write(sealed[start : start + 9_999])  # type: ignore[union-attr]
        opening.stdin.flush()  # type: ignore[union-attr]

    assert chunk == comes(opening, CHUNK_SIZE)
    rest, _ = sealing.communicate(timeout=DEADLINE_S)
    assert (b"!", b"") == opening.communicate(rest, timeout=DEADLINE_S)
    assert (0, 0) == (sealing.returncode, opening.returncode)


def test_a_pipe_that_does_not_block_is_read_to_its_end(desk: Desk) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    process = measured(desk, "cid", stdin=ours)
    with os.fdopen(theirs, "wb") as pipe:
        for start in range(0, len(TEXT), 5):
            pipe.write(TEXT[start : start + 5])
            pipe.flush()
            # So that it finds the pipe empty, and open: what must not be taken for the end.
            until_it_waits(process, ours)
    told, _ = process.communicate(timeout=DEADLINE_S)
    os.close(ours)

    assert desk.well("cid", stdin=TEXT) == told


def until_it_waits(process: "subprocess.Popen[bytes]", pipe: int) -> None:
    """Return when a process has read all of a pipe, and waits, or has ended."""
    stat = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + DEADLINE_S
    while unread(pipe) or stat.read_text("ascii").rsplit(")", 1)[1].split()[0] not in "SZ":
        assert time.monotonic() < deadline


def unread(pipe: int) -> int:
    counted = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(counted, sys.byteorder)


def test_names_may_be_as_long_as_names_can_be(desk: Desk) -> None:
    long = "n" * 255
    desk.write("in", TEXT)

    desk.well("seal", "-r", desk.user.recipient(), "-o", long, "in")
    desk.well("open", "-i", "user.txt", "-o", "m" * 255, long)
    desk.well("keygen", "-o", "k" * 255)
    too_long = desk.run("open", "-i", "user.txt", "-o", "o" * 256, long)

    assert TEXT == desk.read("m" * 255)
    assert 3 == len(desk.read("k" * 255).splitlines())
    assert 40 == too_long.status
    assert "File name too long" in too_long.stderr
