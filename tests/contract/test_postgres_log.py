"""Goal: what PostgreSQL's log of changes keeps of an erased head, and for how long, is as
docs/retention.md says, and the catalog tells what keeps it.

Method: real servers of this test's own, with the settings that are told apart; a head is written,
dropped, its pages are cleaned, and each file of the server is searched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from storage_gateway.catalog import PostgresCatalog, postgres_pages
from storage_gateway.catalog.tables import objects
from storage_gateway.database_url import parse_database_url
from tests.servers.postgres import SUPERUSER, PostgresServer, postgres_server

from .units import add_object, add_session

HEAD = bytes(range(256)) * 2
KEEPS_NO_LOG = {"wal_recycle": "off", "wal_keep_size": "0"}
ROLE = "gateway"


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pages, "SHARE", 0)


@pytest.fixture(scope="module")
def tidy() -> Iterator[PostgresServer]:
    """A server as docs/retention.md asks for."""
    with postgres_server(**KEEPS_NO_LOG) as server:
        yield server


@contextmanager
def catalog_of(server: PostgresServer, *, role: str = SUPERUSER) -> Iterator[PostgresCatalog]:
    name = server.new_database()
    server.execute(f'ALTER DATABASE "{name}" OWNER TO {role}')
    url = server.url(name).replace(f"//{SUPERUSER}:", f"//{role}:")
    catalog = PostgresCatalog.open(parse_database_url(url))
    try:
        yield catalog
    finally:
        catalog.close()
        server.drop(name)


def found(server: PostgresServer) -> set[str]:
    """Return the folders of the server that hold a part of the head, at the least."""
    pieces = [HEAD[at : at + 24] for at in range(0, 256, 24)]
    data = server.folder / "data"
    return {
        path.relative_to(data).parts[0]
        for path in data.rglob("*")
        if path.is_file() and _holds(path, pieces)
    }


def _holds(path: Path, pieces: list[bytes]) -> bool:
    content = path.read_bytes()
    return any(piece in content for piece in pieces)


def lay(server: PostgresServer, catalog: PostgresCatalog) -> None:
    """Write a head, and drop it; it is in the files by then."""
    catalog.run_blocking(partial(add_session, session_id="0"))
    catalog.run_blocking(partial(add_object, number=1, session_id="0", head=HEAD))
    server.execute("CHECKPOINT")
    assert {"base", "pg_wal"} == found(server)
    catalog.run_blocking(lambda c: c.execute(update(objects).values(head=None)).rowcount)


def test_with_the_settings_of_the_page_the_log_has_nothing(tidy: PostgresServer) -> None:
    with catalog_of(tidy) as catalog:
        lay(tidy, catalog)
        assert catalog.clean_pages()
        assert set() == found(tidy)
        assert frozenset() == catalog.log_kept_by


def test_by_default_files_of_the_log_are_used_again_with_what_is_in_them() -> None:
    with postgres_server() as server, catalog_of(server) as catalog:
        lay(server, catalog)
        assert catalog.clean_pages()
        assert {"pg_wal"} == found(server)
        assert {"wal_recycle"} == catalog.log_kept_by


def test_a_slot_keeps_it(tidy: PostgresServer) -> None:
    tidy.execute("SELECT pg_create_physical_replication_slot('replica', true)")
    try:
        with catalog_of(tidy) as catalog:
            lay(tidy, catalog)
            assert catalog.clean_pages()
            assert {"pg_wal"} == found(tidy)
            assert {"replication_slots"} == catalog.log_kept_by
    finally:
        tidy.execute("SELECT pg_drop_replication_slot('replica')")


def test_a_role_without_the_rights_leaves_it_to_the_servers_own_times(
    tidy: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    tidy.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{tidy.password}'")
    with catalog_of(tidy, role=ROLE) as catalog:
        lay(tidy, catalog)
        assert catalog.clean_pages()
        assert {"pg_wal"} == found(tidy)
        assert {"no_switch", "no_checkpoint"} == catalog.log_kept_by
        assert catalog.clean_pages()
        assert ["the catalog's server keeps its log"] == caplog.messages  # once

        if tidy.execute("SHOW server_version_num") < [("150000",)]:
            pytest.skip("before PostgreSQL 15 only a superuser may CHECKPOINT")
        tidy.execute(f"GRANT pg_checkpoint TO {ROLE}")
        grant = f"GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {ROLE}"
        tidy.execute(grant, str(_database(tidy)))
        assert catalog.clean_pages()
        assert set() == found(tidy)
        assert frozenset() == catalog.log_kept_by


def _database(server: PostgresServer) -> object:
    query = "SELECT datname FROM pg_database JOIN pg_roles r ON r.oid = datdba"
    ((name,),) = server.execute(f"{query} WHERE rolname = '{ROLE}'")
    return name
