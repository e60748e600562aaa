"""Goal: a command whose standard streams are closed ends with the right status, says why where it
can, and never takes a file of its own for a standard stream. Method: a shell closes them in every
combination; a device that is always full is the other output that cannot be written.
"""

import itertools
import subprocess
from pathlib import Path

import pytest

from tests.e2e.offline import DEADLINE_S, ENVIRONMENT, PROGRAM, Desk, Done

TEXT = b"What is the tide at noon?\n"
NAMES = {0: "<&-", 1: ">&-", 2: "2>&-"}
BY_DAY = [(0,), (1,), (2,), (0, 1, 2)]
CLOSED = [
    pytest.param(closed, marks=() if closed in BY_DAY else pytest.mark.nightly, id=str(closed))
    for size in (1, 2, 3)
    for closed in itertools.combinations(NAMES, size)
]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.well("seal", "-r", desk.user.recipient(), "-o", "a.age", stdin=TEXT)
    desk.write("plain", TEXT)
    return desk


def without(desk: Desk, closed: tuple[int, ...], *arguments: object) -> Done:
    redirections = " ".join(NAMES[number] for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *PROGRAM, *map(str, arguments)],
        input=TEXT,
        capture_output=True,
        cwd=desk.path,
        env=ENVIRONMENT,
        timeout=DEADLINE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.parametrize("closed", CLOSED)
def test_what_needs_a_closed_stream_fails_and_the_rest_does_not(
    desk: Desk, closed: tuple[int, ...]
) -> None:
    identity = ("-i", "user.txt")
    # Which streams each needs, and its status when it has them.
    commands: dict[tuple[object, ...], tuple[set[int], int]] = {
        ("cid",): ({0, 1}, 0),
        ("open", *identity, "a.age"): ({1}, 0),
        ("open", *identity, "-o", "out", "a.age"): (set(), 0),
        ("open", *identity, "--json", "-o", "told", "a.age"): ({1}, 0),
        ("seal", "-r", desk.user.recipient(), "-o", "b.age"): ({0}, 0),
        ("keygen", "-o", "new.txt"): (set(), 0),
        ("urn", "parse", "urn:blob:v4:x!"): (set(), 31),
    }
    for arguments, (needed, status) in commands.items():
        done = without(desk, closed, *arguments)

        lacking = needed & set(closed)
        assert (40 if lacking else status) == done.status, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if lacking and 2 not in closed:
            assert f"standard {'input' if 0 in lacking else 'output'}: Bad file" in done.stderr
        if 1 in closed:
            assert b"" == done.stdout
    # No report and no message went into a file that took a stream's place.
    for name in ("out", "told"):
        assert TEXT == desk.read(name)
    assert 3 == len(desk.read("new.txt").splitlines())
    assert ("b.age" in desk.names()) == (0 not in closed)


@pytest.mark.parametrize("arguments", [["--help"], ["cid", "--help"], ["--version"]])
def test_help_that_nobody_can_read_is_a_failure(desk: Desk, arguments: list[str]) -> None:
    done = without(desk, (1,), *arguments)

    with open("/dev/full", "wb") as full:  # noqa: PTH123 - as a shell's redirection does
        filled = desk.run(*arguments, stdout=full.fileno())

    assert (1, "storage-gateway: standard output: Bad file descriptor\n") == (
        done.status,
        done.stderr,
    )
    assert (1, "storage-gateway: standard output: No space left on device\n") == (
        filled.status,
        filled.stderr,
    )


def test_wrong_usage_is_wrong_usage_without_any_stream(desk: Desk) -> None:
    assert 2 == without(desk, (0, 1, 2), "nonsense").status
    assert 2 == without(desk, (0, 1, 2), "seal", "plain").status


def test_an_identity_cannot_come_from_a_closed_stream(desk: Desk) -> None:
    done = without(desk, (0,), "open", "-i", "-", "a.age")

    assert 40 == done.status
    assert "standard input: Bad file descriptor" in done.stderr
