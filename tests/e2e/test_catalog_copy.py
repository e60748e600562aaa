"""Goal: a deployment moves from SQLite to PostgreSQL with all that it has, and can do all it could.

Method: a gateway with sessions, objects, an erased one and a large one; `catalog copy`; a gateway
on the copy, which reads, erases and is checked; every refusal, after which nothing has changed.
"""

import asyncio
import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage_gateway.catalog import PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.copying import BATCH_ROWS, copy_catalog, count_rows
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.sessions import register_router, set_operator_token
from storage_gateway.catalog.tables import markers
from storage_gateway.catalog.work import find_deployment, load_deployment, start_instance
from storage_gateway.client import Client, ClientError
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.parts import CATALOG_FILE, COPIED_FILE
from tests.commands import command, command_beside
from tests.databases import databases
from tests.gateway import gateway_process, open_session
from tests.servers.postgres import PostgresServer

BODIES = {"1": b"", "2": b"content" * 1000, "3": bytes(9_000_000), "4": b"erased before"}


async def read(client: Client, urn: str) -> bytes:
    target = io.BytesIO()
    await client.download(urn, target, plaintext=True, on_bytes=lambda _count: None)
    return target.getvalue()


@pytest.fixture
def password_file(tmp_path: Path, postgres: PostgresServer) -> Path:
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text(f"{postgres.password}\n")
    return file


async def made_deployment(data_dir: Path) -> tuple[str, dict[str, str]]:
    """Return a user's token and the URN of each body."""
    async with gateway_process(data_dir) as gateway:
        session = await open_session(gateway, "101")
        async with Client(gateway.url, session.user_token) as client:
            urns = {
                task: str((await client.upload("101", task, "input", io.BytesIO(body)))["urn"])
                for task, body in BODIES.items()
            }
            await client.erase(urns["4"])
    return session.user_token, urns


async def test_a_deployment_moves_with_all_it_has(
    tmp_path: Path, postgres: PostgresServer, empty_catalog: str, password_file: Path
) -> None:
    data_dir = tmp_path / "data"
    token, urns = await made_deployment(data_dir)
    name = postgres.new_database()
    url = postgres.url(name, password=False)
    arguments = ("catalog", "copy", "--data-dir", data_dir, "--to", url)

    done = await command_beside(*arguments, "--password-file", password_file)

    assert (0, "") == (done.status, done.err)
    assert postgres.password.encode() not in done.out
    assert (False, True) == ((data_dir / CATALOG_FILE).exists(), (data_dir / COPIED_FILE).exists())
    databases.server = postgres
    databases.made[data_dir] = name
    async with gateway_process(data_dir) as gateway, Client(gateway.url, token) as client:
        for task in "123":
            assert BODIES[task] == await read(client, urns[task])
        with pytest.raises(ClientError) as erased:
            await read(client, urns["4"])
        assert "erased" == erased.value.code
        await client.erase(urns["2"])
        with pytest.raises(ClientError) as erased:
            await read(client, urns["2"])
        assert "erased" == erased.value.code
        again = await client.upload("101", "5", "input", io.BytesIO(b"new"))
        assert b"new" == await read(client, again["urn"])
    checked = await command_beside("check", "--data-dir", data_dir)
    assert 0 == checked.status, checked
    assert b"3 objects" in checked.out
    assert b"2 erased" in checked.out

    databases.server = None
    for place in (data_dir / CATALOG_FILE, data_dir / COPIED_FILE):
        (data_dir / COPIED_FILE).rename(place) if not place.exists() else None
        refused = await asyncio.to_thread(command, "serve", "--data-dir", data_dir)
        assert 1 == refused.status
        assert "copied to PostgreSQL" in refused.err
        assert "catalog_url" in refused.err
        if place.name == CATALOG_FILE:
            place.rename(data_dir / COPIED_FILE)


