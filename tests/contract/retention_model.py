"""What a machine of retention is held against: plain values, and the rules as docs/retention.md
tells them, written without anything of `retention`.
"""

from dataclasses import dataclass, field

S = 1000
DRIFT_MS = 60 * S
ALWAYS = 100

Terms = tuple[str, int | None, int | None, int, bool]
"""Name, default and longest lifetime, grace, all in seconds, and whether promises are kept."""


@dataclass(slots=True)
class Thing:
    """An object."""

    session: str
    terms: Terms
    born: int
    keep: int | None
    leases: dict[str, int] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    expired: int | None = None
    erase_after: int | None = None
    gone: bool = False

    @property
    def end(self) -> int | None:
        """When the longest claim ends."""
        if self.keep is None:
            return None
        latest = self.keep
        for until in self.leases.values():
            latest = max(latest, until)
        return latest

    def is_over(self, now: int) -> bool:
        return self.end is not None and now >= self.end


@dataclass(slots=True)
class Model:
    """A deployment, and one process that sweeps."""

    leap_s: int
    share: float
    now: int = 10**12
    steady: int = 0
    terms: dict[str, Terms] = field(default_factory=dict)
    """Of sessions."""
    session_holds: dict[str, set[str]] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    swept: int | None = None
    anchor: tuple[int, int] | None = None

    def is_held(self, thing: Thing) -> bool:
        return bool(thing.holds or self.session_holds[thing.session])

    # What is asked of it: why something is refused, or None.

    def granted(self, session: str, asked: int | None) -> int | None:
        """Return the lifetime of what is committed now."""
        _, default, longest, _, strict = self.terms[session]
        if asked is None:
            return default
        if longest is not None and asked > longest:
            return longest
        if strict and (default is None or asked < default):
            return default
        return asked

    def may_take(self, session: str, new: Terms) -> bool:
        old = self.terms[session]
        if old == new or not old[4]:
            return True
        as_long = new[1] is None or (old[1] is not None and new[1] >= old[1])
        return as_long and new[4] and new[3] >= old[3]

    def refuses_lifetime(self, thing: Thing, asked: int | None) -> str | None:
        _, _, longest, _, strict = thing.terms
        if asked is not None and asked < 1:
            return "RetentionError"
        if longest is not None and (asked is None or asked > longest):
            return "LifetimeTooLong"
        if strict and asked is not None:
            promised = None if thing.keep is None else (thing.keep - thing.born) // S
            if promised is None or asked < promised:
                return "LifetimeTooShort"
        return None

    def refuses_lease(self, thing: Thing, for_s: int) -> str | None:
        longest = thing.terms[2]
        too_long = longest is not None and self.now + for_s * S > thing.born + longest * S
        return "LifetimeTooLong" if too_long else None

    def refuses_letting_go(self, thing: Thing, holder: str) -> str | None:
        goes_on = thing.leases.get(holder, 0) > self.now
        return "LifetimeTooShort" if goes_on and thing.terms[4] else None

    def refuses_erasure(self, thing: Thing) -> str | None:
        if self.is_held(thing):
            return "Held"
        return "Retained" if thing.terms[4] and not thing.is_over(self.now) else None

    # What a claim does, and a sweep.

    def claimed(self, thing: Thing) -> None:
        """Who claims it again has it back."""
        if not thing.is_over(self.now):
            thing.expired = thing.erase_after = None

    def erased(self, thing: Thing) -> None:
        thing.gone = True
        thing.leases.clear()

    @property
    def ripe(self) -> int:
        return len(self.due()) + len(self.erasable())

    def due(self) -> set[str]:
        return {
            name
            for name, thing in self.things.items()
            if not thing.gone and thing.expired is None and thing.is_over(self.now)
            if not self.is_held(thing)
        }

    def erasable(self) -> set[str]:
        return {
            name
            for name, thing in self.things.items()
            if not thing.gone and thing.erase_after is not None and thing.is_over(self.now)
            if self.now >= thing.erase_after and not self.is_held(thing)
        }

    def revivable(self) -> set[str]:
        return {
            name
            for name, thing in self.things.items()
            if not thing.gone and thing.expired is not None and not thing.is_over(self.now)
        }

    def living(self) -> int:
        return sum(not thing.gone for thing in self.things.values())

    def judge(self) -> str:
        """Judge the time as a pass begins, which may let the process attest from now on only."""
        now = (self.now, self.steady)
        anchor = self.anchor = self.anchor or now
        is_seen = abs((now[0] - anchor[0]) - (now[1] - anchor[1])) <= DRIFT_MS
        if self.swept is None:
            return "leapt"
        if self.now < self.swept:
            return "behind"
        is_short = self.now - self.swept <= self.leap_s * S
        if not is_short and not (is_seen and anchor[0] <= self.swept):
            return "leapt"
        if not is_seen:
            self.anchor = now
        return "steady"

    def goes(self, clock: str, confirmed: int) -> bool:
        """Tell whether what is due may go."""
        if clock != "leapt":
            return clock == "steady"
        allowed = int(self.living() * self.share)
        allowed = max(ALWAYS, allowed)
        half = self.living() // 2
        return self.ripe <= max(confirmed, min(allowed, half))
