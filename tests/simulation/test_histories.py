"""Goal: whatever order things happen in, and whatever fails, a gateway keeps its promises. Method:
short histories of several gateways, clients and faults in virtual time, each from a seed; the same
seed is the same history, in every process.
"""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import zip_longest

import pytest

from tests.requirements import ROOT

from .__main__ import main, report
from .history import HISTORIES_UNCOLLECTED_MAX, Outcome, Simulator
from .planted import PLANTED
from .world import World

BY_DAY = 200
BY_NIGHT = 10_000
SEEDS_MAX = 600
"""A planted bug is found within so many."""
ANSWERED_MIN = 0.6
"""The part of all requests that must get a whole answer: the faults are not the whole story."""
TRACED = """
import sys
from tests.simulation.history import Simulator
with Simulator() as simulator:
    for seed in range(20):
        print(simulator.run(seed).digest)
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.mark.timeout(3600)  # by night; by day it takes seconds
def test_no_history_breaks_a_promise(simulator: Simulator, seed: int, nightly: bool) -> None:
    wrong = []
    requests = answered = written = 0
    count = BY_NIGHT if nightly else BY_DAY

    for number in range(count):
        outcome = simulator.run(seed * 100_000 + number)
        requests += outcome.requests
        answered += outcome.answered
        written += outcome.created
        if outcome.trouble:
            wrong.append(report(outcome))

    assert not wrong, "\n".join(wrong[:10])
    assert answered > ANSWERED_MIN * requests
    assert written > count  # more than an object in each


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(simulator: Simulator, name: str) -> None:
    bug = PLANTED[name]

    with bug.plant():
        found = any(simulator.run(seed, bug.climate).trouble for seed in range(SEEDS_MAX))

    assert found


@pytest.mark.parametrize("name", [name for name, bug in PLANTED.items() if bug.climate])
def test_where_a_bug_is_planted_nothing_is_wrong_without_it(
    simulator: Simulator, name: str
) -> None:
    outcomes = [simulator.run(seed, PLANTED[name].climate) for seed in range(20)]

    assert [] == [report(outcome) for outcome in outcomes if outcome.trouble]


def test_a_history_leaves_nothing_to_the_next(simulator: Simulator) -> None:
    first = simulator.run(7)

    for seed in range(2 * HISTORIES_UNCOLLECTED_MAX):
        simulator.run(seed)
    again = simulator.run(7)

    assert_same(first, again)
    worlds = sum(isinstance(kept, World) for kept in gc.get_objects())
    assert worlds <= HISTORIES_UNCOLLECTED_MAX


def assert_same(one: Outcome, other: Outcome) -> None:
    """Show where two histories part."""
    for number, (a, b) in enumerate(zip_longest(one.trace, other.trace)):
        before = one.trace[max(0, number - 3) : number]
        assert a == b, f"line {number}, after {before}; threads: {threading.enumerate()}"
    assert one.digest == other.digest


def test_what_other_threads_draw_is_not_of_the_history(simulator: Simulator) -> None:
    stop = threading.Event()

    def draw_on() -> None:
        while not stop.is_set():
            os.urandom(1)

    drawing = threading.Thread(target=draw_on)
    first = simulator.run(7)

    drawing.start()
    try:
        again = [simulator.run(7) for _ in range(5)]
    finally:
        stop.set()
        drawing.join()

    for outcome in again:
        assert_same(first, outcome)


def test_a_seed_is_the_same_history_in_every_process() -> None:
    digests = []
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", TRACED],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(run.stdout.split())

    assert 20 == len(set(digests[0]))
    assert digests[0] == digests[1]


def test_a_seed_is_replayed_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--seed", "7"])

    assert 0 == status
    shown = capsys.readouterr().out
    assert "gateway-1.1" in shown
    assert "seed 7: all as it must be" in shown


def test_many_seeds_are_run_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    bug = PLANTED["a payload id that is used again"]

    with bug.plant():
        status = main(["--histories", "2", "--seed-from", "0"])

    told = capsys.readouterr()
    assert 1 == status
    assert "2 histories" in told.out
    assert "python -m tests.simulation --seed 0" in told.err
