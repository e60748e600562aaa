"""Goal: judging and counting are right by themselves: what was not judged has failed, percentiles
are those of the definition, and bodies differ everywhere. Method: the parts without any gateway.
"""

import hashlib
from types import SimpleNamespace
from typing import cast

import pytest

from storage_gateway.stress.bodies import MARK_SIZE, PIECE_SIZE, Body
from storage_gateway.stress.invariants import INVARIANTS
from storage_gateway.stress.record import Record, spread
from storage_gateway.stress.verdict import EVIDENCE_MAX, Verdict
from storage_gateway.stress.world import World


def test_what_was_not_judged_has_failed() -> None:
    verdict = Verdict([2, 8])
    verdict.holds(2, "read")

    assert not verdict.passed()
    two, eight = verdict.as_json()["invariants"]
    assert ("pass", "fail") == (two["verdict"], eight["verdict"])
    verdict.holds(8, "looked")
    assert verdict.passed()


def test_one_broken_thing_outweighs_all_that_holds() -> None:
    verdict = Verdict([7])
    verdict.holds(7, "nothing left")
    verdict.broken(7, "a blob")

    (entry,) = verdict.as_json()["invariants"]
    assert ("fail", ["a blob"]) == (entry["verdict"], entry["evidence"])
    assert INVARIANTS[7].look_at == entry["look_at"]


def test_an_invariant_that_the_case_did_not_name_counts_when_it_is_broken() -> None:
    verdict = Verdict([])
    verdict.judge(1, ["x"], "fine")

    assert "fail" == verdict.as_json()["verdict"]


def test_a_criterion_must_be_met_every_time() -> None:
    verdict = Verdict([])
    verdict.require("it is so", met=True, evidence="once")
    assert verdict.passed()
    verdict.require("it is so", met=False, evidence="not here")

    assert not verdict.passed()


def test_a_report_shows_some_evidence_and_counts_the_rest() -> None:
    verdict = Verdict([2])
    verdict.judge(2, [f"urn {n}" for n in range(EVIDENCE_MAX + 3)], "fine")

    (entry,) = verdict.as_json()["invariants"]
    assert (EVIDENCE_MAX, 3) == (len(entry["evidence"]), entry["more_evidence"])


def test_percentiles_are_values_that_occurred() -> None:
    seconds = [n / 1000 for n in range(1, 101)]

    assert {"p50": 50, "p95": 95, "p99": 99, "max": 100} == spread(list(reversed(seconds)))
    assert {"p50": 7, "p95": 7, "p99": 7, "max": 7} == spread([0.007])
    assert spread([]) is None


def test_requests_are_counted_by_outcome() -> None:
    record = Record()
    for outcome in ("ok", "ok", "busy"):
        record.note("upload", outcome, 0.5)

    assert (3, 2, 0) == (
        record.count("upload"),
        record.count("upload", "ok"),
        record.count("fetch", "ok"),
    )
    assert record.first_failure is not None
    assert {"upload": {"ok": 2, "busy": 1}} == record.as_json()["requests"]


@pytest.mark.parametrize("size", [0, 1, 8, 39, 40, 41, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE])
def test_a_body_has_its_size_and_digest_and_is_like_no_other(size: int) -> None:
    body = Body("1/1", size)
    content = b"".join(body.pieces())

    assert size == len(content)
    assert hashlib.sha256(content).digest() == body.digest
    if size >= MARK_SIZE:
        assert body.mark in content
        assert body.mark not in b"".join(Body("1/2", size).pieces())
    pieces = [content[at : at + PIECE_SIZE] for at in range(0, size, PIECE_SIZE)]
    assert len(pieces) == len(set(pieces))


@pytest.mark.parametrize(
    ("domains", "quorum", "expected"),
    [
        ("abc", 2, "ab"),
        ("abc", 1, "abc"),
        ("abc", 3, "a"),
        ("aabc", 2, "aab"),
        ("abca", 2, "aba"),
        ("abcd", 2, "abc"),
        ("abcc", 2, "ab"),
    ],
)
def test_without_the_decisive_stores_there_is_no_quorum(
    domains: str, quorum: int, expected: str
) -> None:
    stores = tuple(SimpleNamespace(domain=domain) for domain in domains)
    world = cast("World", SimpleNamespace(stores=stores, config=SimpleNamespace(quorum=quorum)))

    found = World.decisive.__get__(world)

    assert expected == "".join(each.domain for each in found)
    assert found[0] is stores[0]
    left = set(domains) - {each.domain for each in found}
    assert quorum - 1 == len(left)
