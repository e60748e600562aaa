"""Moving a catalog from SQLite to PostgreSQL: all tables in one transaction on either side.

The source is locked against writers from the first look to its last word, and says at the end that
it was copied: a gateway that is started on it by mistake is refused (`schema.prepare_schema`), and
one that has it open finds none of its tables.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from .clock import now_ms
from .contract import Catalog
from .postgres import PostgresCatalog
from .schema import COPIED_VERSION
from .tables import instances, metadata

BATCH_ROWS = 500
COPY_S_MAX = 24 * 3600.0


class CopyRefused(Exception):
    """The catalog cannot be copied as things are; nothing was changed."""


def count_rows(source: Catalog) -> int:
    """Return how many rows there are to copy, for a progress bar."""
    return source.read_blocking(lambda c: sum(_count(c, table) for table in metadata.sorted_tables))


def copy_catalog(
    source: Catalog, target: PostgresCatalog, on_rows: Callable[[int], None]
) -> dict[str, int]:
    """Copy everything, compare what arrived by digest, commit; return the rows of each table.

    ``on_rows`` is told of rows as they are copied.

    Raises:
        CopyRefused: a gateway is running on the source, the target is not empty, or a table did not
            arrive as it is; the target is as it was, and so is the source.
        CatalogUnavailable: one of them cannot be used; when the target's COMMIT was under way the
            target may hold the copy, and the source is still the one in use.

    """

    def locked(old: Connection) -> dict[str, int]:
        refuse_living(old)
        copied = target.run_long(lambda new: _copy(old, new, on_rows), within_s=COPY_S_MAX)
        old.execute(text(f"PRAGMA user_version = {COPIED_VERSION}"))
        # Who has the file open already, paused or just starting, does not look at that any more.
        for table in metadata.sorted_tables:
            old.execute(text(f"ALTER TABLE {table.name} RENAME TO {table.name}_copied"))
        return copied

    return source.run_blocking(locked)


def refuse_living(old: Connection) -> None:
    """Raise CopyRefused while a gateway process holds a lease."""
    living = select(func.count()).where(instances.c.lease_until_ms > now_ms(old))
    if count := old.execute(living.select_from(instances)).scalar_one():
        raise CopyRefused(
            f"{count} gateway process(es) hold a lease on the catalog: stop them, or wait until the"
            " leases of those that died have run out"
        )


def _copy(old: Connection, new: Connection, on_rows: Callable[[int], None]) -> dict[str, int]:
    tables = metadata.sorted_tables
    if filled := [table.name for table in tables if _count(new, table)]:
        raise CopyRefused(f"the target is not empty: it has rows in {', '.join(filled)}")
    copied: dict[str, int] = {}
    for table in tables:
        sent = hashlib.sha256()
        copied[table.name] = 0
        for batch in _batches(old, table):
            new.execute(table.insert(), batch)
            _digest(sent, batch)
            copied[table.name] += len(batch)
            on_rows(len(batch))
        arrived = hashlib.sha256()
        for batch in _batches(new, table):
            _digest(arrived, batch)
        if (sent.digest(), copied[table.name]) != (arrived.digest(), _count(new, table)):
            raise CopyRefused(f"the table {table.name} did not arrive as it was sent")
    return copied


def _batches(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in the order of their keys, which is that of bytes on both databases."""
    query = select(table).order_by(*table.primary_key.columns)
    with connection.execute(query, execution_options={"yield_per": BATCH_ROWS}) as result:
        for rows in result.mappings().partitions():
            yield [dict(row) for row in rows]


def _digest(digest: "hashlib._Hash", batch: list[dict[str, Any]]) -> None:
    for row in batch:
        plain = {k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()}
        digest.update(json.dumps(plain, sort_keys=True).encode() + b"\n")


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
