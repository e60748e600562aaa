"""Samples, medians, ratios and floors: what a figure is, and whether it is good enough. Pure."""

import enum
import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MIB = 1 << 20


class Verdict(enum.StrEnum):
    """What became of a floor."""

    HOLDS = "yes"
    MISSED = "MISSED"
    SATURATED = "server saturated"
    """It would be missed, but what both sides work with had no more to give while ours ran."""
    NOT_JUDGED = "not judged"
    NO_FLOOR = "-"


@dataclass(frozen=True, slots=True)
class Sample:
    """The values of several runs of one side, in the order in which they were measured."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a sample without values: it has no median."""
        if not self.values:
            raise ValueError("a sample needs at least one value")

    @property
    def median(self) -> float:
        """The middle value, or the mean of the two in the middle."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a part of the median: how noisy the runs were."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: our side, perhaps a peer, perhaps a floor.

    A floor is the least ratio of medians (`ratio_min`), the most that it may be (`ratio_max`), or
    the most that our side itself may be (`ours_max`, in `unit`). `cpu` is what the server's CPU
    time comes to, ours and the peer's, in `cpu_unit`. `saturated` says that the server which both
    sides ask was the limit of ours: then the ratio says nothing of our side. `beside` is shown
    with the CPU time.
    """

    name: str
    unit: str
    ours: Sample
    peer_name: str = ""
    peer: Sample | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    ours_max: float | None = None
    cpu: tuple[float, float] | None = None
    cpu_unit: str = "s/GB"
    saturated: bool = False
    beside: str = ""

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's; None without a peer."""
        return None if self.peer is None else self.ours.median / self.peer.median

    @property
    def floor(self) -> str:
        """The floor in words, empty without one."""
        if self.ratio_min is not None:
            return f">= {self.ratio_min:.3g} x"
        if self.ratio_max is not None:
            return f"<= {self.ratio_max:.3g} x"
        return "" if self.ours_max is None else f"< {self.ours_max:g} {self.unit}"

    def verdict(self, *, judged: bool) -> Verdict:
        """Say whether the floor holds; runs too short to tell are not judged."""
        if self.ratio_min is self.ratio_max is self.ours_max is None:
            return Verdict.NO_FLOOR
        if not judged:
            return Verdict.NOT_JUDGED
        ratio = self.ratio
        slow = self.ratio_min is not None and (ratio is None or ratio < self.ratio_min)
        dear = self.ratio_max is not None and (ratio is None or ratio > self.ratio_max)
        large = self.ours_max is not None and self.ours.median >= self.ours_max
        # It excuses slowness, not dearness: a ceiling of seconds is one of time.
        late = slow or (dear and self.unit == "s")
        if large or (dear and not late) or (late and not self.saturated):
            return Verdict.MISSED
        return Verdict.SATURATED if late else Verdict.HOLDS


def made_up(size: int) -> bytes:
    """Return that many bytes which do not compress, each in memory of its own."""
    return os.urandom(min(size, MIB)) * (size // MIB) + os.urandom(size % MIB)


def interleave(
    sides: Mapping[str, Callable[[], float]],
    runs: int,
    on_value: Callable[[str, float], None] = lambda _side, _value: None,
    *,
    warm_up: bool = False,
) -> dict[str, Sample]:
    """Measure the sides in turn, A B A B, so that drift of the machine meets both alike.

    With `warm_up` there is one round more, the first, and it does not count for any side.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    if warm_up:
        for measure in sides.values():
            measure()
    for _ in range(runs):
        for name, measure in sides.items():
            value = measure()
            values[name].append(value)
            on_value(name, value)
    return {name: Sample(tuple(found)) for name, found in values.items()}


def rate_of(seconds: Sample, unit: float) -> Sample:
    """Return units a second, run by run, where `unit` of them took `seconds`."""
    return Sample(tuple(unit / value for value in seconds.values))


def in_microseconds(seconds: Sample) -> Sample:
    """Return the same in microseconds."""
    return Sample(tuple(value * 1e6 for value in seconds.values))


def net_of(whole: Sample, start: Sample) -> Sample | None:
    """Return what is left of each run without the start, None where noise hides what is left."""
    values = tuple(value - start.median for value in whole.values)
    return Sample(values) if min(values) > 0 else None


def one_after_the_other(first: Sample, second: Sample) -> Sample:
    """Return the rate of doing both kinds of work on one core, run by run.

    Rates of the same unit, so times add up: 1 / (1/a + 1/b).
    """
    pairs = zip(first.values, second.values, strict=True)
    return Sample(tuple(1 / (1 / a + 1 / b) for a, b in pairs))
