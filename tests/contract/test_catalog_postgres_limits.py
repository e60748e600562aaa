"""Goal: what PostgreSQL has no room for is told by its name, takes no effect, and is no more than a
wait where it passes.

Method: a real server that answers a statement as one with a full disk does; a role that may have
one connection, which a unit keeps.
"""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from storage_gateway.catalog import PostgresCatalog
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable, StorageFull
from tests.servers.postgres import PostgresServer

from .units import WITHIN_S, Held, add, held, names

TOO_MANY = "too many connections for role"


@pytest.fixture
def name(postgres: PostgresServer, empty_catalog: str) -> str:
    return postgres.new_database(empty_catalog)


@pytest.fixture
def role(postgres: PostgresServer, name: str) -> Iterator[str]:
    """A role that may do all that a catalog needs, on one connection."""
    made = f"limited_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE ROLE {made} LOGIN CONNECTION LIMIT 1 PASSWORD '{postgres.password}'")
    postgres.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {made}", name)
    yield made
    postgres.drop(name)
    postgres.execute(f"DROP ROLE {made}")


@pytest.fixture
def catalog(postgres: PostgresServer, name: str, role: str) -> Iterator[PostgresCatalog]:
    url = postgres.url(name).replace("//postgres:", f"//{role}:")
    opened = PostgresCatalog.open(parse_database_url(url))
    yield opened
    opened.close()


def test_a_full_disk_is_told_and_nothing_took_effect(
    postgres: PostgresServer, name: str, catalog: PostgresCatalog
) -> None:
    full = "RAISE EXCEPTION ''for this test'' USING ERRCODE = ''53100''"
    for statement in (
        f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {full}; END'",
        "CREATE TRIGGER full_disk AFTER INSERT ON markers EXECUTE FUNCTION full_disk()",
    ):
        postgres.execute(statement, name)

    with pytest.raises(StorageFull):
        catalog.run_blocking(partial(add, name="a"))

    postgres.execute("DROP TRIGGER full_disk ON markers", name)
    assert [] == catalog.run_blocking(names)
    assert "b" == catalog.run_blocking(partial(add, name="b"))


def test_where_no_connection_is_left_a_unit_waits_for_one(
    postgres: PostgresServer, catalog: PostgresCatalog
) -> None:
    first, before = Held("first"), postgres.log.count(TOO_MANY)
    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(catalog.run_blocking, first)
        assert first.entered.wait(WITHIN_S)
        waiting = threads.submit(catalog.run_blocking, partial(add, name="second"))
        until = time.monotonic() + WITHIN_S
        while postgres.log.count(TOO_MANY) == before:
            assert time.monotonic() < until
            time.sleep(0.001)
        first.release.set()

        assert ["first", "second"] == [holding.result(WITHIN_S), waiting.result(WITHIN_S)]
    assert ["first", "second"] == catalog.run_blocking(names)


def test_where_no_connection_comes_free_a_unit_is_refused(catalog: PostgresCatalog) -> None:
    with (
        held(catalog, "first"),
        pytest.raises(CatalogUnavailable, match="did not answer"),
    ):
        catalog.run_blocking(partial(add, name="second"))

    assert ["first"] == catalog.run_blocking(names)
