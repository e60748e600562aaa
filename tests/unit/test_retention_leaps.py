"""Goal: a clock that goes backwards lets nothing go; one that leaps forward no more than a set
share without an operator's word; one that somebody attests is believed.

Method: each judgement at its border, and Hypothesis over counts, shares and clocks.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention import Anchor, Clock, judge_clock, may_go
from retention.leaps import ALWAYS, DRIFT_MS

LEAP_S = 600.0
LEAP_MS = 600_000
SWEPT_MS = 10**9
DAY_MS = 86_400_000

COUNTS = st.integers(0, 10**7)
SHARES = st.floats(0, 1)
TIMES = st.integers(0, 2 * SWEPT_MS)


def judged(
    now_ms: int,
    *,
    passed_ms: int = 0,
    began_ms: int = SWEPT_MS + 1,
    swept_ms: int | None = SWEPT_MS,
) -> Clock:
    """Judge a time, in a process that began then and has seen that much pass."""
    anchor = Anchor(began_ms, 5)
    return judge_clock(
        Anchor(now_ms, 5 + passed_ms), anchor=anchor, swept_ms=swept_ms, leap_s=LEAP_S
    )


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [
        (SWEPT_MS - DAY_MS, Clock.BEHIND),
        (SWEPT_MS - 1, Clock.BEHIND),
        (SWEPT_MS, Clock.STEADY),
        (SWEPT_MS + LEAP_MS, Clock.STEADY),
        (SWEPT_MS + LEAP_MS + 1, Clock.LEAPT),
    ],
)
def test_how_far_a_clock_is_believed_that_nobody_attests(now_ms: int, expected: Clock) -> None:
    assert expected is judged(now_ms)


@pytest.mark.parametrize("off_ms", [-DRIFT_MS, 0, DRIFT_MS])
def test_who_saw_the_time_pass_attests_any_gap(off_ms: int) -> None:
    now_ms = SWEPT_MS + 30 * DAY_MS

    assert Clock.STEADY is judged(now_ms, passed_ms=30 * DAY_MS + off_ms, began_ms=SWEPT_MS)


@pytest.mark.parametrize("off_ms", [-DRIFT_MS - 1, DRIFT_MS + 1, -30 * DAY_MS])
def test_who_saw_another_time_pass_attests_nothing(off_ms: int) -> None:
    now_ms = SWEPT_MS + 30 * DAY_MS

    assert Clock.LEAPT is judged(now_ms, passed_ms=30 * DAY_MS + off_ms, began_ms=SWEPT_MS)


def test_who_began_after_the_last_sweep_attests_nothing() -> None:
    """Between the two the clock may have leapt, while nobody looked."""
    now_ms = SWEPT_MS + DAY_MS

    assert Clock.LEAPT is judged(now_ms, passed_ms=DAY_MS - 1, began_ms=SWEPT_MS + 1)


def test_before_the_first_sweep_no_time_is_believed() -> None:
    assert Clock.LEAPT is judged(SWEPT_MS, began_ms=SWEPT_MS, swept_ms=None)


@given(TIMES, TIMES, TIMES, TIMES)
def test_a_clock_that_is_believed_was_seen_or_is_near(
    now_ms: int, passed_ms: int, began_ms: int, swept_ms: int
) -> None:
    found = judged(now_ms, passed_ms=passed_ms, began_ms=began_ms, swept_ms=swept_ms)
    if found is Clock.STEADY:
        is_near = now_ms - swept_ms <= LEAP_MS
        is_seen = began_ms <= swept_ms and abs(now_ms - began_ms - passed_ms) <= DRIFT_MS
        assert now_ms >= swept_ms
        assert is_near or is_seen
    assert (found is Clock.BEHIND) == (now_ms < swept_ms)


@given(COUNTS, COUNTS, SHARES)
def test_a_leap_lets_no_more_go_than_the_share(ripe: int, living: int, share: float) -> None:
    if may_go(ripe, living=living, clock=Clock.LEAPT, share=share):
        assert ripe <= max(ALWAYS, living * share)
        assert 2 * ripe <= living


@given(COUNTS, COUNTS, SHARES, COUNTS)
def test_a_word_lets_as_many_go_as_it_says(
    ripe: int, living: int, share: float, confirmed: int
) -> None:
    goes = may_go(ripe, living=living, clock=Clock.LEAPT, share=share, confirmed=confirmed)
    unasked = may_go(ripe, living=living, clock=Clock.LEAPT, share=share)

    assert goes == (unasked or ripe <= confirmed)


@given(COUNTS, COUNTS, SHARES, COUNTS)
def test_a_clock_that_is_behind_lets_nothing_go_whoever_says_so(
    ripe: int, living: int, share: float, confirmed: int
) -> None:
    assert not may_go(ripe, living=living, clock=Clock.BEHIND, share=share, confirmed=confirmed)


@given(COUNTS, COUNTS, SHARES)
def test_a_steady_clock_lets_all_go(ripe: int, living: int, share: float) -> None:
    assert may_go(ripe, living=living, clock=Clock.STEADY, share=share)


@pytest.mark.parametrize(
    ("ripe", "living", "expected"),
    [
        (0, 0, True),
        (1, 1, False),
        (1, 2, True),
        (50, 100, True),
        (51, 100, False),
        (ALWAYS, 200, True),
        (ALWAYS + 1, 10_000, False),
        (101, 10_100, True),
        (102, 10_100, False),
    ],
)
def test_how_many_a_leap_lets_go(ripe: int, living: int, expected: bool) -> None:
    assert expected == may_go(ripe, living=living, clock=Clock.LEAPT, share=0.01)
