"""How a store did lately: whether it is asked at all, and how soon it answers.

Pure: the time is an argument, in seconds of any clock that never goes back.
"""

import math
from collections import deque

FAILURES_MAX = 3
"""Failures in a row after which a store is left alone for a while."""
RESTED_S = 5.0
"""How long it is left alone at first; twice as long after each probe that failed."""
RESTED_S_MAX = 80.0
REST_FACTOR = 3.0
"""Who was asked to delete or to list and did not answer is left alone so many times as long as that
took: longer than both together take, so that who does one after the other waits for neither."""
LONG_REST_S_MAX = 600.0
"""But never longer than this: a disk that hung for two hours is well again, as likely as not."""
OBSERVED_MAX = 64
"""Reads that are remembered of a store."""
OBSERVED_SHARE = 0.2
"""What the newest read counts for in the average."""
ALIKE_S = 0.005
"""Stores that answer within it are as quick as each other."""
OBSERVED_MIN = 16
"""Reads after which it is known how long they take."""
HEDGE_S = 0.5
"""How long a read waits for a store alone as long as that is not known."""
HEDGE_MIN_S = 0.05
HEDGE_MAX_S = 2.0
"""A store that hangs must not be waited for longer each time that it did."""
NEARLY_ALL = 0.95


def rest_after(took_s: float) -> float:
    """Return how long to leave alone who did not answer for so long when asked to delete or list.

    In seconds.
    """
    return min(LONG_REST_S_MAX, REST_FACTOR * took_s)


class Breaker:
    """Whether a store is asked for one kind of operation: closed while it is well, open else.

    Of an open one that has rested one call at a time is the *probe*: it closes it, or lets it rest
    longer. Every call is told of once: how it ended, and whether it was the probe.
    """

    def __init__(self) -> None:
        """Begin closed."""
        self._failures = 0
        self._rest_s = RESTED_S
        self._open_until: float | None = None
        self._probed = False

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing speaks against asking."""
        return self._open_until is None

    @property
    def was_answered(self) -> bool:
        """Tell whether the newest call that ended was answered; True before the first one."""
        return self.is_closed and self._failures == 0

    def wants_probe(self, now: float) -> bool:
        """Tell whether it has rested, and nobody is trying it."""
        return self._open_until is not None and now >= self._open_until and not self._probed

    def enter(self, now: float) -> bool:
        """Count a call that begins; tell whether it is the probe."""
        probe = self.wants_probe(now)
        self._probed = self._probed or probe
        return probe

    def succeed(self) -> None:
        """Count a call that was answered: whoever answers is well."""
        self._failures = 0
        self._rest_s = RESTED_S
        self._open_until = None
        self._probed = False

    def fail(self, now: float, *, probe: bool, rest_s: float | None = None) -> None:
        """Count a call that was not answered; ``rest_s`` is how long it rests, if not as usual."""
        if self.is_closed:
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                self._rest_s = self._rest_s if rest_s is None else rest_s
                self._open_until = now + self._rest_s
        elif probe:
            longer_s = min(RESTED_S_MAX, 2 * self._rest_s)
            self._rest_s = longer_s if rest_s is None else rest_s
            self._end_probe(now)

    def drop(self, now: float, *, probe: bool) -> None:
        """Count a call of which nobody knows how it would have ended."""
        if probe and not self.is_closed:
            self._end_probe(now)

    def _end_probe(self, now: float) -> None:
        self._probed = False
        self._open_until = now + self._rest_s


class Latency:
    """How long reads of a store took, in seconds."""

    def __init__(self) -> None:
        """Begin without an observation."""
        self._newest: deque[float] = deque(maxlen=OBSERVED_MAX)
        self._average_s = 0.0
        self.measured_at = -math.inf

    @property
    def rank(self) -> int:
        """How often `ALIKE_S` doubles to what a read takes; 0 also before the first one."""
        return max(0, round(math.log2(max(self._average_s, ALIKE_S) / ALIKE_S)))

    @property
    def patience_s(self) -> float:
        """How long to wait for it alone: as long as nearly all of its reads took."""
        if len(self._newest) < OBSERVED_MIN:
            return HEDGE_S
        slow = sorted(self._newest)[int(NEARLY_ALL * len(self._newest))]
        return min(HEDGE_MAX_S, max(HEDGE_MIN_S, slow))

    def observe(self, took_s: float, now: float) -> None:
        """Count a read that was answered."""
        share = OBSERVED_SHARE if self._newest else 1.0
        self._average_s += share * (took_s - self._average_s)
        self._newest.append(took_s)
        self.measured_at = now

    def cut_short(self, after_s: float, now: float) -> None:
        """Count a read that was not waited for any more: it says something if it was slow."""
        if after_s > self._average_s:
            self.observe(after_s, now)
