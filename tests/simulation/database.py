"""The catalog of a simulated deployment: the real units on SQLite in memory, run one at a time.

Two kinds. *Embedded*: a transaction happens in the process that asked for it, several in one (group
commit); when the process dies or is paused, so does what it had queued. *Server*: each transaction
is on its own way to a server and happens there, in any order, also after its sender died.
"""

import asyncio
import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from storage_gateway.catalog import Catalog, Unit
from storage_gateway.catalog.clock import attach_clock
from storage_gateway.catalog.tables import metadata
from storage_gateway.errors import CatalogUnavailable

from .faults import Faults
from .world import Process, World

T = TypeVar("T")

TRANSACTION_S = 0.002
READ_S = 0.001
STALL_S = 3.0
STALL_S_MAX = 10.0
GROUP_UNITS_MAX = 64
TABLES = [table.name for table in metadata.sorted_tables]


class Memory:
    """One SQLite database in memory, used by one history after the other: to open one costs more
    than a history does.
    """

    def __init__(self) -> None:
        """Open it."""
        self._raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._raw.execute("PRAGMA foreign_keys = ON")
        # SQLAlchemy believes itself to be within one transaction for ever; the true ones are begun
        # and ended below it. To begin and end one through it costs more than what is done in it.
        self._engine: Engine = create_engine(
            "sqlite+pysqlite://", creator=lambda: self._raw, poolclass=StaticPool
        )
        self.connection = self._engine.connect()

    def create(self) -> None:
        """Make the tables."""
        self.transact(metadata.create_all)

    def keep(self) -> None:
        """Keep what is there, to go back to."""
        self._raw.execute("ATTACH ':memory:' AS kept")
        for name in TABLES:
            self._raw.execute(f"CREATE TABLE kept.{name} AS SELECT * FROM main.{name}")  # noqa: S608 - a name of ours

    def restore(self) -> None:
        """Go back to what was kept: row by row, as every statement is prepared anew for a
        database that was copied as a whole.
        """
        for name in reversed(TABLES):
            self._raw.execute(f"DELETE FROM main.{name}")  # noqa: S608 - a name of ours
        for name in TABLES:
            self._raw.execute(f"INSERT INTO main.{name} SELECT * FROM kept.{name}")  # noqa: S608 - a name of ours

    def use_clock(self, clock: Callable[[int], int]) -> None:
        """Have units see this time."""
        attach_clock(self.connection.info, clock)

    def transact(self, unit: Unit[T]) -> T:
        """Run a unit in a transaction of its own."""
        self._raw.execute("BEGIN")
        try:
            answer = unit(self.connection)
        except BaseException:
            self._raw.execute("ROLLBACK")
            raise
        self._raw.execute("COMMIT")
        return answer

    def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads: nothing else happens meanwhile."""
        return unit(self.connection)

    def transact_group(self, units: list[Unit[Any]]) -> list[tuple[Any, Exception | None]]:
        """Run units in one transaction, each in a savepoint unless it is alone."""
        if len(units) == 1:
            try:
                return [(self.transact(units[0]), None)]
            except Exception as error:  # noqa: BLE001 - it is for whoever asked
                return [(None, error)]
        return self.transact(lambda _connection: [self._in_savepoint(unit) for unit in units])

    def attempt(self, unit: Unit[T]) -> T:
        """Run a unit and undo it."""
        self._raw.execute("BEGIN")
        try:
            return unit(self.connection)
        finally:
            self._raw.execute("ROLLBACK")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a plain statement finds."""
        return self._raw.execute(statement).fetchall()

    def _in_savepoint(self, unit: Unit[Any]) -> tuple[Any, Exception | None]:
        self._raw.execute("SAVEPOINT unit")
        try:
            answer = unit(self.connection)
        except Exception as error:  # noqa: BLE001 - it is for whoever asked
            self._raw.execute("ROLLBACK TO unit")
            self._raw.execute("RELEASE unit")
            return None, error
        self._raw.execute("RELEASE unit")
        return answer, None

    def close(self) -> None:
        """Close it."""
        self.connection.close()
        self._engine.dispose()
        self._raw.close()


@dataclass(slots=True)
class Database:
    """The database of one history."""

    world: World
    memory: Memory
    faults: Faults
    embedded: bool
    stalled_until: float = -math.inf

    def __post_init__(self) -> None:
        """Tell virtual time."""
        self.memory.use_clock(self.world.clock_ms)

    def stall(self) -> None:
        """Stand still for some time."""
        length_s = min(self.world.delay(STALL_S), STALL_S_MAX)
        self.world.held_up_s += length_s
        self.stalled_until = self.world.now + length_s
        self.world.note("catalog", f"stands still until {self.stalled_until:.1f}")

    def delay(self, mean_s: float) -> float:
        """Return how long something takes now."""
        return max(0.0, self.stalled_until - self.world.now) + self.world.delay(mean_s)


