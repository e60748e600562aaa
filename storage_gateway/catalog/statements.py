"""Small helpers that units share. Each works alike on every database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False when a unique index already holds one like it. Never read-then-write."""
    try:
        with connection.begin_nested():
            connection.execute(table.insert(), dict(values))
    except IntegrityError:
        return False
    return True


def key_of(miner: str | None) -> str:
    """Return how a miner, or none, stands in a key."""
    return miner or ""


def miner_of(key: str) -> str | None:
    """Return the miner that a key column stands for."""
    return key or None
