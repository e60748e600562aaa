"""Goal: the enumeration of crashes finds the bugs that it is for.

Method: bugs are planted into the real code, and a part of the schedules must break on each. Those
parts run without a bug in test_enumeration.py, where nothing may break.
"""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from tests.planted_bugs import PLANTED_BUGS, plant

from .interleavings import beside, faults, killed_late, pauses
from .schedules import BrokenError, Effort, Stage, cut_everywhere

Part = Callable[[Stage, Random], None]


def _cut(script: str) -> Part:
    return lambda stage, random: cut_everywhere(stage, script, Effort(8, 3), random)


FOUND_BY: dict[str, Part] = {
    "no folder sync": _cut("upload-small"),
    "no file sync": _cut("upload-small"),
    "no sync of deletions": _cut("upload-leaves"),
    # Found in an order only in which the commit overtakes what it should have waited for.
    "commit before durable": _cut("upload-leaves~1"),
    "answer before commit": _cut("upload-small"),
    "delete before tombstone": _cut("erase"),
    "no intent first": _cut("upload-small"),
    "no segment row": _cut("upload-segments"),
    "commit unchecked": lambda stage, _: pauses(stage, "upload-small", "take-over", renewed=True),
    "resurrected claim": lambda stage, _: pauses(stage, "upload-small", "take-over", renewed=True),
    "bury before deleting": _cut("upload-small"),
    "grave closed early": lambda stage, _: killed_late(stage, "upload-leaves", "take-over", most=4),
    "late write forgotten": lambda stage, _: beside(stage, "upload-leaves", "recover"),
    "quorum not waited for": lambda stage, _: faults(stage, "lives-both"),
    "quorum of any size": lambda stage, _: faults(stage, "lives-both"),
}


@pytest.mark.parametrize("name", PLANTED_BUGS)
def test_a_planted_bug_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, seed: int, request: pytest.FixtureRequest
) -> None:
    stage = Stage(stop_at_first=True)
    request.addfinalizer(stage.close)
    for script in ("upload-small", "lives-both"):
        stage.before([script])  # the bug is not there yet
    plant(name, partial(monkeypatch.setattr, raising=True))

    with pytest.raises(BrokenError) as found:
        FOUND_BY[name](stage, Random(seed))

    print(found.value)  # noqa: T201


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("no file sync", _cut("upload-small~2")),
        ("no sync of deletions", _cut("upload-erase~1")),
        ("late write forgotten", FOUND_BY["late write forgotten"]),
    ],
)
def test_a_schedule_that_broke_breaks_again_when_it_is_played_from_its_line(
    name: str,
    part: Part,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    request: pytest.FixtureRequest,
) -> None:
    found, again = Stage(), Stage()
    for stage in (found, again):
        # Ended in the opposite order: each puts back what it found.
        request.addfinalizer(stage.close)
        stage.before(["upload-small"])
    plant(name, monkeypatch.setattr)
    part(found, Random(seed))
    lines = [broken.partition(": ")[0] for broken in found.findings.broken]
    for line in Random(seed).sample(lines, min(len(lines), 10)):
        again.play(line)

    assert lines
    assert min(len(lines), 10) == len(again.findings.broken)
