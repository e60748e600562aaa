"""Clocks that leap: how far a sweep believes one. Pure.

A clock that was set back lets nothing expire. One that was set forward, by mistake or by somebody
who wants things gone, would let everything expire at once; a sweep that finds that much time has
passed since the last one, with nobody to attest it, does no more than a set share.
"""

import enum
from dataclasses import dataclass

DRIFT_MS = 60_000
"""By so much may two clocks come apart, in a process's life."""
ALWAYS = 100
"""So many objects may go in a pass, whatever the share, and never more than half of all."""
HALF = 2


class Clock(enum.StrEnum):
    """What a sweep thinks of the time."""

    STEADY = "steady"
    BEHIND = "behind"
    """Earlier than when the last sweep looked."""
    LEAPT = "leapt"
    """Much later than when the last sweep looked, and nobody saw the time pass."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The catalog's clock, and a process's own that nobody sets, at one moment; milliseconds."""

    wall_ms: int
    steady_ms: int

    def attests(self, now: "Anchor") -> bool:
        """Tell whether both clocks have gone the same way since."""
        wall, steady = now.wall_ms - self.wall_ms, now.steady_ms - self.steady_ms
        return abs(wall - steady) <= DRIFT_MS


def judge_clock(now: Anchor, *, anchor: Anchor, swept_ms: int | None, leap_s: float) -> Clock:
    """Judge the time at which a sweep begins.

    ``anchor`` is the oldest moment that this process can attest; ``swept_ms`` how far the last
    sweep came that did all that was due, None before the first; a gap of up to ``leap_s`` seconds
    is believed without anybody's word.
    """
    if swept_ms is None:
        return Clock.LEAPT
    if now.wall_ms < swept_ms:
        return Clock.BEHIND
    if now.wall_ms - swept_ms <= leap_s * 1000:
        return Clock.STEADY
    return Clock.STEADY if anchor.wall_ms <= swept_ms and anchor.attests(now) else Clock.LEAPT


def may_go(ripe: int, *, living: int, clock: Clock, share: float, confirmed: int = 0) -> bool:
    """Tell whether so many objects of so many that live may expire, or be erased, in one pass.

    ``share`` of them may after a leap, and ``confirmed`` ones by an operator's word.
    """
    if clock is Clock.BEHIND:
        return False
    if clock is Clock.STEADY:
        return True
    allowed = min(max(ALWAYS, int(living * share)), living // HALF)
    return ripe <= max(confirmed, allowed)
