"""Goal: a run's catalog in the deployment's database shares nothing with the deployment's, and is
there only while the run's row says so. Method: both catalogs on a real server, each held up by
locks that a mistake would run into; connections whose search path is not what was asked for.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, select, text

from storage_gateway.catalog import PostgresCatalog
from storage_gateway.catalog.consistency import count_blocks
from storage_gateway.catalog.postgres import _migrate
from storage_gateway.catalog.postgres_link import connect
from storage_gateway.catalog.postgres_schemas import (
    drop_schema_of_run,
    make_schema_of_run,
    may_make_schemas,
    schema_of_run,
)
from storage_gateway.catalog.schema import schema_version
from storage_gateway.catalog.stress_runs import RunState, begin_run, claim_run, end_run, find_run
from storage_gateway.catalog.tables import SCHEMA_VERSION, markers, metadata
from storage_gateway.database_url import DatabaseURL, parse_database_url
from storage_gateway.errors import CatalogUnavailable
from tests.gateway import DEADLINE_S
from tests.servers.postgres import PostgresServer

RUN, OWNER, CLAIMER = "r" * 32, "o" * 32, "c" * 32
SCHEMA = schema_of_run(RUN)


@pytest.fixture
def name(postgres: PostgresServer, empty_catalog: str) -> str:
    return postgres.new_database(empty_catalog)


@pytest.fixture
def url(postgres: PostgresServer, name: str) -> DatabaseURL:
    return parse_database_url(postgres.url(name))


@pytest.fixture
def serving(url: DatabaseURL) -> Iterator[PostgresCatalog]:
    opened = PostgresCatalog.open(url)
    begin = partial(begin_run, run_id=RUN, case_name="x", seed=1, parameters={}, instance_id=OWNER)
    assert opened.run_blocking(begin) is None
    yield opened
    opened.close()


@pytest.fixture
def made(serving: PostgresCatalog) -> None:
    assert serving.run_blocking(partial(make_schema_of_run, run_id=RUN, instance_id=OWNER))


@pytest.fixture
def of_run(made: None, url: DatabaseURL) -> Iterator[PostgresCatalog]:
    opened = PostgresCatalog.open(url.with_schema(SCHEMA))
    yield opened
    opened.close()


def add(connection: Connection, backend: str) -> None:
    connection.execute(markers.insert(), {"backend": backend, "created_ms": 0})


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(markers.c.backend)).scalars())


def tables_of(postgres: PostgresServer, name: str, schema: str) -> dict[object, object]:
    """Return the file of each table of a schema: a table that is rewritten gets another one."""
    query = "SELECT relname, relfilenode FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    query += f" WHERE relkind = 'r' AND nspname = '{schema}'"
    return dict(postgres.execute(query, name))  # type: ignore[arg-type]  # two columns


def test_it_has_all_tables_and_none_of_the_rows(
    serving: PostgresCatalog, of_run: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    serving.run_blocking(partial(add, backend="deployment"))
    of_run.run_blocking(partial(add, backend="run"))

    assert ["deployment"] == serving.read_blocking(names)
    assert ["run"] == of_run.read_blocking(names)
    assert SCHEMA_VERSION == of_run.read_blocking(schema_version)
    assert set(metadata.tables) <= set(tables_of(postgres, name, SCHEMA))
    assert tables_of(postgres, name, SCHEMA).keys() == tables_of(postgres, name, "public").keys()


def test_a_search_path_of_the_deployment_does_not_win(
    of_run: PostgresCatalog, url: DatabaseURL
) -> None:
    own = parse_database_url(f"{url.expose_url()}?options=-csearch_path%3Dpublic")
    catalog = PostgresCatalog.open(own.with_schema(SCHEMA))
    try:
        catalog.run_blocking(partial(add, backend="run"))
    finally:
        catalog.close()

    assert ["run"] == of_run.read_blocking(names)


def test_its_pages_are_cleaned_and_no_others(
    serving: PostgresCatalog, of_run: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    before = tables_of(postgres, name, "public"), tables_of(postgres, name, SCHEMA)

    def reading(connection: Connection) -> bool:
        connection.execute(text("LOCK TABLE objects IN ACCESS SHARE MODE"))
        return of_run.clean_pages()

    assert serving.read_blocking(reading)
    assert before[0] == tables_of(postgres, name, "public")
    assert before[1]["objects"] != tables_of(postgres, name, SCHEMA)["objects"]


def test_a_check_reads_its_tables_and_no_others(
    serving: PostgresCatalog, of_run: PostgresCatalog
) -> None:
    serving.run_blocking(partial(add, backend="deployment"))

    assert 0 == of_run.read_blocking(count_blocks)["markers"]
    assert 1 == serving.read_blocking(count_blocks)["markers"]


def test_making_it_does_not_wait_for_a_migration_of_the_deployment(
    made: None, url: DatabaseURL
) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(url, writing=True))
    with ThreadPoolExecutor(1) as other:
        with engine.connect() as migrating:
            migrating.execute(text("SET idle_in_transaction_session_timeout = 0"))
            _migrate(migrating, "the deployment's")
            opening = other.submit(PostgresCatalog.open, url.with_schema(SCHEMA))
            wait([opening], DEADLINE_S)
            waited = not opening.done()
        opening.result().close()
    engine.dispose()

    assert not waited


def test_without_its_schema_it_is_refused(serving: PostgresCatalog, url: DatabaseURL) -> None:
    with pytest.raises(CatalogUnavailable, match=f"not in the schema {SCHEMA}") as caught:
        PostgresCatalog.open(url.with_schema(SCHEMA))

    assert str(url.expose()["password"]) not in str(caught.value)


def test_dropped_under_its_feet_it_falls_back_on_no_other_tables(
    serving: PostgresCatalog, of_run: PostgresCatalog
) -> None:
    serving.run_blocking(partial(drop_schema_of_run, run_id=RUN))

    with pytest.raises(CatalogUnavailable):
        of_run.run_blocking(partial(add, backend="run"))
    assert [] == serving.read_blocking(names)


def test_who_lost_the_run_or_has_ended_it_makes_no_schema(
    serving: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    make = partial(make_schema_of_run, run_id=RUN)
    run = serving.read_blocking(partial(find_run, run_id=RUN))
    assert run is not None
    assert serving.run_blocking(partial(claim_run, run=run, claimer=CLAIMER))

    assert not serving.run_blocking(partial(make, instance_id=OWNER))
    end = partial(end_run, run_id=RUN, instance_id=CLAIMER, state=RunState.STOPPED, report={})
    assert serving.run_blocking(end)
    assert not serving.run_blocking(partial(make, instance_id=CLAIMER))
    assert {} == tables_of(postgres, name, SCHEMA)


def test_dropping_waits_for_who_is_about_to_make_it(
    serving: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    """Else it would be there when nothing says so any more."""
    inside, go = threading.Event(), threading.Event()

    def slowly(connection: Connection) -> bool:
        made = make_schema_of_run(connection, RUN, OWNER)
        inside.set()
        return made and go.wait(DEADLINE_S)

    drop = partial(drop_schema_of_run, run_id=RUN)
    threads = [
        threading.Thread(target=serving.run_blocking, args=[slowly]),
        threading.Thread(target=serving.run_blocking, args=[drop]),
    ]
    threads[0].start()
    assert inside.wait(DEADLINE_S)
    threads[1].start()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    until = time.monotonic() + DEADLINE_S
    while postgres.execute(waiting, name) == [(0,)]:
        assert time.monotonic() < until
        assert threads[1].is_alive(), "it did not wait"
    go.set()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert (SCHEMA,) not in postgres.execute("SELECT nspname FROM pg_namespace", name)


def test_it_is_dropped_with_all_that_is_in_it_and_again(
    serving: PostgresCatalog, of_run: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    of_run.run_blocking(partial(add, backend="run"))
    for _ in range(2):
        serving.run_blocking(partial(drop_schema_of_run, run_id=RUN))

    assert {} == tables_of(postgres, name, SCHEMA)
    assert set(metadata.tables) <= set(tables_of(postgres, name, "public"))


def test_the_right_to_make_schemas_is_told(
    serving: PostgresCatalog, postgres: PostgresServer, name: str
) -> None:
    assert serving.read_blocking(may_make_schemas)
    with psycopg.connect(postgres.url(name)) as connection:
        connection.execute(f'CREATE ROLE "{name}"'.encode())
        connection.execute(f'SET ROLE "{name}"'.encode())
        query = "SELECT has_database_privilege(current_database(), 'CREATE')"
        assert (False,) == connection.execute(query.encode()).fetchone()
        connection.rollback()
