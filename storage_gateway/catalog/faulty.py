"""Faults as a catalog: the contract over any catalog, failing where it is told to.

For stress runs and tests. `faults` can be exchanged while work is under way.
"""

import asyncio
import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from storage_gateway.chance import Chance
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.records import Manifest, ObjectState

from .contract import Catalog, Unit

T = TypeVar("T")

COMMIT_DECIDED, COMMITTED = "commit decided", "committed"
"""Points of an upload's commit: its unit has run, within the transaction that is not committed
yet; COMMIT returned, and nobody knows of it yet."""
DECIDED, DONE = " decided", " done"
"""Behind the name of a unit: such points of the transactions of `TOLD_UNITS`."""
TOLD_UNITS = frozenset({"add_key", "put_heads", "tell_job", "expire", "erase_expired", "set_swept"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFaults:
    """What goes wrong, as shares (0 to 1) of the transactions."""

    stall_s: float = 0.0
    """Each transaction and each read waits up to so long before it begins."""
    refused: float = 0.0
    """Fails before anything is done."""
    lost_answer: float = 0.0
    """Takes effect, and fails all the same."""
    at_point: Callable[[str], None] | None = None
    """Told of the points of each commit; may block, never on the event loop's thread."""


NO_FAULTS = CatalogFaults()


class FaultyCatalog(Catalog):
    """A catalog over another one, with faults."""

    def __init__(self, inner: Catalog, *, seed: int) -> None:
        """Begin without faults."""
        self.inner = inner
        self.faults = NO_FAULTS
        self.injected: collections.Counter[str] = collections.Counter()
        """How many faults there were, by kind."""
        self._chances = {
            kind: Chance(seed, "catalog", kind) for kind in ("stall", "refused", "lost_answer")
        }

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.faults = NO_FAULTS

    async def run(self, unit: Unit[T]) -> T:
        """See `Catalog.run`."""
        await self._begin()
        at_point = self.faults.at_point
        if at_point is None:
            answer = await self.inner.run(unit)
        else:
            answer = await self._run_told(unit, at_point)
        if self._hits("lost_answer", self.faults.lost_answer):
            raise CatalogUnavailable("the answer of a transaction was lost (injected)")
        return answer

    async def _run_told(self, unit: Unit[T], at_point: Callable[[str], None]) -> T:
        name = getattr(getattr(unit, "func", unit), "__name__", "")

        def told(connection: Connection) -> T:
            answer = unit(connection)
            if _tells_of_commit(answer):
                at_point(COMMIT_DECIDED)
            if name in TOLD_UNITS:
                at_point(name + DECIDED)
            return answer

        answer = await self.inner.run(told)
        if name in TOLD_UNITS:
            await asyncio.to_thread(at_point, name + DONE)
        if _tells_of_commit(answer):
            await asyncio.to_thread(at_point, COMMITTED)
        return answer

    def run_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.run_blocking`; without faults."""
        return self.inner.run_blocking(unit)

    async def read(self, unit: Unit[T]) -> T:
        """See `Catalog.read`."""
        await self._begin()
        return await self.inner.read(unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.read_blocking`; without faults."""
        return self.inner.read_blocking(unit)

    def clean_pages(self) -> bool:
        """See `Catalog.clean_pages`; without faults."""
        return self.inner.clean_pages()

    def close(self) -> None:
        """Close the catalog below."""
        self.inner.close()

    async def _begin(self) -> None:
        stall_s = self.faults.stall_s
        if stall_s:
            self.injected["stall"] += 1
            await asyncio.sleep(self._chances["stall"].fraction() * stall_s)
        if self._hits("refused", self.faults.refused):
            raise CatalogUnavailable("the catalog refused a transaction (injected)")

    def _hits(self, kind: str, share: float) -> bool:
        hit = bool(share) and self._chances[kind].fraction() < share
        self.injected[kind] += hit
        return hit


def _tells_of_commit(answer: object) -> bool:
    """Tell the unit that commits an upload by its answer: all others answer with something else."""
    return isinstance(answer, Manifest) and answer.state is ObjectState.COMMITTED
