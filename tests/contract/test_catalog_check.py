"""Goal: whoever only looks at a catalog changes nothing of it, and sees all of it however large.

Method: catalogs of both kinds that are missing, empty, older and newer; damage laid on every row,
to be found in small pages; every block of PostgreSQL's tables counted.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, Table, func, select, text

from storage_gateway.catalog import Catalog, PostgresCatalog, SQLiteCatalog, consistency
from storage_gateway.catalog.consistency import (
    Key,
    Look,
    count_blocks,
    objects_without_slot,
    read_blocks,
    slots_of_nothing,
)
from storage_gateway.catalog.objects import list_objects
from storage_gateway.catalog.schema import schema_version
from storage_gateway.catalog.tables import SCHEMA_VERSION, metadata
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.parts import CATALOG_FILE
from tests.databases import databases

from .units import add_object, add_session, object_named

ROWS = 23
PAGE = 5

pytestmark = pytest.mark.both_databases


def open_as_it_is(data_dir: Path) -> Catalog:
    url = databases.url(data_dir)
    if url is None:
        return SQLiteCatalog.open(data_dir / CATALOG_FILE, as_it_is=True)
    return PostgresCatalog.open(parse_database_url(url), as_it_is=True)


def tables_of(data_dir: Path) -> list[str]:
    """Return the tables that another program sees; none where there is no file."""
    if databases.server is not None:
        query = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
        return sorted(
            str(row[0]) for row in databases.server.execute(query, databases.made[data_dir])
        )
    file = data_dir / CATALOG_FILE
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return sorted(str(row[0]) for row in found)


def nothing(data_dir: Path) -> None:
    if databases.server is not None:
        databases.made[data_dir] = databases.server.new_database()


def empty(data_dir: Path) -> None:
    nothing(data_dir)
    if databases.server is None:
        (data_dir / CATALOG_FILE).touch()


def of_version(version: int) -> Callable[[Path], None]:
    def make(data_dir: Path) -> None:
        catalog = databases.open(data_dir)
        change = f"UPDATE alembic_version SET version_num = '{version:04}'"  # noqa: S608
        if catalog.kind == "sqlite":
            change = f"PRAGMA user_version = {version}"
        catalog.run_blocking(lambda c: c.execute(text(change)).close())
        catalog.close()

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nothing, "holds no catalog; nothing was made"),
        (empty, "holds no catalog; nothing was made"),
        (of_version(SCHEMA_VERSION - 1), "start the gateway once, which migrates it"),
        (of_version(SCHEMA_VERSION + 1), "use the matching version of the program"),
    ],
)
def test_who_only_looks_makes_and_migrates_nothing(
    tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path)
    before = tables_of(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(CatalogUnavailable, match=says):
        open_as_it_is(tmp_path)

    assert before == tables_of(tmp_path)
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_catalog_of_this_program_is_opened_as_it_is(tmp_path: Path) -> None:
    databases.open(tmp_path).close()

    catalog = open_as_it_is(tmp_path)

    assert SCHEMA_VERSION == catalog.read_blocking(schema_version)
    catalog.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = databases.open(tmp_path)
    opened.run_blocking(_fill)
    yield opened
    opened.close()


def _fill(connection: Connection) -> None:
    """Commit objects, each in its slot, over three sessions."""
    for session in range(3):
        add_session(connection, str(session))
    random = Random(1)  # heads that do not shrink, and fill some blocks
    for i in range(ROWS):
        add_object(connection, i, str(i % 3), random.randbytes(1500))
    slots = "INSERT INTO slots (session_id, task_id, direction, miner, object_id, payload_id)"
    slots += " SELECT session_id, task_id, direction, miner, object_id, payload_id FROM objects"
    connection.execute(text(slots))


def all_pages(catalog: Catalog, look: Look) -> list[str]:
    found: list[str] = []
    after: Key | None = None
    while True:
        page, after = catalog.read_blocking(partial(look, after=after, limit=PAGE))
        assert len(page) <= PAGE
        found += page
        if after is None:
            return found


@pytest.mark.parametrize("look", [slots_of_nothing, objects_without_slot])
def test_a_healthy_catalog_has_no_findings(catalog: Catalog, look: Look) -> None:
    assert [] == all_pages(catalog, look)


@pytest.mark.parametrize(
    ("look", "break_all", "prefix"),
    [
        (slots_of_nothing, "UPDATE objects SET payload_id = 'x' || payload_id", "p"),
        (objects_without_slot, "UPDATE slots SET object_id = 'x' || substr(object_id, 2)", "o"),
    ],
)
def test_every_row_is_looked_at_once(
    catalog: Catalog, look: Look, break_all: str, prefix: str
) -> None:
    catalog.run_blocking(lambda c: c.execute(text(break_all)).close())

    named = {"p": "p{:02}".format, "o": object_named}[prefix]
    assert [named(number) for number in range(ROWS)] == sorted(all_pages(catalog, look))


def test_pages_of_manifests_hold_each_once_in_the_order_of_commits(catalog: Catalog) -> None:
    found: list[tuple[str, int]] = []
    after: tuple[str, int] | None = None
    while page := catalog.read_blocking(
        partial(list_objects, session_id=None, after=after, limit=PAGE)
    ):
        assert len(page) <= PAGE
        found += [(manifest.slot.session_id, manifest.sequence) for manifest in page]
        after = found[-1]

    assert sorted((str(i % 3), i) for i in range(ROWS)) == found


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_every_row_of_every_table_is_read(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consistency, "BLOCKS", 1)
    sizes = catalog.read_blocking(count_blocks)
    if catalog.kind == "sqlite":
        assert {} == sizes
        return
    assert sizes["objects"] > 1

    for table in metadata.sorted_tables:
        read = sum(
            catalog.read_blocking(partial(read_blocks, table=table.name, first=first))
            for first in range(sizes[table.name])
        )
        there = catalog.read_blocking(partial(_count, table=table))
        assert there == read, table.name
