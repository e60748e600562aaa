"""Counting what requests came to, and how long they took."""

import collections
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

OK = "ok"
LATENCIES_MAX = 100_000
"""Kept for each operation; a run of more requests is judged by its first ones."""


@dataclass(slots=True)
class Record:
    """Requests of one group of clients: by operation, outcomes and seconds."""

    outcomes: dict[str, collections.Counter[str]] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    retries: int = 0
    first_failure: float | None = None
    """When a request first came to anything but ``ok``, by the monotonic clock."""
    readable_s: list[float] = field(default_factory=list)
    """From a 201 until the object was read back whole."""

    def note(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one request; ``outcome`` is ``ok`` or the problem's code."""
        self.outcomes.setdefault(operation, collections.Counter())[outcome] += 1
        if outcome != OK and self.first_failure is None:
            self.first_failure = time.monotonic()
        kept = self.latencies.setdefault(operation, [])
        if len(kept) < LATENCIES_MAX:
            kept.append(seconds)

    def count(self, operation: str, outcome: str | None = None) -> int:
        """Return how many requests came to an outcome, or to any."""
        counted = self.outcomes.get(operation, collections.Counter())
        return counted.total() if outcome is None else counted[outcome]

    def total(self) -> int:
        """Return how many requests there were."""
        return sum(counted.total() for counted in self.outcomes.values())

    def as_json(self) -> dict[str, Any]:
        """Return outcomes, latencies in milliseconds, retries, time until readable."""
        return {
            "requests": {name: dict(counted) for name, counted in self.outcomes.items()},
            "latency_ms": {name: spread(kept) for name, kept in self.latencies.items()},
            "retries": self.retries,
            "until_readable_ms": spread(self.readable_s),
        }


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95, p99 and the largest in milliseconds; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 3)
        for name, share in named.items()
    }
