"""Goal: terms that contradict themselves are refused; a lifetime goes up always, down only under
governance, and never above the longest.

Method: the borders, and Hypothesis over policies and lifetimes.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention import (
    FOREVER,
    LIFETIME_S_MAX,
    LifetimeTooLong,
    LifetimeTooShort,
    Mode,
    Policy,
    PolicyError,
    RetentionError,
)

LIFETIMES = st.integers(1, LIFETIME_S_MAX)


@st.composite
def policies(draw: st.DrawFn, mode: Mode | None = None) -> Policy:
    longest_s = draw(st.none() | LIFETIMES)
    if longest_s is None:
        default_s = draw(st.none() | LIFETIMES)
    else:
        default_s = draw(st.integers(1, longest_s))
    grace_s = draw(st.integers(0, 10**6))
    return Policy("some", default_s, longest_s, grace_s, mode or draw(st.sampled_from(Mode)))


def length(lifetime_s: int | None) -> float:
    """Return a lifetime as a number that can be compared: for ever is longest."""
    return float("inf") if lifetime_s is None else lifetime_s


@pytest.mark.parametrize(
    ("name", "default_s", "longest_s", "grace_s"),
    [
        ("", 1, 2, 0),
        ("Upper", 1, 2, 0),
        ("a" * 65, 1, 2, 0),
        ("line\n", 1, 2, 0),
        ("ok", 0, 2, 0),
        ("ok", -1, 2, 0),
        ("ok", 1, 0, 0),
        ("ok", LIFETIME_S_MAX + 1, None, 0),
        ("ok", 1, LIFETIME_S_MAX + 1, 0),
        ("ok", 3, 2, 0),
        ("ok", None, 2, 0),
        ("ok", 1, 2, -1),
        ("ok", 1, 2, LIFETIME_S_MAX + 1),
    ],
)
def test_terms_that_contradict_themselves_are_refused(
    name: str, default_s: int | None, longest_s: int | None, grace_s: int
) -> None:
    with pytest.raises(PolicyError):
        Policy(name, default_s, longest_s, grace_s)


@pytest.mark.parametrize(
    ("default_s", "longest_s"),
    [(None, None), (1, None), (1, 1), (LIFETIME_S_MAX, LIFETIME_S_MAX)],
)
def test_terms_at_their_borders_are_taken(default_s: int | None, longest_s: int | None) -> None:
    policy = Policy("a-1_b", default_s, longest_s, LIFETIME_S_MAX)

    assert default_s == policy.lifetime(None)


@pytest.mark.parametrize("asked_s", [0, -1, LIFETIME_S_MAX + 1])
def test_what_is_no_lifetime_is_refused(asked_s: int) -> None:
    with pytest.raises(RetentionError):
        FOREVER.lifetime(asked_s)


@given(policies(), st.none() | LIFETIMES, LIFETIMES)
def test_a_longer_lifetime_is_always_taken_up_to_the_longest(
    policy: Policy, instead_of: int | None, asked_s: int
) -> None:
    if length(asked_s) < length(instead_of):
        return
    if length(asked_s) > length(policy.longest_s):
        with pytest.raises(LifetimeTooLong):
            policy.check(asked_s, instead_of=instead_of)
    else:
        policy.check(asked_s, instead_of=instead_of)


@given(policies(), st.none() | LIFETIMES, LIFETIMES)
def test_a_shorter_lifetime_is_taken_only_under_governance(
    policy: Policy, instead_of: int | None, asked_s: int
) -> None:
    if not length(asked_s) < length(instead_of) or length(asked_s) > length(policy.longest_s):
        return
    if policy.mode is Mode.GOVERNANCE:
        policy.check(asked_s, instead_of=instead_of)
    else:
        with pytest.raises(LifetimeTooShort, match="compliance"):
            policy.check(asked_s, instead_of=instead_of)


@given(policies(), st.none() | LIFETIMES)
def test_for_ever_is_the_longest_of_all(policy: Policy, instead_of: int | None) -> None:
    if policy.longest_s is None:
        policy.check(None, instead_of=instead_of)
    else:
        with pytest.raises(LifetimeTooLong):
            policy.check(None, instead_of=instead_of)


@given(policies(), st.none() | LIFETIMES)
def test_what_an_upload_gets_is_within_the_terms(policy: Policy, asked_s: int | None) -> None:
    try:
        given_s = policy.lifetime(asked_s)
    except RetentionError:
        return
    assert length(given_s) <= length(policy.longest_s)
    assert given_s == (policy.default_s if asked_s is None else asked_s)
    if policy.mode is Mode.COMPLIANCE:
        assert length(given_s) >= length(policy.default_s)


@given(policies(Mode.COMPLIANCE), policies())
def test_a_session_under_compliance_goes_over_only_to_what_promises_as_much(
    policy: Policy, other: Policy
) -> None:
    try:
        policy.check_successor(other)
    except LifetimeTooShort:
        assert (
            other.mode is Mode.GOVERNANCE
            or length(other.default_s) < length(policy.default_s)
            or other.grace_s < policy.grace_s
        )
    else:
        assert other.mode is Mode.COMPLIANCE
        assert length(other.default_s) >= length(policy.default_s)
        assert other.grace_s >= policy.grace_s


@given(policies(Mode.GOVERNANCE), policies())
def test_a_session_under_governance_goes_over_to_any(policy: Policy, other: Policy) -> None:
    policy.check_successor(other)
