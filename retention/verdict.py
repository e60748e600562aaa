"""Verdicts: what a sweep does with an object, and why. Pure."""

import enum
from dataclasses import dataclass

from .claims import Claims


class Action(enum.StrEnum):
    """What is to be done with an object."""

    KEEP = "keep"
    EXPIRE = "expire"
    """It is not readable any more, and can be had back."""
    ERASE = "erase"
    """Its head goes, for good."""
    REVIVE = "revive"
    """It expired by a clock that was ahead: it is readable again."""


class Reason(enum.StrEnum):
    """Why."""

    HELD = "held"
    FOREVER = "forever"
    LIFETIME = "lifetime"
    """The lifetime that it was given goes on."""
    LEASE = "lease"
    """A lease goes on."""
    GRACE = "grace"
    """It expired, and can be had back."""
    LIFETIME_OVER = "lifetime_over"
    GRACE_OVER = "grace_over"
    CLOCK = "clock"
    """The clock was set back."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with an object; ``until_ms`` says how long that stays so, where known."""

    action: Action
    reason: Reason
    until_ms: int | None = None


def verdict_on(claims: Claims, now_ms: int) -> Verdict:
    """Judge an object by all that is claimed of it, at a time of the catalog's clock."""
    expires_ms = claims.expires_ms
    is_over = expires_ms is not None and expires_ms <= now_ms
    if not is_over and claims.expired_ms is not None:
        return Verdict(Action.REVIVE, Reason.CLOCK, expires_ms)  # held or not: it is kept by both
    if claims.holds:
        return Verdict(Action.KEEP, Reason.HELD)
    if expires_ms is None:
        return Verdict(Action.KEEP, Reason.FOREVER)
    if not is_over:
        is_lifetime = expires_ms == claims.keep_until_ms
        return Verdict(Action.KEEP, Reason.LIFETIME if is_lifetime else Reason.LEASE, expires_ms)
    if claims.expired_ms is None:
        return Verdict(Action.EXPIRE, Reason.LIFETIME_OVER)
    erase_after_ms = claims.erase_after_ms
    if erase_after_ms is None:
        erase_after_ms = claims.expired_ms + claims.policy.grace_s * 1000
    if now_ms < erase_after_ms:
        return Verdict(Action.KEEP, Reason.GRACE, erase_after_ms)
    return Verdict(Action.ERASE, Reason.GRACE_OVER)
