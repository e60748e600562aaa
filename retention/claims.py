"""Claims: who wants an object to stay, until when. Pure. The longest wins; a hold beats all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .policy import FOREVER, LifetimeTooLong, LifetimeTooShort, Mode, Policy


@dataclass(frozen=True, slots=True)
class Lease:
    """A party's wish that an object stays until then; to be renewed."""

    holder: str
    until_ms: int

    def renewed(self, until_ms: int) -> "Lease":
        """Return the lease with a later end: one that is earlier changes nothing."""
        return replace(self, until_ms=max(self.until_ms, until_ms))


@dataclass(frozen=True, slots=True)
class Hold:
    """An order that something stays, whoever wants it gone: it ends when it is released."""

    hold_id: str
    who: str
    why: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Claims:
    """All that is claimed of one object; times in milliseconds, by the catalog's clock."""

    committed_ms: int
    keep_until_ms: int | None
    """The end of the lifetime that the policy, or who committed it, gave; None: never."""
    policy: Policy = FOREVER
    leases: Sequence[Lease] = ()
    holds: int = 0
    """How many are on the object, or on its session."""
    expired_ms: int | None = None
    """When it was found that nobody claims it any more."""
    erase_after_ms: int | None = None
    """Until then an expired object can be had back."""

    @property
    def expires_ms(self) -> int | None:
        """When the longest of the claims ends, holds aside; None: never."""
        if self.keep_until_ms is None:
            return None
        return max([self.keep_until_ms, *(lease.until_ms for lease in self.leases)])

    def may_be_erased(self, now_ms: int) -> bool:
        """Tell whether somebody's word may erase it before its time."""
        if self.holds:
            return False
        if self.policy.mode is not Mode.COMPLIANCE:
            return True
        return self.expires_ms is not None and self.expires_ms <= now_ms

    def check_lease(self, until_ms: int) -> None:
        """Check that a lease may last until then.

        Raises:
            LifetimeTooLong: that is later than the policy's longest lifetime.

        """
        longest_s = self.policy.longest_s
        if longest_s is not None and until_ms > self.committed_ms + longest_s * 1000:
            raise LifetimeTooLong(
                f"the policy '{self.policy.name}' allows at most {longest_s} seconds from the"
                " commit: so long no lease may last"
            )

    def check_let_go(self, holder: str, now_ms: int) -> None:
        """Check that a lease may be given up.

        Raises:
            LifetimeTooShort: it goes on, and the policy's mode is compliance.

        """
        goes_on = any(each.holder == holder and each.until_ms > now_ms for each in self.leases)
        if goes_on and self.policy.mode is Mode.COMPLIANCE:
            raise LifetimeTooShort(
                f"the lease goes on, and the mode of the policy '{self.policy.name}' is compliance:"
                " it can only end"
            )
