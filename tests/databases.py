"""Which database the catalogs of a test are in. Nobody but the fixture `database` decides that."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage_gateway.catalog import Catalog, PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.clock import Clock, true_time
from storage_gateway.database_url import parse_database_url
from storage_gateway.parts import CATALOG_FILE
from tests.servers.postgres import PostgresServer

KINDS = ("sqlite", "postgresql")
ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True, scope="module")
"""For tests of what SQLite has not: these and no others, by day and by night."""


@dataclass(slots=True)
class Databases:
    """A catalog for each data folder: a file in it, or a database of the tests' own server."""

    kind: str | None = None
    server: PostgresServer | None = None
    template: str = ""
    made: dict[Path, str] = field(default_factory=dict)

    def url(self, data_dir: Path) -> str | None:
        """Return the URL of a folder's catalog, with the password; None when it is a file."""
        assert self.kind in KINDS, "asked before the fixture `database` has decided"
        if self.server is None:
            return None
        if data_dir not in self.made:
            self.made[data_dir] = self.server.new_database(self.template)
        return self.server.url(self.made[data_dir])

    def environment(self, data_dir: Path) -> dict[str, str]:
        """Return what tells a gateway where the catalog of the folder is."""
        url = self.url(data_dir)
        return {} if url is None else {"GATEWAY_CATALOG_URL": url}

    def is_unlocked(self, data_dir: Path) -> bool:
        """Tell whether nobody is within a transaction that keeps others from writing."""
        if self.server is not None:
            query = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            query += " AND state IN ('active', 'idle in transaction') AND backend_type LIKE 'cl%'"
            self.url(data_dir)
            return self.server.execute(query, self.made[data_dir]) == [(0,)]
        path = data_dir / CATALOG_FILE
        with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    def stored_bytes(self, data_dir: Path) -> list[bytes]:
        """Return what the files of the folder's catalog hold; not PostgreSQL's log of changes."""
        if self.server is None:
            return [file.read_bytes() for file in data_dir.glob(f"{CATALOG_FILE}*")]
        self.server.execute("CHECKPOINT")
        query = "SELECT oid FROM pg_database WHERE datname = current_database()"
        ((oid,),) = self.server.execute(query, self.made[data_dir])
        folder = self.server.folder / "data" / "base" / str(oid)
        return [file.read_bytes() for file in folder.iterdir()]

    def schemas(self, data_dir: Path) -> list[str]:
        """Return the schemas of stress runs in the folder's database; none where it is a file."""
        if self.server is None:
            return []
        query = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'stress%'"
        return [str(name) for (name,) in self.query(data_dir, query)]

    def query(self, data_dir: Path, statement: str) -> list[tuple[object, ...]]:
        """Run a statement in the folder's database, which must be there, as who may do anything."""
        if self.server is not None:
            return self.server.execute(statement, self.made[data_dir])
        path = data_dir / CATALOG_FILE
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def open(self, data_dir: Path, *, clock: Clock = true_time) -> Catalog:
        """Open the catalog of a folder, made if need be."""
        url = self.url(data_dir)
        if url is None:
            return SQLiteCatalog.open(data_dir / CATALOG_FILE, clock=clock)
        return PostgresCatalog.open(parse_database_url(url), clock=clock)


databases = Databases()
"""Of the test that is running."""
