"""Goal: a command that is told to stop leaves no file, whenever that is, and ends with the status
that is documented; what `nohup` ignores stays ignored. Method: signals in mid-stream and at random
moments, to real processes.
"""

import signal
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.e2e.offline import DEADLINE_S, ENVIRONMENT, PROGRAM, Desk
from tests.gateway import eventually

PIECE = bytes(range(256)) * 4096


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def begun(desk: Desk, *before: str) -> "subprocess.Popen[bytes]":
    """Start sealing what is never complete; return when some of it lies on the disk."""
    command = ["seal", "-r", str(desk.user.recipient()), "-o", "out.age"]
    process = subprocess.Popen(
        [*before, *PROGRAM, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=desk.path,
        env=ENVIRONMENT,
    )
    assert process.stdin
    process.stdin.write(PIECE)
    process.stdin.flush()

    async def has_begun() -> bool:
        return any(path.stat().st_size for path in desk.path.glob(".*.part"))

    await eventually(has_begun)
    return process


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=["term", "int", "hup"],
)
async def test_what_is_stopped_leaves_nothing(
    desk: Desk, number: signal.Signals, status: int
) -> None:
    names = desk.names()
    process = await begun(desk)

    process.send_signal(number)
    _, told = process.communicate(timeout=DEADLINE_S)

    assert (status, b"") == (process.returncode, told)
    assert names == desk.names()


async def test_one_who_is_told_twice_still_clears_away(desk: Desk) -> None:
    names = desk.names()
    process = await begun(desk)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)

    assert process.returncode in {143, 129}
    assert names == desk.names()


async def test_nohup_is_respected(desk: Desk) -> None:
    # What `nohup` does, without its redirections: the signal is ignored when the program begins.
    process = await begun(desk, "sh", "-c", 'trap "" HUP; exec "$@"', "sh")

    process.send_signal(signal.SIGHUP)
    process.communicate(PIECE, timeout=DEADLINE_S)

    assert 0 == process.returncode
    assert PIECE + PIECE == desk.well("open", "-i", "user.txt", "out.age")


async def test_what_a_kill_leaves_is_in_nobodys_way(desk: Desk) -> None:
    names = desk.names()
    process = await begun(desk)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    left = desk.names() - names

    desk.well("seal", "-r", desk.user.recipient(), "-o", "out.age", stdin=PIECE)

    assert 1 == len(left)
    assert left | {"out.age"} == desk.names() - names
    assert all(name.startswith(".storage-gateway-") for name in left)


def test_no_moment_is_a_wrong_one(desk: Desk, seed: int, *, nightly: bool) -> None:
    desk.write("file", PIECE)
    names = desk.names()
    command = [*PROGRAM, "seal", "-r", str(desk.user.recipient()), "-o", "out.age", "file"]
    random = Random(seed)

    for _ in range(200 if nightly else 6):
        process = subprocess.Popen(command, cwd=desk.path, env=ENVIRONMENT)
        try:
            process.wait(random.uniform(0.0, 0.8))
        except subprocess.TimeoutExpired:
            process.send_signal(random.choice([signal.SIGTERM, signal.SIGHUP]))
        status = process.wait(DEADLINE_S)
        # Before and after the file is there to be cleared away, the signal itself ends the process.
        assert status in {0, 143, 129, -signal.SIGTERM, -signal.SIGHUP}
        left = desk.names() - names
        assert left <= {"out.age"}
        if left:
            assert PIECE == desk.well("open", "-i", "user.txt", "out.age")
            (desk.path / "out.age").unlink()
