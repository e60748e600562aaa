"""Goal: a catalog of any age comes to the tables of this program, with all that is in it; one that
is newer is refused and left as it is.

Method: Alembic compares migrated databases of both kinds with the tables that units use; a frozen
dump of a file from before there were migrations is opened; processes start at the same time.
"""

import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text

from storage_gateway.catalog import Catalog, PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.schema import revision_of, schema_version
from storage_gateway.catalog.tables import SCHEMA_VERSION, metadata
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.parts import CATALOG_FILE
from tests.databases import databases
from tests.requirements import ROOT
from tests.servers.postgres import PostgresServer

OLD = (ROOT / "tests" / "vectors" / "catalog-v1.sql").read_text()
REVISIONS = ROOT / "storage_gateway" / "catalog" / "migrations" / "versions"


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def test_there_is_one_file_for_each_version() -> None:
    files = sorted(path.stem for path in REVISIONS.glob("revision_*.py"))

    assert [f"revision_{revision_of(v)}" for v in range(1, SCHEMA_VERSION + 1)] == files


@pytest.mark.both_databases
def test_migrations_make_the_tables_that_units_use(catalog: Catalog) -> None:
    assert [] == catalog.run_blocking(differences)
    assert SCHEMA_VERSION == catalog.read_blocking(schema_version)


@pytest.mark.both_databases
def test_the_comparison_sees_a_column_and_an_index(catalog: Catalog) -> None:
    catalog.run_blocking(lambda c: c.execute(text("ALTER TABLE markers ADD COLUMN more TEXT")))
    catalog.run_blocking(lambda c: c.execute(text("DROP INDEX objects_by_session")))

    assert 2 == len(catalog.run_blocking(differences))


def queries() -> dict[str, str]:
    """Return by table what asks for all that there was before there were migrations."""
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript(OLD)
        columns = {
            table.name: [row[1] for row in old.execute(f"PRAGMA table_info({table.name})")]
            for table in metadata.sorted_tables
        }
    return {
        table: f"SELECT {', '.join(names)} FROM {table}"  # noqa: S608
        for table, names in columns.items()
        if names
    }