async def test_what_cannot_be_copied_is_left_as_it_is(
    tmp_path: Path, postgres: PostgresServer, password_file: Path
) -> None:
    data_dir = tmp_path / "data"
    name = postgres.new_database()
    arguments = ("catalog", "copy", "--data-dir", data_dir, "--password-file", password_file)
    to = ("--to", postgres.url(name, password=False))

    async with gateway_process(data_dir):
        running = await command_beside(*arguments, *to)
    assert 1 == running.status
    assert "1 gateway process(es) hold a lease" in running.err

    PostgresCatalog.open(parse_database_url(postgres.url(name))).close()
    postgres.execute("INSERT INTO markers VALUES ('other', 0)", name)
    filled = await command_beside(*arguments, *to)
    assert 1 == filled.status
    assert "not empty: it has rows in markers" in filled.err
    assert [("other",)] == postgres.execute("SELECT backend FROM markers", name)

    for url, status in (
        (postgres.url(name), 2),  # with the password
        ("postgresql://db.example/c", 2),
        ("sqlite:///x", 2),
        (postgres.url("missing", password=False), 1),
    ):
        refused = await command_beside(*arguments, "--to", url)
        assert status == refused.status, refused
        assert postgres.password not in refused.err
    async with gateway_process(data_dir):
        pass


@pytest.mark.parametrize("fault", ["lost", "changed"])
def test_a_copy_that_differs_is_refused_and_undone(
    tmp_path: Path, postgres: PostgresServer, password_file: Path, fault: str
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    vector = Path(__file__).parents[1] / "vectors" / "catalog-v1.sql"
    with closing(sqlite3.connect(data_dir / CATALOG_FILE)) as connection:
        connection.executescript(vector.read_text())
        connection.execute("UPDATE instances SET lease_until_ms = 0")
        connection.commit()
    name = postgres.new_database()
    PostgresCatalog.open(parse_database_url(postgres.url(name))).close()
    change = "RETURN NULL" if fault == "lost" else "NEW.generation := 2; RETURN NEW"
    postgres.execute(
        f"CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {change}; END'", name
    )
    postgres.execute(
        "CREATE TRIGGER spoil BEFORE INSERT ON objects FOR EACH ROW EXECUTE FUNCTION spoil()", name
    )
    arguments = ("catalog", "copy", "--data-dir", data_dir, "--password-file", password_file)

    done = command(*arguments, "--to", postgres.url(name, password=False))

    assert 1 == done.status
    assert "objects did not arrive" in done.err
    assert [(0,)] == postgres.execute("SELECT count(*) FROM sessions", name)
    assert (data_dir / CATALOG_FILE).exists()
    postgres.execute("DROP TRIGGER spoil ON objects", name)
    done = command(*arguments, "--to", postgres.url(name, password=False))
    assert 0 == done.status, done.err
    assert b"objects                 2 rows" in done.out


def test_tables_of_many_batches_arrive_whole(tmp_path: Path, postgres: PostgresServer) -> None:
    rows = [(f"{number:05}", number) for number in range(2 * BATCH_ROWS + 1)]
    columns = ("backend", "created_ms")
    source = SQLiteCatalog.open(tmp_path / CATALOG_FILE)
    target = PostgresCatalog.open(parse_database_url(postgres.url(postgres.new_database())))
    told: list[int] = []
    try:
        insert, values = markers.insert(), [dict(zip(columns, row, strict=True)) for row in rows]
        source.run_blocking(lambda c: c.execute(insert, values).close())

        assert len(rows) == count_rows(source)
        copied = copy_catalog(source, target, told.append)

        assert len(rows) == copied["markers"] == sum(told)
        query = markers.select().order_by(markers.c.backend)
        assert rows == target.read_blocking(lambda c: [tuple(row) for row in c.execute(query)])
    finally:
        source.close()
        target.close()


def test_who_had_the_old_catalog_open_can_do_nothing_with_it_any_more(
    tmp_path: Path, postgres: PostgresServer, password_file: Path
) -> None:
    """A gateway that was paused, or had just opened it, would answer for what the copy lacks."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    late = SQLiteCatalog.open(data_dir / CATALOG_FILE)
    try:
        late.run_blocking(lambda c: load_deployment(c, "1" * 32))
        late.run_blocking(lambda c: register_router(c, "age1r", "classic"))
        to = postgres.url(postgres.new_database(), password=False)
        arguments = ("catalog", "copy", "--data-dir", data_dir, "--password-file", password_file)
        done = command(*arguments, "--to", to)
        assert 0 == done.status, done.err

        for write in (
            lambda c: start_instance(c, "2" * 32, 10),
            lambda c: erase(c, "3" * 32),
            lambda c: set_operator_token(c, b"4" * 32),
        ):
            with pytest.raises(CatalogUnavailable):
                late.run_blocking(write)
        with pytest.raises(CatalogUnavailable):
            late.read_blocking(find_deployment)
    finally:
        late.close()
