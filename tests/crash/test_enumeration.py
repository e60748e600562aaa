"""Goal: whatever crashes, at whatever step, nothing acknowledged is lost and nothing half written
stays.

Method: the use cases run over a disk that forgets what was not synced and a catalog that keeps what
was committed. The power is cut at each step of uploads and erasures, and at each step of the
recovery after that, keeping any part of what was not synced; processes are stopped at each step
while others claim their work, and go on. After each schedule all must be as `violations` says. How
many schedules were run is told at the end of the run, and each part fails below its floor.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from .interleavings import (
    at_random,
    beside,
    both_recover,
    cut_after_pause,
    faults,
    faults_in_recovery,
    killed_late,
    pauses,
)
from .schedules import Effort, Findings, Stage, cut_everywhere


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the schedules: how they are run by day and by night, and how many they must be.

    By night that is what was counted, less some where chance decides.
    """

    day: Callable[[Stage, Random], None]
    night: Callable[[Stage, Random], None]
    floor: int
    floor_nightly: int


THIS_FILE = "tests/crash/test_enumeration.py"
ORDERS_NIGHTLY = 2


def cuts(script: str, effort: Effort, floor: int, nightly: int, *, orders: int = 0) -> Part:
    """Cut the power at each step. ``orders`` more runs do in another order what threads do."""

    def run(stage: Stage, random: Random, effort: Effort, orders: int) -> None:
        for order in ("", *(f"~{n}" for n in range(1, orders + 1))):
            cut_everywhere(stage, script + order, effort, random)

    return Part(
        lambda stage, random: run(stage, random, effort, orders),
        lambda stage, random: run(stage, random, EFFORT_NIGHTLY, ORDERS_NIGHTLY),
        floor,
        nightly,
    )


EFFORT = Effort(16, 4)
EFFORT_LARGE = Effort(8, 2)
EFFORT_NIGHTLY = Effort(24, 6, recoveries=40)

PARTS = {
    "cut upload-empty": cuts("upload-empty", EFFORT, 30, 100),
    "cut upload-small": cuts("upload-small", EFFORT, 30, 100),
    "cut upload-leaves": cuts("upload-leaves", EFFORT, 80, 220, orders=1),
    "cut upload-segments": cuts("upload-segments", EFFORT_LARGE, 100, 600),
    "cut upload-three": cuts("upload-three", Effort(4, 2), 80, 970),
    "cut sealed-small": cuts("sealed-small", EFFORT, 30, 85),
    "cut sealed-segments": cuts("sealed-segments", EFFORT_LARGE, 90, 600),
    "cut broken-leaves": cuts("broken-leaves", EFFORT, 60, 260),
    "cut broken-segments": cuts("broken-segments", EFFORT_LARGE, 90, 570),
    "cut side-by-side": cuts("side-by-side", EFFORT, 150, 330, orders=1),
    "cut one-by-one": cuts("one-by-one", EFFORT, 60, 205),
    "cut erase": cuts("erase", EFFORT, 15, 39),
    "cut erase-segments": cuts("erase-segments", EFFORT, 18, 43),
    "cut upload-erase": cuts("upload-erase", EFFORT, 40, 148),
    "cut both-leaves": cuts("both-leaves", EFFORT_LARGE, 150, 600),
    "cut both-segments": cuts("both-segments", Effort(3, 1), 200, 1150),
    "cut both-broken": cuts("both-broken", EFFORT_LARGE, 150, 580),
    "cut both-erase": cuts("both-erase", EFFORT_LARGE, 20, 56),
    "fail lives-both": Part(
        lambda stage, _: faults(stage, "lives-both", stride=3),
        lambda stage, _: faults(stage, "lives-both"),
        50,
        172,
    ),
    "fail either-leaves": Part(
        lambda stage, _: faults(stage, "either-leaves", stride=3),
        lambda stage, _: faults(stage, "either-leaves"),
        50,
        172,
    ),
    "fail either-erase": Part(
        lambda stage, _: faults(stage, "either-erase", stride=2),
        lambda stage, _: faults(stage, "either-erase"),
        60,
        136,
    ),
    "pause both-leaves": Part(
        lambda stage, _: beside(stage, "both-leaves", "take-over", stride=2),
        lambda stage, _: pauses(stage, "both-leaves", "take-over", renewed=True),
        28,
        1100,
    ),
    "pause upload-small": Part(
        lambda stage, _: pauses(stage, "upload-small", "take-over", second_stride=2, renewed=True),
        lambda stage, _: pauses(stage, "upload-small", "take-over", renewed=True),
        150,
        401,
    ),
    "pause upload-small, lease lost": Part(
        lambda stage, _: pauses(stage, "upload-small", "take-over", stride=6, renewed=False),
        lambda stage, _: pauses(stage, "upload-small", "take-over", renewed=False),
        50,
        401,
    ),
    "pause sealed-segments": Part(
        lambda stage, _: beside(stage, "sealed-segments", "take-over", stride=4),
        lambda stage, _: pauses(stage, "sealed-segments~1", "take-over", renewed=True),
        12,
        803,
    ),
    "pause beyond the horizon": Part(
        lambda stage, _: beside(stage, "upload-leaves~1", "recover"),
        lambda stage, _: pauses(stage, "upload-leaves~1", "recover", renewed=True),
        30,
        670,
    ),
    "pause the living": Part(
        lambda stage, _: beside(stage, "upload-leaves", "recover-beside"),
        lambda stage, _: pauses(stage, "upload-segments", "recover-beside", renewed=True),
        30,
        426,
    ),
    "pause erase": Part(
        lambda stage, _: pauses(stage, "erase", "recover", stride=3, second_stride=2, renewed=True),
        lambda stage, _: pauses(stage, "erase-segments", "recover", renewed=True),
        40,
        481,
    ),
    "erase twice": Part(
        lambda stage, _: pauses(stage, "erase", "erase", renewed=True),
        lambda stage, _: pauses(stage, "erase-segments", "erase", renewed=True),
        60,
        157,
    ),
    "rivals": Part(
        lambda stage, _: pauses(stage, "rival", "other-rival", stride=2, renewed=True),
        lambda stage, _: pauses(stage, "rival", "other-rival", renewed=True),
        40,
        96,
    ),
    "killed late": Part(
        lambda stage, _: killed_late(stage, "upload-leaves", "take-over", most=3, stride=2),
        lambda stage, _: killed_late(stage, "upload-segments~1", "take-over", most=5),
        30,
        186,
    ),
    "cut after pause": Part(
        lambda stage, random: cut_after_pause(stage, "upload-leaves", "take-over", 60, random),
        lambda stage, random: cut_after_pause(stage, "upload-segments", "take-over", 600, random),
        60,
        631,
    ),
    "two recover": Part(
        lambda stage, random: both_recover(
            stage, "upload-leaves", "take-over", stride=2, tries=4, random=random
        ),
        lambda stage, random: both_recover(
            stage, "upload-segments", "take-over", stride=1, tries=20, random=random
        ),
        40,
        651,
    ),
    "fail upload-small": Part(
        lambda stage, _: faults(stage, "lives-small", stride=2),
        lambda stage, _: faults(stage, "lives-segments~1"),
        40,
        164,
    ),
    "fail sealed": Part(
        lambda stage, _: faults(stage, "lives-sealed", stride=3),
        lambda stage, _: faults(stage, "lives-sealed"),
        30,
        116,
    ),
    "fail broken": Part(
        lambda stage, _: faults(stage, "lives-broken", stride=3),
        lambda stage, _: faults(stage, "lives-broken"),
        30,
        140,
    ),
    "fail erase": Part(
        lambda stage, _: faults(stage, "lives-erase", stride=2),
        lambda stage, _: faults(stage, "lives-erase"),
        30,
        100,
    ),
    "fail recovery": Part(
        lambda stage, random: faults_in_recovery(
            stage, "upload-small", "take-over", stride=8, random=random
        ),
        lambda stage, _: faults_in_recovery(stage, "upload-segments", "recover"),
        80,
        4603,
    ),
    "fail clearing of graves": Part(
        lambda stage, random: faults_in_recovery(
            stage, "erase", "recover", stride=6, random=random
        ),
        lambda stage, _: faults_in_recovery(stage, "erase-segments", "recover"),
        80,
        1885,
    ),
    "any order": Part(
        lambda stage, random: at_random(stage, "upload-leaves+take-over+take-over", 50, random),
        lambda stage, random: at_random(stage, "upload-segments+recover+take-over", 600, random),
        50,
        600,
    ),
}


