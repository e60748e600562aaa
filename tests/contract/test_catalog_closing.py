"""Goal: a catalog ends well, comes back as it was, tells the time that it is told, and keeps
nothing of what was removed, whatever is below it.

Method: catalogs that are closed while units wait and threads ask; another clock; every file of the
database searched for what a row held.
"""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection

from storage_gateway.catalog import Catalog, PostgresCatalog, now_ms
from storage_gateway.catalog.tables import objects
from storage_gateway.errors import CatalogUnavailable
from tests.databases import databases

from .units import WITHIN_S, Held, add, add_object, add_session, held, names

pytestmark = pytest.mark.both_databases

THREADS = 8
LOOK_S = 0.2
"""For so long it is looked whether something comes that must not come."""


# Closing.


async def test_closing_finishes_what_was_begun_and_refuses_the_rest(
    tmp_path: Path, other: Catalog
) -> None:
    catalog = await asyncio.to_thread(databases.open, tmp_path)
    unit = Held("held")
    begun = [asyncio.create_task(catalog.run(unit))]
    await asyncio.to_thread(unit.entered.wait, WITHIN_S)
    begun += [asyncio.create_task(catalog.run(partial(add, name=f"{i:02}"))) for i in range(70)]
    await asyncio.sleep(0)
    end = asyncio.create_task(asyncio.to_thread(catalog.close))
    done, _ = await asyncio.wait([end], timeout=LOOK_S)
    assert not done
    unit.release.set()
    await end

    assert ["held", *(f"{i:02}" for i in range(70))] == await asyncio.gather(*begun)
    assert 71 == len(await other.read(names))
    for late in (catalog.run(partial(add, name="late")), catalog.read(names)):
        with pytest.raises(CatalogUnavailable, match="closed"):
            await late
    for blocking in (catalog.run_blocking, catalog.read_blocking):
        with pytest.raises(CatalogUnavailable, match="closed"):
            await asyncio.to_thread(blocking, names)


def test_closing_under_load_leaves_nobody_waiting(tmp_path: Path, other: Catalog) -> None:
    catalog = databases.open(tmp_path)
    answered, refused = list[str](), Counter[str]()
    enough = threading.Event()

    def write(thread: int) -> None:
        for number in range(10_000):
            name = f"{thread}.{number}"
            try:
                catalog.run_blocking(partial(add, name=name))
                assert name in catalog.read_blocking(names)
            except CatalogUnavailable as error:
                refused[str(error)] += 1
                return
            finally:
                enough.set()
            answered.append(name)

    threads = [threading.Thread(target=write, args=(i,), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    assert enough.wait(WITHIN_S)
    catalog.close()
    for thread in threads:
        thread.join(WITHIN_S)

    assert not [thread for thread in threads if thread.is_alive()]
    assert {"the catalog is closed": THREADS} == refused
    assert set(answered) <= set(other.read_blocking(names))


class NotYet:
    """Whether a catalog closes, as somebody sees it who asks just before it does."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __bool__(self) -> bool:
        self.asked.set()
        self.go_on.wait(WITHIN_S)
        return False


@pytest.mark.parametrize("kind", ["run_blocking", "read_blocking"])
def test_who_asks_just_before_the_end_is_answered(tmp_path: Path, kind: str) -> None:
    catalog = databases.open(tmp_path)
    not_yet = NotYet()
    vars(catalog)["_closing"] = not_yet
    end = threading.Thread(target=catalog.close)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(getattr(catalog, kind), names)
        assert not_yet.asked.wait(WITHIN_S)
        end.start()
        end.join(LOOK_S)
        not_yet.go_on.set()

        assert [] == answer.result(WITHIN_S)
    end.join(WITHIN_S)
    assert not end.is_alive()


def test_opening_again_finds_what_was_written(tmp_path: Path) -> None:
    for name in "ab":
        catalog = databases.open(tmp_path)
        catalog.run_blocking(partial(add, name=name))
        catalog.close()

    with closing(databases.open(tmp_path)) as catalog:
        assert ["a", "b"] == catalog.read_blocking(names)


# Time.


def test_the_clock_is_the_databases_in_milliseconds(catalog: Catalog, other: Catalog) -> None:
    before = time.time() * 1000  # the database is on this machine
    found = [catalog.read_blocking(now_ms), other.run_blocking(now_ms)]

    assert before - 2 <= found[0] <= found[1] <= time.time() * 1000 + 2


def test_another_clock_is_seen_by_units_and_by_no_other_catalog(
    tmp_path: Path, catalog: Catalog
) -> None:
    hour_ms = 3_600_000
    before = catalog.read_blocking(now_ms)
    with closing(databases.open(tmp_path, clock=lambda ms: ms + hour_ms)) as jumping:
        jumped = [jumping.read_blocking(now_ms), jumping.run_blocking(now_ms)]
    after = catalog.read_blocking(now_ms)

    assert before + hour_ms <= jumped[0] <= jumped[1] <= after + hour_ms
    assert after < before + hour_ms


# What is left of what was removed.


def clean(catalog: Catalog) -> None:
    """Clean the pages, without the rests that PostgreSQL's cleaner takes."""
    until = time.monotonic() + WITHIN_S
    while not catalog.clean_pages():
        assert time.monotonic() < until
        time.sleep(0.05)
        if isinstance(catalog, PostgresCatalog):
            catalog._pages._rest_until = 0


def drop_heads(connection: Connection) -> None:
    connection.execute(objects.update().values(head=None))


@pytest.mark.parametrize("size", [200, 30_000])  # within a page, and on pages of its own
def test_what_was_removed_is_in_no_file_once_pages_are_clean(
    tmp_path: Path, catalog: Catalog, size: int
) -> None:
    head = Random(size).randbytes(size)

    def found() -> set[bool]:
        files = databases.stored_bytes(tmp_path)
        return {part in file for file in files for part in (head[:99], head[-99:])}

    catalog.run_blocking(partial(add_session, session_id="0"))
    catalog.run_blocking(partial(add_object, number=1, session_id="0", head=head))
    clean(catalog)
    assert True in found()

    catalog.run_blocking(drop_heads)
    assert True in found()  # in a log, or on the page that it was on

    clean(catalog)
    assert {False} == found()


@pytest.mark.parametrize("size", [200, 30_000])
def test_pages_are_not_called_clean_while_a_reader_sees_the_old(
    catalog: Catalog, size: int
) -> None:
    catalog.run_blocking(partial(add_session, session_id="0"))
    catalog.run_blocking(partial(add_object, number=1, session_id="0", head=bytes(size)))

    def unit(connection: Connection) -> bool:
        names(connection)
        catalog.run_blocking(drop_heads)
        return catalog.clean_pages()

    assert not catalog.read_blocking(unit)
    clean(catalog)


def test_cleaning_does_not_fail_while_a_writer_is_at_work(catalog: Catalog) -> None:
    with held(catalog, "a"):
        catalog.clean_pages()

    clean(catalog)
