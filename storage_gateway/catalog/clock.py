"""The database's clock: the only one that processes on several machines share.

A catalog may be opened with a clock of its own, a function of the database's time. It is for tests
of clocks that jump and for simulated time, and travels with the connection.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

from sqlalchemy import Connection, text

from .statements import Statement

Clock = Callable[[int], int]
"""From the database's time to the time that units see, both milliseconds since 1970 in UTC."""

_CLOCK = "storage_gateway.clock"
_NOW_MS = {
    "sqlite": Statement(text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")),
    # Not now(): that is when the transaction began, and it may have waited for a lock since.
    "postgresql": Statement(
        text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    ),
}


def true_time(database_ms: int) -> int:
    """Return the database's time as it is."""
    return database_ms


def attach_clock(info: MutableMapping[Any, Any], clock: Clock) -> None:
    """Have `now_ms` apply ``clock`` on the connection whose ``info`` this is."""
    info[_CLOCK] = clock


def now_ms(connection: Connection) -> int:
    """Return the time by the database's clock, milliseconds since 1970 in UTC."""
    found = int(_NOW_MS[connection.dialect.name].run(connection).value())
    clock: Clock = connection.info.get(_CLOCK, true_time)
    return clock(found)
