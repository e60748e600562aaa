"""Units that look for what the catalog's own rules forbid; they change nothing.

A unit has little time on PostgreSQL, however large the catalog: each looks at one page.
"""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Column, ColumnElement, Connection, and_, exists, or_, select, text, tuple_

from .tables import intents, metadata, objects, slots

_SLOT_KEY = ("session_id", "task_id", "direction", "miner")
BLOCKS = 256
"""What `read_blocks` reads of a table: 2 MiB, and what is stored apart from it."""

Key = tuple[str, ...]


class Look(Protocol):
    """Looks at the ``limit`` rows behind the key ``after``.

    Returns what is wrong with them, and the last one's key; None instead of that at the end.
    """

    def __call__(  # noqa: D102 - said above
        self, connection: Connection, after: Key | None, limit: int
    ) -> tuple[list[str], Key | None]: ...


def damage(connection: Connection) -> str | None:
    """Return the first thing that SQLite finds wrong with its file, if anything.

    PostgreSQL has no such look-up: there all rows are read, with `count_blocks` and `read_blocks`.
    """
    if connection.dialect.name != "sqlite":
        return None
    for pragma in ("integrity_check(1)", "foreign_key_check"):
        for row in connection.execute(text(f"PRAGMA {pragma}")):
            if row[0] != "ok":
                return " ".join(str(column) for column in row)
    return None


def count_blocks(connection: Connection) -> dict[str, int]:
    """Return of how many blocks each table is; none on SQLite, which `damage` looks through."""
    if connection.dialect.name == "sqlite":
        return {}
    query = text("SELECT pg_relation_size(:name) / current_setting('block_size')::int")
    return {
        table.name: int(connection.execute(query, {"name": table.name}).scalar_one())
        for table in metadata.sorted_tables
    }


def read_blocks(connection: Connection, table: str, first: int) -> int:
    """Read every row in the `BLOCKS` blocks from ``first`` on; return how many there are.

    That checks the pages' checksums, where the server has them. ``pg_amcheck`` looks at the indexes
    as well.

    Raises:
        SQLAlchemyError: the server could not read a row.

    """
    # The text of a whole row: what was stored apart from it is read, too.
    query = f'SELECT count(*), sum(length(one::text)) FROM "{metadata.tables[table].name}" AS one'  # noqa: S608
    query += " WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:end AS tid)"
    place = {"first": f"({first},0)", "end": f"({first + BLOCKS},0)"}
    return int(connection.execute(text(query), place).one()[0])


def slots_of_nothing(
    connection: Connection, after: Key | None, limit: int
) -> tuple[list[str], Key | None]:
    """Return the payload ids of slots that no object and no upload under way holds.

    Looks at ``limit`` slots behind the key ``after``; returns the last one's key, None at the end.
    """
    known = or_(
        *(exists().where(table.c.payload_id == slots.c.payload_id) for table in (objects, intents))
    )
    return _page(connection, slots.c.payload_id, _SLOT_KEY, ~known, after=after, limit=limit)


def objects_without_slot(
    connection: Connection, after: Key | None, limit: int
) -> tuple[list[str], Key | None]:
    """Return the ids of objects, erased ones too, whose slot another upload could take.

    Looks at ``limit`` objects, as `slots_of_nothing` does at slots.
    """
    own = exists().where(
        and_(
            slots.c.object_id == objects.c.object_id,
            slots.c.payload_id == objects.c.payload_id,
            *(slots.c[name] == objects.c[name] for name in _SLOT_KEY),
        )
    )
    return _page(connection, objects.c.object_id, ("object_id",), ~own, after=after, limit=limit)


def _page(
    connection: Connection,
    shown: Column[str],
    key: Sequence[str],
    wrong: ColumnElement[bool],
    *,
    after: Key | None,
    limit: int,
) -> tuple[list[str], Key | None]:
    columns = [shown.table.c[name] for name in key]
    query = select(shown.label("shown"), wrong.label("wrong"), *columns)
    query = query.order_by(*columns).limit(limit)
    if after is not None:
        query = query.where(tuple_(*columns) > tuple_(*after))
    rows = connection.execute(query).all()
    found = [row.shown for row in rows if row.wrong]
    return found, tuple(rows[-1][2:]) if len(rows) == limit else None
