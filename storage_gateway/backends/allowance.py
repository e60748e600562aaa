"""How many calls there may be beyond those that are asked for: a share, and some at once. Pure."""


class Allowance:
    """Earned by each call, spent by each one beyond."""

    def __init__(self, *, share: float, saved_max: float) -> None:
        """A call earns ``share`` (0 to 1); at most ``saved_max``, as at the start, is kept."""
        self._share = share
        self._saved_max = saved_max
        self._saved = saved_max

    @property
    def is_left(self) -> bool:
        """Tell whether there is one to be spent."""
        return self._saved >= 1

    def earn(self) -> None:
        """Count a call."""
        self._saved = min(self._saved_max, self._saved + self._share)

    def spend(self) -> bool:
        """Take one; False when there is none."""
        if not self.is_left:
            return False
        self._saved -= 1
        return True
