"""Goal: the longest claim wins, a hold beats all, and nobody's word takes a promise back.

Method: the borders, and Hypothesis over lifetimes, leases, holds and times.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention import FOREVER, Claims, Lease, LifetimeTooLong, Mode, Policy

TIMES = st.integers(0, 10**6)
LEASES = st.lists(st.builds(Lease, st.sampled_from(["user", "operator"]), TIMES), max_size=3)
MODES = st.sampled_from(Mode)


@given(TIMES, LEASES)
def test_the_longest_claim_wins(keep_until_ms: int, leases: list[Lease]) -> None:
    claims = Claims(committed_ms=0, keep_until_ms=keep_until_ms, leases=leases)

    expires_ms = claims.expires_ms
    assert expires_ms is not None
    ends = [keep_until_ms] + [lease.until_ms for lease in leases]
    assert expires_ms in ends
    assert all(end <= expires_ms for end in ends)


@given(LEASES)
def test_what_lives_for_ever_never_expires(leases: list[Lease]) -> None:
    assert Claims(committed_ms=0, keep_until_ms=None, leases=leases).expires_ms is None


@given(TIMES, TIMES)
def test_a_lease_that_is_renewed_never_ends_earlier(until_ms: int, renewed_ms: int) -> None:
    lease = Lease("user", until_ms).renewed(renewed_ms)

    assert max(until_ms, renewed_ms) == lease.until_ms
    assert "user" == lease.holder


@given(st.none() | TIMES, LEASES, MODES, st.integers(1, 3), TIMES)
def test_nobody_erases_what_is_held(
    keep_until_ms: int | None, leases: list[Lease], mode: Mode, holds: int, now_ms: int
) -> None:
    policy = Policy("some", None, None, 0, mode)
    claims = Claims(0, keep_until_ms, policy, leases, holds)

    assert not claims.may_be_erased(now_ms)


@given(st.none() | TIMES, LEASES, TIMES)
def test_before_its_time_it_is_erased_only_under_governance(
    keep_until_ms: int | None, leases: list[Lease], now_ms: int
) -> None:
    of_governance = Claims(0, keep_until_ms, Policy("some", None, None, 0), leases)
    of_compliance = Claims(0, keep_until_ms, Policy("some", None, None, 0, Mode.COMPLIANCE), leases)

    assert of_governance.may_be_erased(now_ms)
    expires_ms = of_compliance.expires_ms
    is_over = expires_ms is not None and now_ms >= expires_ms
    assert is_over == of_compliance.may_be_erased(now_ms)


@pytest.mark.parametrize("mode", Mode)
def test_a_lease_lasts_no_longer_than_the_longest_lifetime(mode: Mode) -> None:
    policy = Policy("some", 5, 10, 0, mode)
    claims = Claims(committed_ms=7, keep_until_ms=5007, policy=policy)

    claims.check_lease(10_007)
    with pytest.raises(LifetimeTooLong, match="at most 10 seconds"):
        claims.check_lease(10_008)
    Claims(committed_ms=7, keep_until_ms=None, policy=FOREVER).check_lease(10**18)
