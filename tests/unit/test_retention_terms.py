"""Goal: what was granted under other terms comes as near to it as these allow; a lease is kept.

Method: tables, and all lifetimes against all small policies.
"""

import itertools

import pytest

from retention import (
    Claims,
    Lease,
    LifetimeTooShort,
    Mode,
    Policy,
    PolicyError,
    RetentionError,
)

TIMES = (None, 1, 2, 3)
G, C = Mode.GOVERNANCE, Mode.COMPLIANCE


def policies() -> list[Policy]:
    found = []
    for default, longest, mode in itertools.product(TIMES, TIMES, Mode):
        try:
            found.append(Policy("some", default, longest, 0, mode))
        except PolicyError:
            continue
    return found


@pytest.mark.parametrize("policy", policies(), ids=str)
@pytest.mark.parametrize("asked", TIMES)
def test_the_nearest_lifetime_is_allowed_and_none_is_nearer(
    policy: Policy, asked: int | None
) -> None:
    def allowed(lifetime: int | None) -> bool:
        try:
            return policy.lifetime(lifetime) == lifetime
        except RetentionError:
            return False

    nearest = policy.nearest(asked)
    if asked is None:
        assert policy.default_s == nearest
    elif allowed(asked):
        assert asked == nearest
    else:
        possible = [each for each in (1, 2, 3) if allowed(each)]
        # Of a policy that promises for ever to who asks for nothing, that is all there is.
        expected = min(possible, key=lambda each: abs(each - asked), default=None)
        assert expected == nearest


@pytest.mark.parametrize(
    ("mode", "holder", "now", "refused"),
    [
        (C, "user", 9, True),
        (C, "user", 10, False),
        (C, "user", 11, False),
        (C, "operator", 9, False),
        (C, "nobody", 9, False),
        (G, "user", 9, False),
    ],
)
def test_a_lease_is_let_go_unless_it_was_promised(
    mode: Mode, holder: str, now: int, *, refused: bool
) -> None:
    leases = (Lease("operator", 9), Lease("user", 10))
    claims = Claims(0, 5, Policy("some", None, None, 0, mode), leases)
    if refused:
        with pytest.raises(LifetimeTooShort, match="'some' is compliance"):
            claims.check_let_go(holder, now)
    else:
        claims.check_let_go(holder, now)
