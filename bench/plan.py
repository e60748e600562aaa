"""How much is measured: sizes, runs, and where the files go."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .figures import MIB

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmarks. Sizes are bytes; `judged` says whether floors apply."""

    runs: int
    envelope_size: int
    transfer_size: int
    memory_size: int
    memory_clients: int
    """Slow ones, at one time; with none, only one transfer is measured."""
    memory_budget: int
    """What the gateway may hold of their bodies, and of their downloads."""
    small_count: int
    small_seconds: float
    """For how long calls of less than a millisecond are repeated to make one value."""
    pass_counts: tuple[int, ...]
    """Small objects that passes go through, from few to many."""
    pass_large: int
    """Large ones."""
    rewrap_count: int
    """Heads that are wrapped anew."""
    census_count: int
    """Objects that a census counts."""
    sweep_count: int
    """Rows that a sweep goes through."""
    judged: bool
    folder: Path
    say: Callable[[str], None]
    """Tells a person, on stderr, what is being measured."""

    notes: list[str] = field(default_factory=list)
    """What the report has to tell beside the figures: versions, and what could not be measured."""

    def note(self, what: str) -> Callable[[str, float], None]:
        """Return what tells of each value of a measurement."""
        return lambda side, value: self.say(f"{what}: {side} {value:,.0f} MB/s")

    def smaller(self, **sizes: int) -> "Plan":
        """Return the plan with other sizes, which no floor was written for."""
        return replace(self, **sizes, judged=False)  # type: ignore[arg-type]  # sizes are ints


def full_plan(folder: Path, runs: int, say: Callable[[str], None], *, most: bool = False) -> Plan:
    """Return the plan that the floors are written for; ``most``: with what takes a night."""
    return Plan(
        runs=runs,
        envelope_size=64 * MIB,
        transfer_size=GIB,
        memory_size=2 * GIB,
        memory_clients=500,
        memory_budget=256 * MIB,
        small_count=1000,
        small_seconds=0.2,
        pass_counts=(1000, 10_000, 100_000) if most else (1000, 5000),
        pass_large=32,
        rewrap_count=100_000 if most else 5000,
        census_count=10**6 if most else 100_000,
        sweep_count=10**6 if most else 100_000,
        judged=True,
        folder=folder,
        say=say,
    )


def quick_plan(folder: Path, say: Callable[[str], None]) -> Plan:
    """Return a plan of seconds, which shows that everything runs and proves no figure."""
    return Plan(
        runs=1,
        envelope_size=MIB,
        transfer_size=9 * MIB,
        memory_size=9 * MIB,
        memory_clients=0,
        memory_budget=4 * MIB,
        small_count=8,
        small_seconds=0.0,
        pass_counts=(8,),
        pass_large=0,
        rewrap_count=8,
        census_count=100,
        sweep_count=100,
        judged=False,
        folder=folder,
        say=say,
    )
