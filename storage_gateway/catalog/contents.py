"""All that the tables of a catalog hold, as bytes: to be searched for what must not be there."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Connection, Table, select, tuple_

from .contract import Catalog
from .tables import metadata

PAGE = 200

Key = tuple[Any, ...]


def read_contents(catalog: Catalog) -> Iterator[tuple[str, bytes]]:
    """Yield the values of each table's rows, joined, with the table's name; a page at a time.

    Blocks.

    Raises:
        CatalogUnavailable: the database cannot be read.

    """
    for table in metadata.sorted_tables:
        content, after = catalog.read_blocking(partial(_page, table=table, after=None))
        yield table.name, content
        while after is not None:
            content, after = catalog.read_blocking(partial(_page, table=table, after=after))
            yield table.name, content


def _page(connection: Connection, table: Table, after: Key | None) -> tuple[bytes, Key | None]:
    key = list(table.primary_key.columns)
    query = select(table).order_by(*key).limit(PAGE)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    rows = connection.execute(query).mappings().all()
    content = b"\n".join(_bytes_of(value) for row in rows for value in row.values())
    last = tuple(rows[-1][column.name] for column in key) if len(rows) == PAGE else None
    return content, last


def _bytes_of(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()
