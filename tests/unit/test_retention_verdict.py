"""Goal: nothing expires that anybody claims, nothing is erased that did not expire, a hold beats
everything, and a clock that goes backwards does neither; what it shows to be claimed is revived.

Method: each verdict at its borders, and Hypothesis over claims and times.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention import Action, Claims, Lease, Mode, Policy, Reason, Verdict, verdict_on

GRACE_S = 100
POLICY = Policy("some", 1, None, GRACE_S)
END_MS, EXPIRED_MS, ERASE_MS = 1000, 1500, 101_500
LIVING = Claims(committed_ms=0, keep_until_ms=END_MS, policy=POLICY)
EXPIRED = replace(LIVING, expired_ms=EXPIRED_MS, erase_after_ms=ERASE_MS)

TIMES = st.integers(0, 10**5)
LEASES = st.lists(st.builds(Lease, st.sampled_from(["user", "operator"]), TIMES), max_size=3)


HOLDS = st.integers(0, 2)


@st.composite
def claims(draw: st.DrawFn, holds: st.SearchStrategy[int] = HOLDS) -> Claims:
    keep_until_ms, expired_ms = draw(st.none() | TIMES), draw(st.none() | TIMES)
    grace_s = draw(st.integers(0, 100))
    policy = Policy("some", None, None, grace_s, draw(st.sampled_from(Mode)))
    erase_after_ms = None if expired_ms is None else expired_ms + grace_s * 1000
    return Claims(0, keep_until_ms, policy, draw(LEASES), draw(holds), expired_ms, erase_after_ms)


@pytest.mark.parametrize(
    ("found", "now_ms", "expected"),
    [
        (LIVING, END_MS - 1, Verdict(Action.KEEP, Reason.LIFETIME, END_MS)),
        (LIVING, END_MS, Verdict(Action.EXPIRE, Reason.LIFETIME_OVER)),
        (replace(LIVING, keep_until_ms=None), END_MS, Verdict(Action.KEEP, Reason.FOREVER)),
        (
            replace(LIVING, leases=[Lease("user", END_MS + 1)]),
            END_MS,
            Verdict(Action.KEEP, Reason.LEASE, END_MS + 1),
        ),
        (
            replace(LIVING, leases=[Lease("user", END_MS)]),
            END_MS - 1,
            Verdict(Action.KEEP, Reason.LIFETIME, END_MS),
        ),
        (replace(LIVING, holds=1), END_MS, Verdict(Action.KEEP, Reason.HELD)),
        (replace(LIVING, holds=1), END_MS - 1, Verdict(Action.KEEP, Reason.HELD)),
        (EXPIRED, ERASE_MS - 1, Verdict(Action.KEEP, Reason.GRACE, ERASE_MS)),
        (EXPIRED, ERASE_MS, Verdict(Action.ERASE, Reason.GRACE_OVER)),
        (replace(EXPIRED, holds=1), ERASE_MS, Verdict(Action.KEEP, Reason.HELD)),
        (EXPIRED, END_MS - 1, Verdict(Action.REVIVE, Reason.CLOCK, END_MS)),
        (replace(EXPIRED, holds=1), END_MS - 1, Verdict(Action.REVIVE, Reason.CLOCK, END_MS)),
        (replace(EXPIRED, keep_until_ms=None), ERASE_MS, Verdict(Action.REVIVE, Reason.CLOCK)),
        (replace(EXPIRED, erase_after_ms=0), END_MS, Verdict(Action.ERASE, Reason.GRACE_OVER)),
        # Nobody wrote down until when: the whole grace, and no less.
        (
            replace(EXPIRED, erase_after_ms=None),
            ERASE_MS - 1,
            Verdict(Action.KEEP, Reason.GRACE, ERASE_MS),
        ),
        (
            replace(EXPIRED, erase_after_ms=None),
            ERASE_MS,
            Verdict(Action.ERASE, Reason.GRACE_OVER),
        ),
    ],
)
def test_each_verdict_at_its_border(found: Claims, now_ms: int, expected: Verdict) -> None:
    assert expected == verdict_on(found, now_ms)


@given(claims(), TIMES)
def test_what_anybody_claims_neither_expires_nor_is_erased(found: Claims, now_ms: int) -> None:
    action = verdict_on(found, now_ms).action
    ends = [found.keep_until_ms, *(lease.until_ms for lease in found.leases)]
    if found.keep_until_ms is None or any(end is not None and end > now_ms for end in ends):
        assert action is (Action.KEEP if found.expired_ms is None else Action.REVIVE)


@given(claims(st.integers(1, 3)), TIMES)
def test_a_hold_beats_everything(found: Claims, now_ms: int) -> None:
    assert verdict_on(found, now_ms).action in (Action.KEEP, Action.REVIVE)


@given(claims(), TIMES)
def test_nothing_is_erased_that_did_not_expire_its_grace_ago(found: Claims, now_ms: int) -> None:
    if verdict_on(found, now_ms).action is Action.ERASE:
        assert found.expired_ms is not None
        assert now_ms >= found.expired_ms + found.policy.grace_s * 1000


@given(claims(), TIMES, TIMES)
def test_a_clock_that_goes_backwards_lets_nothing_go_that_a_later_one_would_not(
    found: Claims, one_ms: int, other_ms: int
) -> None:
    """What goes at some time goes at any later one: so none goes earlier than it would."""
    earlier_ms, later_ms = sorted((one_ms, other_ms))
    earlier, later = verdict_on(found, earlier_ms).action, verdict_on(found, later_ms).action

    if earlier in (Action.EXPIRE, Action.ERASE):
        assert later is earlier
    if later is Action.REVIVE:
        assert earlier is Action.REVIVE


@given(claims(), TIMES)
def test_a_verdict_holds_until_it_says(found: Claims, now_ms: int) -> None:
    verdict = verdict_on(found, now_ms)
    if verdict.action is Action.KEEP and verdict.until_ms is not None:
        assert now_ms < verdict.until_ms
        assert verdict == verdict_on(found, verdict.until_ms - 1)
        assert verdict != verdict_on(found, verdict.until_ms)


@given(claims(), TIMES)
def test_sweeps_come_to_an_end(found: Claims, now_ms: int) -> None:
    """What a sweep does once it does not do again at the same time."""
    action = verdict_on(found, now_ms).action
    if action is Action.REVIVE:
        found = replace(found, expired_ms=None, erase_after_ms=None)
        assert verdict_on(found, now_ms).action is Action.KEEP
    if action is Action.EXPIRE:
        erase_after_ms = now_ms + found.policy.grace_s * 1000
        found = replace(found, expired_ms=now_ms, erase_after_ms=erase_after_ms)
        assert verdict_on(found, now_ms).action in (Action.KEEP, Action.ERASE)
