"""Schedules: which process takes how many steps, where the power is cut, what of the disk is kept.

A schedule is one line, as in ``upload-small+take-over/A9/B4/A.renew/A/B`` or
``upload-leaves/A7/cut.0121/R5/cut.00``. Before the first slash are the scripts of the processes A,
B and so on; then come moves:

A script's name may end in ``~5``: what its process would do in several threads at once is then
done in the fifth of many orders, else in the order of asking.

* ``A9``: process A takes nine steps and is stopped before the next; ``A``: it runs to its end.
* ``A.fail``, ``A.full``, ``A.lost``: A's next step fails, or finds no space, or fails although it
  took effect.
* ``A.renew``: A renews its lease, as a process does that goes on after a pause.
* ``cut.0121``: the power is cut; the digits say in which state each piece that was not synced is
  found (`ForgetfulFs.choices`), 0 for nothing of it. ``R`` is the process that recovers from then.

At the end of the line whoever is left is killed. Then one more process recovers until the horizon
has passed, and `violations` are looked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from random import Random

import pytest

from crypto import X25519Identity
from storage_gateway import write

from .invariants import settle_down, violations
from .processes import Actor, start_process
from .scripts import SCRIPTS, Script, image_before
from .world import Image, Ledger, World


@dataclass(slots=True)
class Findings:
    """What schedules were run, and what they broke."""

    schedules: int = 0
    broken: list[str] = field(default_factory=list)
    """Each the schedule and what did not hold after it."""


class BrokenError(Exception):
    """A schedule broke something, and that was enough."""


def _script(name: str) -> tuple[Script, Random | None]:
    """Return the script of that name, and the order in which it does what threads would do."""
    name, _, order = name.partition("~")
    return SCRIPTS[name], Random(int(order)) if order else None


class Stage:
    """What schedules are run on; used for many, one after the other."""

    def __init__(self, *, stop_at_first: bool = False) -> None:
        self.ledger = Ledger()
        self.findings = Findings()
        self._stop_at_first = stop_at_first
        self._user = str(X25519Identity.generate().recipient())
        self._before: dict[tuple[int, int], Image] = {}
        self._checked: dict[object, list[str]] = {}
        self._seen: set[object] = set()
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(write, "new_random_id", self.ledger.next_id)

    def close(self) -> None:
        self._patches.undo()
        self.ledger.close()

    def before(self, scripts: Sequence[str]) -> Image:
        """Return what the processes of a schedule find when they start."""
        script = _script(scripts[0])[0]
        kind = (len(script.victim), script.write_quorum)
        if kind not in self._before:
            self._before[kind] = image_before(self.ledger, script, self._user)
        return self._before[kind]

    def is_new(self, image: Image) -> bool:
        """Tell whether this is the first such image; from equal ones only equal things follow."""
        fingerprint = image.fingerprint()
        if fingerprint in self._seen:
            return False
        self._seen.add(fingerprint)
        return True

    def judge(self, world: World, schedule: str, errors: Sequence[str] = ()) -> None:
        """Note what does not hold at a schedule's end."""
        self.findings.schedules += 1
        fingerprint = world.fingerprint()
        if fingerprint not in self._checked:
            self._checked[fingerprint] = violations(world)
        self.ledger.end_processes()
        wrong = [*errors, *self._checked[fingerprint]]
        if wrong:
            self.findings.broken.append(f"{schedule}: {'; '.join(wrong)}")
            if self._stop_at_first:
                raise BrokenError(self.findings.broken[-1])

    def play(self, schedule: str) -> list[bool]:
        """Run one schedule from its line; tell for each move whether its process has then ended."""
        scripts, *moves = schedule.split("/")
        world = World(self.ledger, self.before(scripts.split("+")))
        cast = _Cast(world, dict(zip("ABCD", scripts.split("+"), strict=False)))
        errors: list[str] = []
        ended: list[bool] = []
        cuts = 0
        for move in moves:
            if move.startswith("cut."):
                image = cast.world.image()
                errors += cast.end()
                cuts += 1
                chosen = [int(digit) for digit in move.removeprefix("cut.")]
                if len(chosen) != (pieces := len(image.fs.choices())):
                    raise ValueError(f"{move} has to say what becomes of {pieces} pieces")
                world = World(self.ledger, image.after_power_cut(chosen))
                cast = _Cast(world, {"R": "recover"}, generation=cuts)
                ended.append(True)
            else:
                ended.append(cast.move(move))
        errors += cast.end()
        settle_down(world)
        self.judge(world, schedule, errors)
        return ended

    def play_and_cut(self, schedule: str, random: Random) -> None:
        """Run a schedule, cut the power at its end, and keep some part of the disk by chance."""
        scripts, *moves = schedule.split("/")
        world = World(self.ledger, self.before(scripts.split("+")))
        cast = _Cast(world, dict(zip("ABCD", scripts.split("+"), strict=False)))
        for move in moves:
            cast.move(move)
        image = world.image()
        errors = cast.end()
        way = [random.randrange(states) for states in image.fs.choices()]
        world = World(self.ledger, image.after_power_cut(way))
        settle_down(world)
        self.judge(world, f"{schedule}/cut.{''.join(map(str, way))}", errors)


