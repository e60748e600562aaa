"""Statements that are built and compiled once, and small helpers that units share.

Each works alike on every database. On SQLite a statement goes past SQLAlchemy's execution, which
takes twenty times as long there as the statement itself (decision 0016).
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Dialect, Executable, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

Process = Callable[[Any], Any]


@dataclass(slots=True)
class Found:
    """What a statement answered: rows, whose columns are attributes, or how many it changed."""

    rows: Sequence[Any]
    changed: int

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows."""
        return iter(self.rows)

    def first(self) -> Any:  # noqa: ANN401 - columns are of many types
        """Return the first row, or None."""
        return self.rows[0] if self.rows else None

    def value(self) -> Any:  # noqa: ANN401
        """Return the first column of the first row, or None when there is no row."""
        return self.rows[0][0] if self.rows else None


class Statement:
    """A statement, to be made once, at a module's top level, and run with parameters."""

    def __init__(self, element: Executable) -> None:
        """``element`` may hold no list that is as long as a parameter's value (``IN``)."""
        self._element = element
        # By the names of the parameters: an INSERT has the columns that it is given.
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, connection: Connection, parameters: Mapping[str, Any] | None = None) -> Found:
        """Run it within the transaction of ``connection``.

        Raises:
            DBAPIError: the database refused it.

        """
        given = parameters or {}
        if connection.dialect.name != "sqlite":
            result = connection.execute(self._element, dict(given))
            rows = result.all() if result.returns_rows else ()
            return Found(rows, result.rowcount)
        names = tuple(given)
        compiled = self._compiled.get(names)
        if compiled is None:
            compiled = _compile(self._element, connection.dialect, names)
            self._compiled[names] = compiled
        return compiled.run(connection, given)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in SQLite's own words."""

    sql: str
    binds: tuple[tuple[str, Any, Process | None], ...]
    """Of each place: the parameter's name, its value when none is given, what the driver gets."""
    make_row: Callable[[Sequence[Any]], Any]

    def run(self, connection: Connection, given: Mapping[str, Any]) -> Found:
        values = []
        for name, default, process in self.binds:
            value = given.get(name, default)
            values.append(value if process is None else process(value))
        raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        try:
            cursor = raw.execute(self.sql, values)
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            # What SQLAlchemy itself would raise, without the values: they may be heads and names.
            raise DBAPIError.instance(
                self.sql, None, error, sqlite3.Error, hide_parameters=True
            ) from error
        return Found([self.make_row(row) for row in rows] if rows else rows, cursor.rowcount)


def _compile(element: Executable, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    compiled = cast(
        "SQLCompiler", cast("Any", element).compile(dialect=dialect, column_keys=list(names))
    )
    if compiled.post_compile_params:
        raise TypeError("a list in a statement that is compiled once")
    known = compiled.params
    missing = {name for name in names if name not in known}
    if missing:
        raise TypeError(f"no parameters of the statement: {sorted(missing)}")
    binds = tuple(
        (name, known[name], _impl(compiled.binds[name].type, dialect).bind_processor(dialect))
        for name in compiled.positiontup or ()
    )
    columns = list(getattr(element, "exported_columns", ()))
    return _Compiled(str(compiled), binds, _row_maker(columns, dialect))


def _row_maker(columns: Sequence[Any], dialect: Dialect) -> Callable[[Sequence[Any]], Any]:
    if not columns:
        return tuple
    row = namedtuple("Row", [str(column.name) for column in columns])  # type: ignore[misc]  # noqa: PYI024 - known at run time
    processes = [_impl(column.type, dialect).result_processor(dialect, None) for column in columns]
    if not any(processes):
        return row._make

    def make(values: Sequence[Any]) -> Any:  # noqa: ANN401
        return row._make(
            value if process is None else process(value)
            for value, process in zip(values, processes, strict=True)
        )

    return make


def _impl(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind.dialect_impl(dialect)


def insert_once(
    connection: Connection, table: Table, values: Mapping[str, Any], *, key: str | None = None
) -> bool:
    """Insert a row; False when a unique index already holds one like it. Never read-then-write.

    While another transaction is about to insert such a row, PostgreSQL waits for its end. With
    ``key`` only the unique index on that column counts; any other that is broken is an error.
    """
    return _insert_once(connection.dialect.name, table, key).run(connection, values).changed == 1


@cache  # building a statement costs more than running it
def _insert_once(dialect: str, table: Table, key: str | None) -> Statement:
    dialected: Callable[[Table], Any] = (
        postgresql.insert if dialect == "postgresql" else sqlite.insert
    )
    columns = None if key is None else [key]
    statement: Insert = dialected(table).on_conflict_do_nothing(index_elements=columns)
    # Else SQLAlchemy closes the cursor, which then knows no count any more.
    return Statement(statement.execution_options(preserve_rowcount=True))


def key_of(miner: str | None) -> str:
    """Return how a miner, or none, stands in a key."""
    return miner or ""


def miner_of(key: str) -> str | None:
    """Return the miner that a key column stands for."""
    return key or None
