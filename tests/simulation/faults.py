"""What may go wrong in a history, and how often. Drawn anew for each, most of it absent from most:
a history in which everything fails at once finds less than many in which a few things do.
"""

from dataclasses import dataclass, fields

from .world import World


@dataclass(slots=True)
class Faults:
    """Probabilities for each operation, unless said otherwise; all zero is fair weather."""

    kill: float = 0.0
    """For each second: a process dies."""
    kill_at_step: float = 0.0
    """For each operation of store and catalog: its process dies when it was asked for, or done."""
    pause_at_step: float = 0.0
    pause: float = 0.0
    """For each second: a process is paused."""
    drain: float = 0.0
    """For each second: a process is told to stop."""
    power_cut: float = 0.0
    """For each second: every process dies, and the store forgets what was not synced."""
    store_error: float = 0.0
    store_slow: float = 0.0
    """An operation of the store takes seconds."""
    store_late: float = 0.0
    """What a dead or paused process asked of a store elsewhere is done late; always there."""
    catalog_error: float = 0.0
    catalog_stall: float = 0.0
    """For each second: the catalog stands still for some."""
    cut: float = 0.0
    """For each connection: it is cut after some bytes."""
    slow_client: float = 0.0
    impatient_client: float = 0.0
    repeat: float = 0.0
    """A client sends the same request twice at the same time."""

    @property
    def kills(self) -> bool:
        """Whether processes end."""
        return bool(self.kill or self.kill_at_step or self.drain or self.power_cut)

    @property
    def stalls_catalog(self) -> bool:
        """Whether a lease may not be renewed in time."""
        return bool(self.catalog_error or self.catalog_stall)


SEVERITY = Faults(
    kill=0.2,
    kill_at_step=0.08,
    pause_at_step=0.08,
    pause=0.2,
    drain=0.1,
    power_cut=0.15,
    store_error=0.12,
    store_slow=0.15,
    store_late=0.7,
    catalog_error=0.06,
    catalog_stall=0.2,
    cut=0.2,
    slow_client=0.2,
    impatient_client=0.15,
    repeat=0.25,
)
PRESENT = 0.35
ENDS = frozenset({"kill", "kill_at_step", "drain", "power_cut"})
ENDING = 0.55
"""In this many histories processes may end at all; what is paused for long goes on in the rest."""


def draw_faults(world: World) -> Faults:
    """Return the faults of a history."""
    drawn = Faults(store_late=SEVERITY.store_late)
    ending = world.chance(ENDING)
    for one in fields(Faults):
        if one.name in ENDS and not ending:
            continue
        if world.chance(PRESENT):
            setattr(drawn, one.name, getattr(SEVERITY, one.name))
    return drawn


def end_faults(faults: Faults) -> None:
    """Heal: nothing goes wrong any more."""
    for one in fields(Faults):
        setattr(faults, one.name, 0.0)
