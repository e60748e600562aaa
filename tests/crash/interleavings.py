"""Schedules of two and three processes: one is stopped, others go on, the first goes on again.

How many steps another one has to take depends on where the first one stopped, so these are found
while they are run: steps are added until the process comes to its end.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

from .processes import FAULTS
from .schedules import Stage


def _steps(stage: Stage, before: str, letter: str, after: str, stride: int) -> Iterator[str]:
    """Play ``before``, some steps of a process, ``after``: for 0 steps, ``stride``, and so on until
    it ends within them. Yields each schedule's beginning, up to those steps.
    """
    at = len(before.split("/")) - 1
    for steps in count(0, stride):
        beginning = f"{before}/{letter}{steps}"
        ended = stage.play(beginning + after)
        yield beginning
        if ended[at]:
            return


def pauses(
    stage: Stage,
    first: str,
    second: str,
    *,
    stride: int = 1,
    second_stride: int = 1,
    renewed: bool,
) -> None:
    """Stop A at each of its steps; let B take each number of steps there; let A go on to its end,
    with its lease renewed or not; then B.
    """
    scripts = f"{first}+{second}"
    going_on = "/A.renew/A" if renewed else "/A"
    for beginning in _steps(stage, scripts, "A", "", stride):
        for _ in _steps(stage, beginning, "B", f"{going_on}/B", second_stride):
            pass


def beside(stage: Stage, first: str, second: str, *, stride: int = 1) -> None:
    """Stop A at each of its steps, let the whole of B happen there, let A go on."""
    for beginning in _steps(stage, f"{first}+{second}", "A", "/B/A.renew/A", stride):
        # A is dead instead: killed, and its machine goes on.
        stage.play(f"{beginning}/B")


def faults(stage: Stage, script: str, *, stride: int = 1) -> None:
    """Let each step of A fail, in each way; then A lives on."""
    for beginning in _steps(stage, script, "A", "", stride):
        for fault in FAULTS:
            stage.play(f"{beginning}/A.{fault}/A")


def faults_in_recovery(
    stage: Stage, first: str, second: str, *, stride: int = 1, random: Random | None = None
) -> None:
    """Kill A at each of its steps; let each step of B fail in turn, which then recovers from it.

    With ``random``, in one way for each step that is chosen by chance.
    """
    for beginning in list(_steps(stage, f"{first}+{second}", "A", "", stride)):
        for further in _steps(stage, beginning, "B", "", 1):
            for fault in [random.choice([*FAULTS])] if random is not None else FAULTS:
                stage.play(f"{further}/B.{fault}/B")


def cut_after_pause(stage: Stage, first: str, second: str, tries: int, random: Random) -> None:
    """Stop A, let B claim, let A go on for some steps, and cut the power then."""
    beginnings = list(_steps(stage, f"{first}+{second}", "A", "", 1))
    for _ in range(tries):
        beginning = random.choice(beginnings)
        moves = f"B{random.randrange(30)}/A.renew/A{random.randrange(12)}"
        stage.play_and_cut(f"{beginning}/{moves}", random)


def both_recover(
    stage: Stage, dead: str, second: str, *, stride: int, random: Random, tries: int
) -> None:
    """A is dead at some step; B recovers for some steps, C for some, then B to its end, then C."""
    scripts = f"{dead}+{second}+{second}"
    beginnings = list(_steps(stage, scripts, "A", "", stride))
    for beginning in beginnings:
        for _ in range(tries):
            b, c, d = (random.randrange(1, 14) for _ in range(3))
            stage.play(f"{beginning}/B{b}/C{c}/B{d}/C/B")


def at_random(stage: Stage, scripts: str, tries: int, random: Random) -> None:
    """Let processes take turns of random length, until all have ended."""
    letters = "ABCD"[: scripts.count("+") + 1]
    for _ in range(tries):
        turns = [f"{random.choice(letters)}{random.randrange(1, 9)}" for _ in range(16)]
        ends = random.sample(letters, len(letters))
        stage.play("/".join([scripts, *turns, *ends]))


def killed_late(stage: Stage, first: str, second: str, *, most: int, stride: int = 1) -> None:
    """Stop A, let the whole of B happen there, let A take a few steps more, and kill it."""
    for beginning in list(_steps(stage, f"{first}+{second}", "A", "", stride)):
        for steps in range(1, most + 1):
            stage.play(f"{beginning}/B/A.renew/A{steps}")
