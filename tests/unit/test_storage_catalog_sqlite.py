"""Goal: an answer that a unit of work gave is durable, a unit that failed left nothing, and neither
depends on which other units shared its transaction.

Method: real SQLite files. The writer is held by a unit that waits, so that a test decides what goes
into one transaction; disks are filled with a page limit, commits broken with a deferred constraint.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.sqlite import GROUP_UNITS_MAX
from storage_gateway.catalog.statements import insert_once
from storage_gateway.catalog.tables import SCHEMA_VERSION, markers
from storage_gateway.errors import CatalogUnavailable, SlotBusy, StorageFull

WITHIN_S = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SQLiteCatalog]:
    opened = SQLiteCatalog.open(path)
    yield opened
    opened.close()


def add(name: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        connection.execute(markers.insert(), {"backend": name, "created_ms": 0})
        return f"added {name}"

    return unit


def names(connection: Connection) -> list[str]:
    return sorted(row.backend for row in connection.execute(markers.select()))


def stored(path: Path) -> list[str]:
    """What another process sees."""
    connection = sqlite3.connect(path)
    try:
        return sorted(row[0] for row in connection.execute("SELECT backend FROM markers"))
    finally:
        connection.close()


@contextmanager
def writer_held(catalog: SQLiteCatalog) -> Iterator[None]:
    """Keep the writer busy: what is submitted meanwhile goes into the next transactions."""
    entered, release = threading.Event(), threading.Event()

    def unit(_connection: Connection) -> None:
        entered.set()
        assert release.wait(WITHIN_S)

    held = catalog._submit(unit)
    assert entered.wait(WITHIN_S)
    try:
        yield
    finally:
        release.set()
    held.result(WITHIN_S)


@contextmanager
def commits_counted(
    catalog: SQLiteCatalog, before: Callable[[], None] = lambda: None
) -> Iterator[list[int]]:
    counted: list[int] = []

    def on_commit(_connection: Connection) -> None:
        before()
        counted.append(1)

    event.listen(catalog._writer_engine, "commit", on_commit)
    yield counted
    event.remove(catalog._writer_engine, "commit", on_commit)


def outcome(future: Future[Any]) -> object:
    """The answer, or the type of what was raised."""
    error = future.exception(WITHIN_S)
    return future.result() if error is None else type(error)


# Group commit.


def test_many_units_end_in_few_transactions(catalog: SQLiteCatalog, path: Path) -> None:
    count = 3 * GROUP_UNITS_MAX

    with commits_counted(catalog) as commits:
        with writer_held(catalog):
            futures = [catalog._submit(add(f"{i:03}")) for i in range(count)]
        answers = [outcome(future) for future in futures]

    assert [f"added {i:03}" for i in range(count)] == answers
    assert 1 + 3 == len(commits)
    assert [f"{i:03}" for i in range(count)] == stored(path)


def test_a_unit_that_raises_undoes_itself_alone(catalog: SQLiteCatalog, path: Path) -> None:
    def refused(connection: Connection) -> None:
        add("refused")(connection)
        raise SlotBusy("for this test")

    def broken(connection: Connection) -> None:
        add("broken")(connection)
        add("a")(connection)  # breaks a unique index

    def ended(connection: Connection) -> None:
        add("ended")(connection)
        raise SystemExit

    with commits_counted(catalog) as commits:
        with writer_held(catalog):
            units: list[Callable[[Connection], Any]] = [add("a"), refused, add("b"), broken]
            futures = [catalog._submit(unit) for unit in [*units, add("c"), ended, add("d")]]
        outcomes = [outcome(future) for future in futures]

    told = [SlotBusy, "added b", CatalogUnavailable, "added c", RuntimeError, "added d"]
    assert ["added a", *told] == outcomes
    assert 2 == len(commits)
    assert ["a", "b", "c", "d"] == stored(path)


def test_an_answer_comes_after_the_commit(catalog: SQLiteCatalog, path: Path) -> None:
    futures: list[Future[Any]] = []
    seen_before: list[tuple[bool, list[str]]] = []

    def look() -> None:
        if futures:
            seen_before.append((any(future.done() for future in futures), stored(path)))

    with commits_counted(catalog, look):
        with writer_held(catalog):
            futures += [catalog._submit(add(name)) for name in "abc"]
        assert ["added a", "added b", "added c"] == [outcome(future) for future in futures]

    assert ["a", "b", "c"] == stored(path)
    assert all(not done for done, _ in seen_before)
    assert ([], False) == (seen_before[-1][1], seen_before[-1][0])


def test_when_the_commit_fails_nobody_gets_an_answer(catalog: SQLiteCatalog, path: Path) -> None:
    catalog.run_blocking(
        lambda c: c.execute(
            text(
                "CREATE TABLE late (of TEXT REFERENCES markers (backend)"
                " DEFERRABLE INITIALLY DEFERRED)"
            )
        )
    )

    with writer_held(catalog):
        futures: list[Future[Any]] = [
            catalog._submit(add("a")),
            catalog._submit(lambda c: c.execute(text("INSERT INTO late VALUES ('nobody')"))),
            catalog._submit(add("b")),
        ]
    outcomes = [outcome(future) for future in futures]

    assert [CatalogUnavailable] * 3 == outcomes
    assert [] == stored(path)
    assert "added c" == catalog.run_blocking(add("c"))
    assert ["c"] == stored(path)


def _set_page_limit(pages: int) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        limit = pages or connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {limit}"))

    return unit


def test_a_full_disk_is_told_and_takes_no_answered_unit_with_it(
    catalog: SQLiteCatalog, path: Path
) -> None:
    """SQLite undoes the whole transaction then, the units before the one that failed as well."""
    catalog.run_blocking(_set_page_limit(0))

    with writer_held(catalog):
        futures = [catalog._submit(add(name)) for name in ["a", "x" * 100_000, "b"]]
    outcomes = [outcome(future) for future in futures]

    answered = [str(answer).removeprefix("added ") for answer in outcomes if answer == "added a"]
    assert StorageFull is outcomes[1]
    assert answered == stored(path)
    catalog.run_blocking(_set_page_limit(1 << 30))
    assert "added c" == catalog.run_blocking(add("c"))
    assert [*answered, "c"] == stored(path)


def test_a_disk_that_fills_up_below_a_savepoint_is_told_too(
    catalog: SQLiteCatalog, path: Path
) -> None:
    catalog.run_blocking(_set_page_limit(0))

    def unit(connection: Connection) -> bool:
        return insert_once(connection, markers, {"backend": "x" * 100_000, "created_ms": 0})

    with pytest.raises(StorageFull):
        catalog.run_blocking(unit)
    assert [] == stored(path)


# Opening and closing.


def test_after_closing_there_is_one_file(path: Path) -> None:
    catalog = SQLiteCatalog.open(path)
    catalog.run_blocking(add("a"))
    catalog.read_blocking(names)
    catalog.close()

    assert [path.name] == [file.name for file in path.parent.iterdir()]


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (SCHEMA_VERSION + 1, f"schema version {SCHEMA_VERSION + 1}"),
        (99, "schema version 99"),
        (-1, "tables of another program"),
    ],
)
def test_another_schema_version_is_refused_and_left_as_it_is(
    path: Path, version: int, says: str
) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("CREATE TABLE of_another_time (x)")
    connection.close()

    with pytest.raises(CatalogUnavailable, match=says):
        SQLiteCatalog.open(path)

    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert ["of_another_time"] == tables


def test_what_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than a header of SQLite would have to be" * 20)
    before = path.read_bytes()

    with pytest.raises(CatalogUnavailable, match="not a database"):
        SQLiteCatalog.open(path)

    assert before == path.read_bytes()


@pytest.mark.parametrize("where", ["missing/catalog.sqlite3", "."])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(CatalogUnavailable, match="unable to open"):
        SQLiteCatalog.open(tmp_path / where)


def test_every_connection_zeroes_what_it_frees_and_syncs_what_it_commits(
    catalog: SQLiteCatalog,
) -> None:
    def pragmas(connection: Connection) -> list[object]:
        asked = ("secure_delete", "synchronous", "journal_mode", "foreign_keys")
        return [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in asked]

    assert [1, 2, "wal", 1] == catalog.run_blocking(pragmas)
    assert [1, 2, "wal", 1] == catalog.read_blocking(pragmas)
