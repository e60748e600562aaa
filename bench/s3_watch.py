"""What the S3 server and its core did while a side worked: whether it was the limit."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .figures import Sample, interleave
from .plan import GIB, Plan
from .s3_server import S3Server
from .s3_sides import Taken

CPU_UNIT = "s/GiB"
SATURATED_FROM = 0.95
"""Of the server's core; the rest is lost in changing from one process to another."""


@dataclass(slots=True)
class Watched:
    """One kind of work of one side, and what the S3 server and its core did meanwhile."""

    server: S3Server
    work: Callable[[], Taken]
    after: Callable[[], None] = lambda: None
    load_s: Callable[[], float] = time.process_time
    """CPU seconds of what shares the server's core, above all the load generator."""
    cpu_s: list[float] = field(default_factory=list)
    server_shares: list[float] = field(default_factory=list)
    core_shares: list[float] = field(default_factory=list)

    def measure(self) -> float:
        """Work once, when the server has done with what was before; return seconds."""
        self.server.wait_quiet()
        server_s, load_s = self.server.cpu_s(), self.load_s()
        taken = self.work()
        server_s, load_s = self.server.cpu_s() - server_s, self.load_s() - load_s
        self.cpu_s.append(taken.cpu_s)
        self.server_shares.append(server_s / taken.wall_s)
        self.core_shares.append((server_s + load_s) / taken.wall_s)
        self.after()
        return taken.wall_s

    def cpu_per_gib(self, size: int) -> Sample:
        """Return the CPU seconds of each run for a GiB, where a run moved `size` bytes."""
        return Sample(tuple(s * GIB / size for s in self.cpu_s))


def shown_shares(ours: Watched, peer: Watched) -> str:
    """Say how much of its core the S3 server used, ours and the peer's, and how much was used."""

    def shares(of: Callable[[Watched], list[float]]) -> str:
        return " / ".join(f"{statistics.median(of(each)):.0%}" for each in (ours, peer))

    return (
        f"S3 server {shares(lambda each: each.server_shares)}, "
        f"with load {shares(lambda each: each.core_shares)} of its core"
    )


def saturated(ours: Watched) -> bool:
    """Tell whether the server's core had nothing left while our side worked."""
    return statistics.median(ours.core_shares) >= SATURATED_FROM


def walls_of(plan: Plan, name: str, sides: Mapping[str, Watched]) -> dict[str, Sample]:
    """Measure the sides in turn; return the seconds of each."""
    work = {side: each.measure for side, each in sides.items()}
    return interleave(
        work, plan.runs, lambda side, value: plan.say(f"{name}: {side} {value:,.2f} s")
    )
