"""Repeatable choices: what the n-th draw gives depends on the seed, the labels and n alone.

For fault plans and loads, where operations of many tasks and threads mix in any order: a draw of
one kind is not moved by how many there were of another. Never for keys, tokens or ids.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_DRAW_BYTES = 7
"""Below the 53 bits that a float holds exactly, with three to spare."""


class Chance:
    """A row of draws. Safe to share between threads."""

    def __init__(self, seed: int, *labels: str | int) -> None:
        """Another label, another row."""
        self._seed = "\0".join(map(str, (seed, *labels))).encode()
        self._draws = itertools.count()

    def fraction(self) -> float:
        """Return a number from 0 to below 1."""
        drawn = hashlib.sha256(b"%d\0%s" % (next(self._draws), self._seed)).digest()
        return int.from_bytes(drawn[:_DRAW_BYTES]) / (1 << (8 * _DRAW_BYTES))

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to below ``limit``."""
        return int(self.fraction() * limit)

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.below(len(choices))]
