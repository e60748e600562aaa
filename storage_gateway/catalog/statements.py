"""Small helpers that units share. Each works alike on every database."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(
    connection: Connection, table: Table, values: Mapping[str, Any], *, key: str | None = None
) -> bool:
    """Insert a row; False when a unique index already holds one like it. Never read-then-write.

    While another transaction is about to insert such a row, PostgreSQL waits for its end. With
    ``key`` only the unique index on that column counts; any other that is broken is an error.
    """
    statement = _insert_once(connection.dialect.name, table, key)
    return connection.execute(statement, dict(values)).rowcount == 1


@cache  # building a statement costs more than running it
def _insert_once(dialect: str, table: Table, key: str | None) -> Insert:
    dialected = postgresql.insert if dialect == "postgresql" else sqlite.insert
    columns = None if key is None else [key]
    statement = dialected(table).on_conflict_do_nothing(index_elements=columns)
    # Else SQLAlchemy closes the cursor, which then knows no count any more.
    return statement.execution_options(preserve_rowcount=True)


def key_of(miner: str | None) -> str:
    """Return how a miner, or none, stands in a key."""
    return miner or ""


def miner_of(key: str) -> str | None:
    """Return the miner that a key column stands for."""
    return key or None
