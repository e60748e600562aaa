"""Goal: what becomes of one read never costs another one its answer, nor the catalog a reader.

Method: a real SQLite file. Both readers are held by units that wait, so that a test decides what
stands in the queue and is read in one transaction.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.sqlite import READERS, _raw
from storage_gateway.errors import CatalogUnavailable

WITHIN_S = 20


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SQLiteCatalog]:
    opened = await asyncio.to_thread(SQLiteCatalog.open, tmp_path / "catalog.sqlite3")
    yield opened
    await asyncio.to_thread(opened.close)


def one(connection: Connection) -> int:
    """Read something."""
    return int(connection.exec_driver_sql("SELECT 1").scalar_one())


def ends_in(ending: BaseException) -> Callable[[Connection], None]:
    def unit(_connection: Connection) -> None:
        raise ending

    return unit


async def ended(*reading: asyncio.Task[Any]) -> list[object]:
    """What each read came to: the answer, or what was raised."""
    async with asyncio.timeout(WITHIN_S):
        return list(await asyncio.gather(*reading, return_exceptions=True))


def queued(catalog: SQLiteCatalog, *units: Callable[[Connection], Any]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(catalog.read(unit)) for unit in units]


@asynccontextmanager
async def readers_held(catalog: SQLiteCatalog) -> AsyncIterator[None]:
    """Keep all readers busy: what is asked meanwhile waits, and is read together."""
    release = threading.Event()
    holding: list[asyncio.Task[Any]] = []
    for _ in range(READERS):  # one after the other: one reader would take both
        entered = threading.Event()

        def unit(_connection: Connection, entered: threading.Event = entered) -> None:
            entered.set()
            assert release.wait(WITHIN_S)

        holding += queued(catalog, unit)
        assert await asyncio.to_thread(entered.wait, WITHIN_S)
    try:
        yield
        await asyncio.sleep(0)  # tasks that were made begin, and stand in the queue
    finally:
        release.set()
    assert [None] * READERS == await ended(*holding)


async def test_reads_of_callers_that_are_gone_are_not_done(catalog: SQLiteCatalog) -> None:
    done: list[str] = []
    async with readers_held(catalog):
        gone, waits = queued(catalog, lambda _: done.append("gone"), lambda _: done.append("waits"))
        await asyncio.sleep(0)
        gone.cancel()
    await ended(gone, waits)

    assert gone.cancelled()
    assert ["waits"] == done


@pytest.mark.parametrize("ending", [SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_unit_that_would_end_its_thread_ends_no_more_than_itself(
    catalog: SQLiteCatalog, ending: BaseException
) -> None:
    for _ in range(READERS + 1):
        async with readers_held(catalog):
            reading = queued(catalog, one, ends_in(ending), one)
        first, error, last = await ended(*reading)

        assert (1, 1) == (first, last)
        assert isinstance(error, RuntimeError)
        assert ending is error.__cause__


async def test_a_transaction_whose_end_fails_costs_no_later_read(catalog: SQLiteCatalog) -> None:
    """SQLAlchemy takes it for ended, and SQLite may not: no other can be begun there."""

    def fail(_connection: Connection) -> None:
        raise CatalogUnavailable("the COMMIT failed")

    event.listen(catalog._reader_engine, "commit", fail)
    failed = await ended(*[task for _ in range(READERS) for task in queued(catalog, one)])
    event.remove(catalog._reader_engine, "commit", fail)
    async with readers_held(catalog):
        reading = queued(catalog, one, one)

    assert {CatalogUnavailable} == {type(error) for error in failed}
    assert [1, 1] == await ended(*reading)


async def test_a_connection_that_is_gone_is_made_anew(catalog: SQLiteCatalog) -> None:
    for _ in range(READERS + 1):
        (error,) = await ended(*queued(catalog, lambda c: _raw(c).close()))
        assert error is None or isinstance(error, CatalogUnavailable)
        assert [1] == await ended(*queued(catalog, one))