class _Cast:
    """The processes that live between two power cuts."""

    def __init__(self, world: World, scripts: dict[str, str], generation: int = 0) -> None:
        self.world = world
        self._scripts = scripts
        self._actors: dict[str, Actor] = {}
        self._generation = generation

    def move(self, move: str) -> bool:
        letter, rest = move[0], move[1:]
        if letter not in self._actors:
            script, order = _script(self._scripts[letter])
            name = f"{letter}{self._generation or ''}"
            self._actors[letter] = Actor(self.world, name, script.run, order)
        actor = self._actors[letter]
        if rest == ".renew":
            actor.process.renew()
        elif rest.startswith("."):
            actor.fail(rest[1:])
        else:
            actor.go_on(int(rest) if rest else None)
        return actor.finished

    def end(self) -> list[str]:
        """Kill who lives; return what went wrong with those who had come to their end."""
        wrong = []
        for letter, actor in self._actors.items():
            if actor.finished:
                wrong += [
                    f"{letter} lost sight of an error: {e}" for e in actor.process.loop.unseen
                ]
                if actor.error is not None:
                    wrong.append(f"{letter} ended with {actor.error!r}")
            actor.kill()
        return wrong


# One process, and the recoveries after it.


def record(world: World, name: str, script: str) -> tuple[list[tuple[int, Image]], list[str]]:
    """Run a script to its end; return an image of each moment that differs from the one before it,
    with the number of steps that were taken by then, and the errors that nobody looked at.
    """
    images: list[tuple[int, Image]] = []
    steps = 0
    last: object = None
    errors: list[str] = []
    run, order = _script(script)

    def look() -> None:
        nonlocal last
        errors.extend(world.buried_alive())
        now = (world.fs.operations, world.ledger.committed, tuple(world.attempts.items()))
        if now != last:
            images.append((steps, world.image()))
            last = now

    def gate(_step: str) -> None:
        nonlocal steps
        look()
        steps += 1

    process = start_process(world, name, gate, order)
    try:
        process.run(run.run)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported with the schedule
        errors.append(f"{name} ended with {error!r}")
    look()
    return images, errors + [f"{name} lost sight of {error}" for error in process.loop.unseen]


def ways(choices: Sequence[int], most: int, random: Random) -> Iterator[tuple[int, ...]]:
    """Yield what a power cut may keep: everything possible, or if that is more than ``most``, the
    extremes (nothing, all, all but one piece, one piece alone) and then a sample.
    """
    if prod(choices) <= most:
        yield from product(*(range(states) for states in choices))
        return
    full = tuple(states - 1 for states in choices)
    found = dict.fromkeys([(0,) * len(full), full])
    for at in range(len(full)):
        found[(*full[:at], 0, *full[at + 1 :])] = None
        found[tuple(full[i] if i == at else 0 for i in range(len(full)))] = None
    while len(found) < most:
        found[tuple(random.randrange(states) for states in choices)] = None
    # Sampled too, if there is little time: the two extremes always, and chance for the rest.
    first, second, *others = found
    yield from (first, second, *random.sample(others, min(len(others), max(0, most - 2))))


@dataclass(frozen=True, slots=True)
class Effort:
    """How many ways of one power cut are tried."""

    first: int
    """In the script."""
    second: int
    """In the recovery that follows."""
    recoveries: int | None = None
    """After so many of the first power cuts of a script the recovery is cut as well; None: all."""


def cut_everywhere(stage: Stage, script: str, effort: Effort, random: Random) -> None:
    """Cut the power at each step of a script, then at each step of the recovery from that."""
    world = World(stage.ledger, stage.before([script]))
    images, errors = record(world, "A", script)
    settle_down(world)
    stage.judge(world, f"{script}/A", errors)
    firsts = [
        (f"{script}/A{steps}/cut.{''.join(map(str, way))}", after)
        for steps, image in images
        for way in ways(image.fs.choices(), effort.first, random)
        if stage.is_new(after := image.after_power_cut(way))
    ]
    chosen: Sequence[int] = range(len(firsts))
    if effort.recoveries is not None and effort.recoveries < len(firsts):
        chosen = random.sample(chosen, effort.recoveries)
    for at, (schedule, after) in enumerate(firsts):
        world = World(stage.ledger, after)
        recovered, errors = record(world, "R1", "recover")
        stage.judge(world, f"{schedule}/R", errors)
        if at in chosen:
            _cut_recovery(stage, schedule, recovered, effort, random)


def _cut_recovery(
    stage: Stage,
    schedule: str,
    recovered: Sequence[tuple[int, Image]],
    effort: Effort,
    random: Random,
) -> None:
    for steps, image in recovered:
        for way in ways(image.fs.choices(), effort.second, random):
            after = image.after_power_cut(way)
            if stage.is_new(after):
                world = World(stage.ledger, after)
                settle_down(world, "R2")
                stage.judge(world, f"{schedule}/R{steps}/cut.{''.join(map(str, way))}")
