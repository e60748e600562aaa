"""Goal: what is fuzzed holds for every seed and for what lies near them.
Method: the targets as plain functions, on the seeds and on seeded random changes to them. A minute
of guided fuzzing at night, where atheris is there.
"""

import hashlib
import importlib.util
import operator
import subprocess
import sys
from random import Random

import pytest

from tests.fuzz import targets
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS
from tests.requirements import ROOT, absent

CHANGES = 1500  # about a second for all targets together
REFUSALS = {
    "header": "HeaderError",
    "head": "EnvelopeError",
    "bech32": "RecipientError",
    "context": "ContextError",
    "urn": "urn.URNError",
    "cid": "urn.CIDError",
    "node": "urn.NodeError",
    "car": "urn.CARError",
}
PARSERS = {"header": "parse_header", "context": "parse_context"}


def change(data: bytes, other: bytes, random: Random) -> bytes:
    """One of the changes that a fuzzer makes: flip, cut, repeat, insert, splice."""
    at, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    some = random.choice([b"\0", b"\n", b" ", b"->", b"--- ", b"=", b"\xff", b"1", b"A"])
    return random.choice(
        [
            data[:at] + bytes([random.randrange(256)]) + data[at + 1 :],
            data[:at],
            data[at:],
            data[:end] + data[at:],
            data[:at] + some + data[at:],
            data[:at] + other[-(len(other) - at) :],
        ]
    )


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_holds(name: str) -> None:
    found = seeds(name)

    assert len(found) >= 5
    for data in found:
        TARGETS[name](data)


def run_near_the_seeds(name: str) -> int:
    """Run a target on changed seeds; return on how many. It raises what the target finds."""
    found, random = seeds(name), Random(hashlib.sha256(name.encode()).digest())

    for _ in range(CHANGES):
        data = random.choice(found)
        for _ in range(random.randrange(1, 4)):
            data = change(data, random.choice(found), random)
        TARGETS[name](data)
    return CHANGES


@pytest.mark.parametrize("name", TARGETS)
def test_what_lies_near_a_seed_holds(name: str) -> None:
    assert CHANGES == run_near_the_seeds(name)


@pytest.mark.parametrize(("name", "refusal"), REFUSALS.items())
def test_a_refusal_of_another_type_is_found(
    name: str, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a parser raises where it promised another error passes through the target."""
    true = operator.attrgetter(refusal)(targets)
    monkeypatch.setattr(f"tests.fuzz.targets.{refusal}", type("Promised", (Exception,), {}))

    with pytest.raises(true):
        run_near_the_seeds(name)


@pytest.mark.parametrize(("name", "parser"), PARSERS.items())
def test_a_parser_that_takes_everything_for_the_same_is_found(
    name: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = getattr(targets, parser)(seeds(name)[0])
    monkeypatch.setattr(targets, parser, lambda _data: known)

    with pytest.raises(AssertionError):
        run_near_the_seeds(name)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_minute_of_guided_fuzzing_finds_nothing() -> None:
    if importlib.util.find_spec("atheris") is None:
        absent("coverage-guided fuzzing", "make fuzz, with a Python that atheris has a wheel for")
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "60"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == run.returncode, run.stderr
