"""What every catalog promises, whatever database is below it.

A *unit* is a function of a SQLAlchemy connection. Units do no I/O but SQL, and may be run again
from their beginning before their transaction took effect: what they do beside SQL must not add up.
Once begun, each is run to its end even when the caller is cancelled, so whoever stops waiting must
ask the catalog what became of it, with `Catalog.run`: that sees what all earlier ones did.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Unit = Callable[[Connection], T]


def accept(_connection: Connection) -> None:
    """Find nothing wrong."""


class Catalog(ABC):
    """An open catalog: `run` writes, `read` reads, `close` ends it."""

    kind: str
    """What it is, as readiness shows it: ``sqlite``, ``postgresql``."""

    @abstractmethod
    async def run(self, unit: Unit[T]) -> T:
        """Run ``unit`` in a durable transaction and return its answer after COMMIT.

        An answer that was seen is durable. What the unit raises undoes the unit alone and is raised
        here; as a RuntimeError if no future can hold it (`StopIteration`, `SystemExit`).

        Raises:
            CatalogUnavailable: the transaction failed; whether it took effect must be read back.
            StorageFull: the disk under the catalog is full; nothing took effect.

        """

    @abstractmethod
    def run_blocking(self, unit: Unit[T]) -> T:
        """As `run`, for callers without an event loop."""

    @abstractmethod
    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, on a consistent snapshot, beside whoever writes.

        For a caller that is cancelled before its turn it need not be run. What it raises is raised
        as by `run`.

        Raises:
            CatalogUnavailable: the database cannot be read.

        """

    @abstractmethod
    def read_blocking(self, unit: Unit[T]) -> T:
        """As `read`, for callers without an event loop."""

    @abstractmethod
    def clean_pages(self) -> bool:
        """Make sure that no file of the database holds what was deleted before this call.

        What exactly is promised depends on the database; each says it in its own docstring. This
        is what lets the gateway say "erased". Returns False while something still needs the old
        pages; ask again later. Blocks.

        Raises:
            CatalogUnavailable: the pages cannot be cleaned.

        """

    @property
    def log_kept_by(self) -> frozenset[str]:
        """What lets the database's log of changes hold for longer what `clean_pages` cleaned away,
        when that last did; docs/retention.md lists it. Nothing where there is no such log.
        """
        return frozenset()

    @abstractmethod
    def close(self) -> None:
        """Finish what is queued, then close every connection. Blocks."""
