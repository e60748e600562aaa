"""Goal: the offline commands stream in flat memory, leave nothing half-made, and speak to a
terminal only where there is one. Method: real pipes of many mebibytes with the peak memory read
from the kernel; signals in mid-stream; pseudo-terminals.
"""

import hashlib
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.offline import DEADLINE_S, ENVIRONMENT, Desk
from tests.gateway import eventually

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


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
async def test_what_is_stopped_leaves_nothing(
    desk: Desk, number: signal.Signals, status: int
) -> None:
    names = desk.names()
    process = desk.start("seal", "-r", desk.user.recipient(), "-o", "out.age")
    assert process.stdin
    process.stdin.write(PIECE * 3)
    process.stdin.flush()

    async def has_begun() -> bool:
        return any(name.endswith(".part") for name in desk.names())

    await eventually(has_begun)

    process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)

    assert status == process.returncode
    assert names == desk.names()


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
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(("option", "shown"), [((), True), (("--quiet",), False)])
def test_progress_is_shown_on_a_terminal(
    desk: Desk, option: tuple[str, ...], *, shown: bool
) -> None:
    desk.write("file", PIECE)
    with terminal() as (ours, theirs):
        process = desk.start("cid", *option, "file", stderr=theirs)
        process.communicate(timeout=DEADLINE_S)
        os.write(theirs, b"end")
        told = os.read(ours, 4096)

    assert shown == (b"cid: 100%" in told), told
    assert b"" == desk.run("cid", "file").stderr.encode()


def test_a_sealed_file_is_not_written_to_a_terminal(desk: Desk) -> None:
    with terminal() as (_, theirs):
        done = desk.run("seal", "-r", desk.user.recipient(), stdin=TEXT, stdout=theirs)

    assert 2 == done.status
    assert "-o FILE" in done.stderr