def rows_of(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the tables that there were before there were migrations."""
    return {name: sorted(connection.execute(query), key=str) for name, query in queries().items()}


def test_a_file_from_before_migrations_is_taken_over_with_every_row(tmp_path: Path) -> None:
    file = tmp_path / CATALOG_FILE
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD)
        before = rows_of(connection)
    assert all(before.values())

    for _ in range(2):
        opened = SQLiteCatalog.open(file)
        assert [] == opened.run_blocking(differences)
        opened.close()
        with closing(sqlite3.connect(file)) as connection:
            assert before == rows_of(connection)


@pytest.mark.both_databases
def test_a_catalog_of_the_first_version_moves_forward_with_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript(OLD)
        before = rows_of(old)
    if databases.server is not None:
        databases.made[tmp_path] = databases.server.new_database()

    def fill(connection: Connection) -> None:
        for name, rows in before.items():
            for row in rows:
                values = {f"v{i}": value for i, value in enumerate(row)}
                places = ", ".join(f":{place}" for place in values)
                connection.execute(text(f"INSERT INTO {name} VALUES ({places})"), values)  # noqa: S608

    def found(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
        return {
            name: sorted((tuple(row) for row in connection.execute(text(query))), key=str)
            for name, query in queries().items()
        }

    with monkeypatch.context() as patched:
        for module in ("schema", "postgres"):
            patched.setattr(f"storage_gateway.catalog.{module}.SCHEMA_VERSION", 1)
        first = databases.open(tmp_path)
        first.run_blocking(fill)
        kept = first.read_blocking(found)
        assert all(kept.values())
        assert 1 == first.read_blocking(schema_version)
        assert [] != first.run_blocking(differences)
        first.close()

    for _ in range(2):
        catalog = databases.open(tmp_path)
        assert SCHEMA_VERSION == catalog.read_blocking(schema_version)
        assert [] == catalog.run_blocking(differences)
        assert kept == catalog.read_blocking(found)
        catalog.close()


def test_a_newer_database_is_refused_and_left_as_it_is(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    url = parse_database_url(postgres.url(name))
    PostgresCatalog.open(url).close()
    newer = revision_of(SCHEMA_VERSION + 1)
    update = f"UPDATE alembic_version SET version_num = '{newer}'"  # noqa: S608
    postgres.execute(update, name)

    with pytest.raises(CatalogUnavailable, match=f"schema version {SCHEMA_VERSION + 1}"):
        PostgresCatalog.open(url)

    assert [(newer,)] == postgres.execute("SELECT version_num FROM alembic_version", name)


def test_a_database_of_something_else_is_refused_and_left_as_it_is(
    postgres: PostgresServer,
) -> None:
    name = postgres.new_database()
    postgres.execute("CREATE TABLE sessions (of_another text)", name)

    with pytest.raises(CatalogUnavailable, match=f'{name}: relation "sessions".*exists.*42P07'):
        PostgresCatalog.open(parse_database_url(postgres.url(name)))

    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert [("sessions",)] == postgres.execute(tables, name)


def test_tables_that_another_program_migrates_are_told_to_be_its_own(
    postgres: PostgresServer,
) -> None:
    name = postgres.new_database()
    postgres.execute("CREATE TABLE alembic_version AS SELECT 'ae1027a6acf' AS version_num", name)

    with pytest.raises(CatalogUnavailable, match=f"{name} holds the tables of another program"):
        PostgresCatalog.open(parse_database_url(postgres.url(name)))


def test_a_role_that_may_not_make_tables_is_told_what_it_lacks(postgres: PostgresServer) -> None:
    """As every role since PostgreSQL 15 that does not own the database."""
    name, password = postgres.new_database(), secrets.token_hex(8)
    role = f"{name}_role"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    url = parse_database_url(f"postgresql://{role}:{password}@127.0.0.1:{postgres.port}/{name}")

    with pytest.raises(CatalogUnavailable, match=f"{name}: permission denied.*CREATE") as refused:
        PostgresCatalog.open(url)

    assert password not in str(refused.value)


def test_processes_that_start_together_make_the_tables_once(postgres: PostgresServer) -> None:
    url = parse_database_url(postgres.url(postgres.new_database()))

    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: PostgresCatalog.open(url), range(4)))

    assert [] == opened[0].run_blocking(differences)
    for catalog in opened:
        catalog.close()


def test_no_statistics_are_kept_of_heads(postgres: PostgresServer) -> None:
    """ANALYZE copies samples of columns to a place that erasing does not reach."""
    name = postgres.new_database()
    PostgresCatalog.open(parse_database_url(postgres.url(name))).close()
    insert = "INSERT INTO objects SELECT i, '101', i, 'input', '', 'committed', 1, i, 'needle',"
    insert += " 'cid', 1, 1, 1, 'classic', '[]', i::text::bytea, i, 0, NULL"
    insert += " FROM generate_series(1, 50) AS i"
    postgres.execute("INSERT INTO sessions VALUES ('101', 'router', 'classic', 0)", name)
    postgres.execute(insert, name)
    postgres.execute("ANALYZE objects", name)
    kept = postgres.execute("SELECT attname::text FROM pg_stats WHERE tablename = 'objects'", name)

    assert ("payload_id",) in kept
    assert ("head",) not in kept


@pytest.mark.both_databases
def test_text_is_sorted_by_its_bytes(catalog: Catalog) -> None:
    names = ["a", "B", "ä", "_", "a.b", "ab", ".", "0"]
    table = metadata.tables["markers"]
    catalog.run_blocking(
        lambda c: c.execute(table.insert(), [{"backend": n, "created_ms": 0} for n in names])
    )
    found = catalog.read_blocking(
        lambda c: list(c.execute(select(table.c.backend).order_by(table.c.backend)).scalars())
    )

    assert sorted(names, key=str.encode) == found
