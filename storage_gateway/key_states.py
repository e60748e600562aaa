"""The states of a key version, and which may follow which. Pure.

New heads are made for the active version alone. What is sealed for one that is retiring still
opens, and is wrapped anew; one that is disabled is used for nothing, and can be brought back; of
one that is destroyed the identity may be gone.
"""

import enum
from dataclasses import dataclass

from .errors import KeyDwelling, KeyInUse, KeyStateSkipped


class KeyState(enum.StrEnum):
    """What a key version may be used for."""

    ACTIVE = "active"
    RETIRING = "retiring"
    DISABLED = "disabled"
    DESTROYED = "destroyed"


FOLLOWS = {
    KeyState.RETIRING: (KeyState.DISABLED,),
    KeyState.DISABLED: (KeyState.RETIRING, KeyState.DESTROYED),
}
"""What an operator may bring a version into. A version retires only as another becomes active."""


@dataclass(frozen=True, slots=True)
class Dwell:
    """How long a version stays in a state at least, in seconds."""

    retiring_s: float
    disabled_s: float

    def left_s(self, state: KeyState, age_s: float) -> float:
        """Return for how long a version that came into a state so long ago has to stay in it."""
        least = {KeyState.RETIRING: self.retiring_s, KeyState.DISABLED: self.disabled_s}
        return max(0.0, least.get(state, 0.0) - age_s)


def check_step(
    now: KeyState, wanted: KeyState, *, age_s: float, dwell: Dwell, urgent: bool, dependents: int
) -> None:
    """Make sure that a version may go from one state into another.

    ``age_s`` is for how long it has been in the state; ``urgent`` does without the wait before it
    is disabled, as a leaked key must; ``dependents`` is how much is still wrapped for it.

    Raises:
        KeyStateSkipped, KeyDwelling, KeyInUse

    """
    if wanted not in FOLLOWS.get(now, ()):
        after = " or ".join(FOLLOWS.get(now, ())) or "nothing"
        raise KeyStateSkipped(f"the key is {now}: after that comes {after}, not {wanted}")
    if wanted is KeyState.RETIRING or (urgent and wanted is KeyState.DISABLED):
        return
    left_s = dwell.left_s(now, age_s)
    if left_s > 0:
        raise KeyDwelling(f"the key is to stay {now} for {left_s:.0f} s more", left_s=int(left_s))
    if wanted is KeyState.DESTROYED and dependents:
        raise KeyInUse(f"{dependents} heads are wrapped for the key", dependents=dependents)