@pytest.fixture(scope="module")
def total(measured: Callable[[str], None]) -> Iterator[Findings]:
    """Yield what sums up the parts, and tell the sum."""
    began_s = time.process_time()
    findings = Findings()
    yield findings
    measured(
        f"{findings.schedules:,} crash schedules, {len(findings.broken)} broken,"
        f" in {time.process_time() - began_s:.0f} s of processor time"
    )


@pytest.fixture
def stage() -> Iterator[Stage]:
    one = Stage()
    yield one
    one.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PARTS)
def test_nothing_is_lost_and_nothing_stays(
    name: str,
    stage: Stage,
    total: Findings,
    seed: int,
    nightly: bool,
    request: pytest.FixtureRequest,
) -> None:
    part = PARTS[name]
    (part.night if nightly else part.day)(stage, Random(seed))

    found = stage.findings
    total.schedules += found.schedules
    total.broken += found.broken
    for broken in found.broken[:20]:
        line, _, what = broken.partition(": ")
        print(f"to repeat: pytest --schedule '{line}' {THIS_FILE}::test_one_schedule\n  {what}")  # noqa: T201
    assert [] == found.broken[:3]
    assert (part.floor_nightly if nightly else part.floor) <= found.schedules


def test_one_schedule(stage: Stage, request: pytest.FixtureRequest) -> None:
    """The one that ``--schedule`` gives, or else some with each kind of move, and former faults."""
    asked = request.config.getoption("schedule")
    for line in [asked] if asked else EXAMPLES:
        stage.play(line)

    assert [] == stage.findings.broken


EXAMPLES = [
    "upload-leaves~1/A7/cut.101010/R7/cut.",
    "upload-small+take-over/A9/B4/A.renew/A/B",
    # A folder without a blob in it stayed: no list shows it, so its grave was closed over it.
    "erase/A3/cut.1",
    # Blobs stayed that a process wrote which had slept until its grave was closed.
    "upload-leaves+recover/A3/B/A.renew/A",
]
