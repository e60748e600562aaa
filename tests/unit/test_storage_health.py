"""Goal: what is known of a store says when to leave it alone, when to try it again, how it ranks
and how long to wait for it. Method: calls and times by hand.
"""

from storage_gateway.backends.allowance import Allowance
from storage_gateway.backends.health import (
    ALIKE_S,
    FAILURES_MAX,
    HEDGE_MAX_S,
    HEDGE_MIN_S,
    HEDGE_S,
    OBSERVED_MAX,
    OBSERVED_MIN,
    RESTED_S,
    RESTED_S_MAX,
    Breaker,
    Latency,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.fail(now, probe=False)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            breaker.fail(0.0, probe=False)
        breaker.succeed()

    assert breaker.is_closed
    assert not opened().is_closed


def test_what_ends_without_an_outcome_says_nothing() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.drop(0.0, probe=False)

    assert breaker.is_closed
    assert not breaker.enter(0.0), "while it is closed no call is the probe"


def test_after_a_rest_one_call_at_a_time_is_the_probe() -> None:
    breaker = opened(100.0)

    assert not breaker.wants_probe(100.0 + RESTED_S - 0.1)
    assert not breaker.enter(100.0 + RESTED_S - 0.1)
    assert [True, False] == [breaker.enter(100.0 + RESTED_S) for _ in range(2)]
    assert not breaker.wants_probe(1e9)


def test_a_probe_that_is_answered_closes_it() -> None:
    breaker = opened()
    breaker.enter(RESTED_S)
    breaker.succeed()
    breaker.fail(RESTED_S, probe=True)  # it comes too late to say anything more than any call

    assert breaker.is_closed


def test_each_probe_that_fails_makes_the_next_rest_longer_up_to_a_limit() -> None:
    breaker, now, rests = opened(), RESTED_S, []
    for _ in range(8):
        assert breaker.enter(now)
        breaker.fail(now, probe=True)
        rest = RESTED_S
        while not breaker.wants_probe(now + rest):
            rest += RESTED_S
        rests.append(rest)
        now += rest

    assert [2 * RESTED_S, 4 * RESTED_S, 8 * RESTED_S] == rests[:3]
    assert rests[-1] == rests[-2] == RESTED_S_MAX
    breaker.succeed()
    for _ in range(FAILURES_MAX):
        breaker.fail(now, probe=False)
    assert breaker.wants_probe(now + RESTED_S), "the next time it begins anew"


def test_a_probe_without_an_outcome_is_as_if_it_had_not_been() -> None:
    breaker = opened()
    breaker.enter(RESTED_S)
    breaker.drop(RESTED_S, probe=True)

    assert not breaker.is_closed
    assert not breaker.wants_probe(2 * RESTED_S - 0.1)
    assert breaker.wants_probe(2 * RESTED_S)


def test_what_began_before_it_opened_does_not_prolong_the_rest() -> None:
    breaker = opened()
    breaker.fail(RESTED_S - 0.1, probe=False)

    assert breaker.wants_probe(RESTED_S)


def observed(*seconds: float) -> Latency:
    latency = Latency()
    for took_s in seconds:
        latency.observe(took_s, 1.0)
    return latency


def test_the_rank_tells_only_apart_what_differs_much() -> None:
    assert 0 == Latency().rank == observed(0.0).rank == observed(ALIKE_S).rank
    assert observed(0.09).rank == observed(0.08).rank
    assert 0 < observed(0.02).rank < observed(0.08).rank
    assert observed(0.08, *[0.001] * 20).rank == 0, "the newest count most"


def test_how_long_to_wait_is_what_nearly_all_reads_took() -> None:
    assert HEDGE_S == observed(*[1.0] * (OBSERVED_MIN - 1)).patience_s
    assert 1.0 == observed(*[1.0] * OBSERVED_MIN).patience_s
    mostly_quick = [0.1] * 19 + [0.3] + [0.1] * 19 + [0.2]
    assert 0.2 == observed(*mostly_quick).patience_s
    assert HEDGE_MIN_S == observed(*[0.001] * OBSERVED_MIN).patience_s
    assert HEDGE_MAX_S == observed(*[100.0] * OBSERVED_MIN).patience_s
    assert 0.1 == observed(*[1.0] * OBSERVED_MAX, *[0.1] * OBSERVED_MAX).patience_s


def test_a_read_cut_short_counts_where_it_was_slow_already() -> None:
    latency = observed(0.05)
    latency.cut_short(0.01, 2.0)
    assert (observed(0.05).rank, 1.0) == (latency.rank, latency.measured_at)

    for _ in range(20):
        latency.cut_short(1.0, 2.0)
    assert (observed(1.0).rank, 2.0) == (latency.rank, latency.measured_at)


def test_an_allowance_is_a_share_and_some_at_once() -> None:
    allowance = Allowance(share=0.25, saved_max=2.0)
    assert [True, True, False] == [allowance.spend() for _ in range(3)]
    left = []
    for _ in range(4):
        allowance.earn()
        left.append(allowance.is_left)
    assert [False, False, False, True] == left
    for _ in range(100):
        allowance.earn()
    assert [True, True, False] == [allowance.spend() for _ in range(3)]
