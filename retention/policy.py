"""Policies: for how long objects of a class live. Pure.

The terms of a policy are fixed for an object when it is committed. After that its lifetime can
always be raised, up to the longest that the policy allows, and lowered only where its mode says so:
*governance* and *compliance* are used as S3 Object Lock uses them.
"""

import enum
import re
from dataclasses import dataclass

LIFETIME_S_MAX = 100 * 365 * 86400
"""A hundred years: more is meant as for ever, which is said by leaving the lifetime open."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


class RetentionError(ValueError):
    """What was asked is not allowed; the text says why, in words for whoever asked."""


class PolicyError(RetentionError):
    """The terms contradict themselves."""


class LifetimeTooLong(RetentionError):
    """Longer than the policy allows."""


class LifetimeTooShort(RetentionError):
    """Shorter than what was promised, under a policy that keeps its promises."""


class Mode(enum.StrEnum):
    """Whether a promise may be taken back."""

    GOVERNANCE = "governance"
    """A lifetime may be shortened, and an object erased before its time."""
    COMPLIANCE = "compliance"
    """Nobody may do either, whatever they may do else."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The terms of one policy: all times in whole seconds; None is for ever.

    Raises PolicyError where they contradict themselves.
    """

    name: str
    default_s: int | None
    """How long an object lives of which nothing else is said."""
    longest_s: int | None
    """How long any may live, from its commit; holds aside."""
    grace_s: int
    """For how long an expired object can be had back."""
    mode: Mode = Mode.GOVERNANCE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PolicyError("its name must be a-z, 0-9, '_' and '-', at most 64 of them")
        for what, value in (("default", self.default_s), ("longest", self.longest_s)):
            if value is not None:
                _check_lifetime(value, f"the {what} lifetime", PolicyError)
        if not 0 <= self.grace_s <= LIFETIME_S_MAX:
            raise PolicyError(f"the grace must be 0 to {LIFETIME_S_MAX} seconds")
        if self.longest_s is not None and (self.default_s or self.longest_s + 1) > self.longest_s:
            raise PolicyError("the default lifetime is longer than the longest")

    def lifetime(self, asked_s: int | None) -> int | None:
        """Return the lifetime of a new object of which ``asked_s`` is wished, None for nothing.

        Raises:
            RetentionError: no lifetime.
            LifetimeTooLong: longer than the longest.
            LifetimeTooShort: shorter than the default, under compliance.

        """
        if asked_s is None:
            return self.default_s
        self.check(asked_s, instead_of=self.default_s)
        return asked_s

    def nearest(self, asked_s: int | None) -> int | None:
        """Return the lifetime of a new object of which ``asked_s`` was granted under other terms:
        what comes nearest to it under these.
        """
        try:
            return self.lifetime(asked_s)
        except LifetimeTooLong:
            return self.longest_s
        except LifetimeTooShort:
            return self.default_s

    def check(self, asked_s: int | None, *, instead_of: int | None) -> None:
        """Check a lifetime from the commit, None for ever, that is to replace another one.

        Raises:
            RetentionError, LifetimeTooLong, LifetimeTooShort: as `lifetime`.

        """
        if asked_s is not None:
            _check_lifetime(asked_s, "a lifetime", RetentionError)
        if self.longest_s is not None and (asked_s is None or asked_s > self.longest_s):
            raise LifetimeTooLong(
                f"the policy '{self.name}' allows at most {self.longest_s} seconds from the commit"
            )
        is_shorter = asked_s is not None and (instead_of is None or asked_s < instead_of)
        if is_shorter and self.mode is Mode.COMPLIANCE:
            promised = "for ever" if instead_of is None else f"{instead_of} seconds"
            raise LifetimeTooShort(
                f"the policy '{self.name}' has promised {promised} from the commit, and its mode is"
                " compliance: a lifetime can only be raised"
            )

    def check_successor(self, other: "Policy") -> None:
        """Check that a session of this policy may go over to another one for what comes later.

        Raises:
            LifetimeTooShort: that would promise less, and this one's mode is compliance.

        """
        if self.mode is not Mode.COMPLIANCE:
            return
        is_shorter = other.default_s is not None and (
            self.default_s is None or other.default_s < self.default_s
        )
        if is_shorter or other.mode is not Mode.COMPLIANCE or other.grace_s < self.grace_s:
            raise LifetimeTooShort(
                f"the policy '{other.name}' promises less than '{self.name}', whose mode is"
                " compliance"
            )


FOREVER = Policy("forever", None, None, 7 * 86400)
"""What holds where nothing else is configured."""


def _check_lifetime(seconds: int, what: str, error: type[RetentionError]) -> None:
    if not 1 <= seconds <= LIFETIME_S_MAX:
        raise error(f"{what} must be 1 to {LIFETIME_S_MAX} seconds")