@dataclass(slots=True, eq=False)
class _Asked:
    """A transaction that was asked for."""

    unit: Unit[Any]
    future: "asyncio.Future[Any]"
    label: str
    taken: bool = False


class SimulatedCatalog(Catalog):
    """One process's way to the database."""

    def __init__(self, database: Database, process: Process) -> None:
        """Connect."""
        self.database = database
        self._world = database.world
        self._process = process
        self._waiting: list[_Asked] = []
        process.on_death.append(self._process_died)

    async def run(self, unit: Unit[T]) -> T:
        """See `Catalog.run`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        asked = _Asked(unit, future, label_of(unit))
        self._waiting.append(asked)
        delay = self.database.delay(TRANSACTION_S)
        if self.database.embedded:
            self._world.at(delay, self._write, self._process)
        else:
            self._world.at(delay, lambda: self._transact([asked]))
        return await future

    def run_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.run_blocking`."""
        return self.database.memory.transact(unit)

    async def read(self, unit: Unit[T]) -> T:
        """See `Catalog.read`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if self._world.chance(self.database.faults.catalog_error):
                self._world.note("catalog", f"{self._process.name}: {label_of(unit)} is not read")
                _resolve(future, None, CatalogUnavailable("the simulated catalog is not read"))
                return
            try:
                answer = self.read_blocking(unit)
            except Exception as error:  # noqa: BLE001 - it is for whoever asked
                _resolve(future, None, error)
            else:
                _resolve(future, answer, None)

        self._world.at(self.database.delay(READ_S), look, self._process)
        return await future

    def read_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.read_blocking`."""
        return self.database.memory.read(unit)

    def clean_pages(self) -> bool:
        """See `Catalog.clean_pages`."""
        if self._world.chance(self.database.faults.catalog_error):
            raise CatalogUnavailable("the simulated catalog cannot be cleaned")
        return not self._world.chance(self.database.faults.catalog_stall)

    def close(self) -> None:
        """See `Catalog.close`."""

    def _write(self) -> None:
        """Do what waits in this process, or a part of it, in one transaction."""
        if self._waiting:
            size = self._world.random.randint(1, len(self._waiting))
            self._transact(self._waiting[: min(size, GROUP_UNITS_MAX)])

    def _transact(self, group: list[_Asked]) -> None:
        group = [asked for asked in group if not asked.taken]
        if not group:
            return
        for asked in group:
            asked.taken = True
            self._waiting.remove(asked)
        labels = ", ".join(asked.label for asked in group)
        fails = self._world.chance(self.database.faults.catalog_error)
        outcomes: list[tuple[Any, Exception | None]]
        if fails and self._world.chance(0.5):
            self._world.note("catalog", f"{self._process.name}: {labels} does not take effect")
            outcomes = [(None, None)] * len(group)
        else:
            outcomes = self.database.memory.transact_group([asked.unit for asked in group])
            self._world.note("catalog", f"{self._process.name}: {labels}{_told(outcomes)}")
            self._process.on_step()
        if fails:
            self._world.note("catalog", f"{self._process.name}: {labels} is answered with an error")
            unclear = CatalogUnavailable("the simulated catalog failed")
            outcomes = [(None, unclear)] * len(group)
        self._world.at(
            self._world.delay(READ_S), lambda: self._release(group, outcomes), self._process
        )

    def _release(self, group: list[_Asked], outcomes: list[tuple[Any, Exception | None]]) -> None:
        for asked, (answer, error) in zip(group, outcomes, strict=True):
            _resolve(asked.future, answer, error)

    def _process_died(self) -> None:
        """Of what was queued in the process, some may have taken effect at the last moment."""
        if not self.database.embedded:
            return
        waiting, self._waiting = self._waiting, []
        kept = self._world.random.randint(0, len(waiting))
        for asked in waiting[:kept]:
            self._waiting = [asked]
            self._transact([asked])
        self._waiting = []


def label_of(unit: Callable[..., object]) -> str:
    """Return the name of the function that a unit stands in, for the trace."""
    named = unit.func if isinstance(unit, partial) else unit
    return named.__qualname__.removesuffix(".<locals>.<lambda>").removesuffix(".<locals>.unit")


def _told(outcomes: list[tuple[Any, Exception | None]]) -> str:
    refused = [type(error).__name__ for _, error in outcomes if error is not None]
    return f" ({', '.join(refused)})" if refused else ""


def _resolve(future: "asyncio.Future[Any]", answer: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
