"""Goal: a catalog keeps what `storage_gateway.catalog.contract` promises, whatever is below it.

Method: one suite for every database. A second catalog on the same database stands for another
process; units wait, before COMMIT or in it, until a test has looked; a COMMIT is broken with a
deferred constraint.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, select, text, update

from storage_gateway.catalog import Catalog, PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.statements import insert_once
from storage_gateway.catalog.tables import graves, markers
from storage_gateway.errors import CatalogUnavailable, SlotBusy
from tests.databases import databases

from .units import WITHIN_S, Held, add, held, names

pytestmark = pytest.mark.both_databases

THREADS = 8
ROUNDS = 25
LOOK_S = 0.2
"""For so long it is looked whether something comes that must not come."""


def refuse(connection: Connection, name: str) -> None:
    add(connection, name)
    raise SlotBusy("for this test")


def break_a_rule(connection: Connection, name: str) -> None:
    for _ in range(2):
        add(connection, name)


# A unit takes effect as a whole, before its answer, or not at all.


def test_an_answer_comes_after_the_commit_and_is_seen_by_every_process(
    catalog: Catalog, other: Catalog
) -> None:
    assert isinstance(catalog, SQLiteCatalog | PostgresCatalog)
    asked, seen = threading.Event(), list[object]()
    answers: list[Future[str]] = []

    def look(_connection: Connection) -> None:
        assert asked.wait(WITHIN_S)
        seen.append(bool(wait(answers, LOOK_S).done))
        seen.append(other.read_blocking(names))

    event.listen(catalog._writer_engine, "commit", look)
    with ThreadPoolExecutor(1) as thread:
        answers.append(thread.submit(catalog.run_blocking, partial(add, name="a")))
        asked.set()
        assert "a" == answers[0].result(WITHIN_S)
    event.remove(catalog._writer_engine, "commit", look)

    assert [False, []] == seen
    assert ["a"] == other.read_blocking(names)
    assert ["a"] == other.run_blocking(names)


def test_a_unit_that_raises_undoes_itself_alone(catalog: Catalog, other: Catalog) -> None:
    kinds: list[Callable[..., object]] = [add, refuse, break_a_rule]
    units = [(partial(kinds[i % 3], name=f"{i:02}"), (catalog, other)[i % 2]) for i in range(24)]

    def outcome(unit: Callable[[Connection], object], where: Catalog) -> object:
        try:
            return where.run_blocking(unit)
        except Exception as error:  # noqa: BLE001 - compared below
            return type(error)

    with ThreadPoolExecutor(THREADS) as threads:
        outcomes = list(threads.map(lambda each: outcome(*each), units))

    added = [f"{i:02}" for i in range(0, 24, 3)]
    assert added == outcomes[::3]
    assert {SlotBusy} == set(outcomes[1::3])
    assert {CatalogUnavailable} == set(outcomes[2::3])
    assert added == other.read_blocking(names)


@pytest.mark.parametrize("ending", [StopIteration, SystemExit, asyncio.CancelledError])
async def test_an_end_that_no_future_can_hold_is_an_error(
    catalog: Catalog, ending: type[BaseException]
) -> None:
    """And costs no thread: there are fewer of them than rounds."""

    def written(connection: Connection) -> None:
        add(connection, "a")
        raise ending

    def read(_connection: Connection) -> None:
        raise ending

    said = f"the unit ended in {ending.__name__}"
    for _ in range(THREADS):
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(RuntimeError, match=said):
                await catalog.run(written)
            with pytest.raises(RuntimeError, match=said):
                await catalog.read(read)
    assert [] == await catalog.read(names)
    assert "a" == await catalog.run(partial(add, name="a"))


def test_a_unit_whose_commit_fails_gives_no_answer_and_leaves_nothing(catalog: Catalog) -> None:
    make = "CREATE TABLE late (of_marker TEXT REFERENCES markers (backend)"
    make += " DEFERRABLE INITIALLY DEFERRED)"
    catalog.run_blocking(lambda c: c.execute(text(make)).close())

    def unit(connection: Connection) -> str:
        connection.execute(text("INSERT INTO late VALUES ('nobody')"))
        return add(connection, "a")

    for _ in range(2 * THREADS):  # on each of its connections, if it has many
        with pytest.raises(CatalogUnavailable):
            catalog.run_blocking(unit)

    assert [] == catalog.read_blocking(names)
    assert "b" == catalog.run_blocking(partial(add, name="b"))
    assert ["b"] == catalog.read_blocking(names)


def test_a_unit_may_ask_for_what_is_there_already(catalog: Catalog) -> None:
    def unit(connection: Connection) -> list[bool]:
        row = {"backend": "a", "created_ms": 0}
        return [insert_once(connection, markers, row) for _ in range(2)]

    assert [True, False] == catalog.run_blocking(unit)
    assert ["a"] == catalog.read_blocking(names)


def test_foreign_keys_hold(catalog: Catalog) -> None:
    orphan = "INSERT INTO parties VALUES ('nowhere', 'user', '', 0)"

    with pytest.raises(CatalogUnavailable):
        catalog.run_blocking(lambda c: c.execute(text(orphan)).close())


def test_no_error_tells_what_the_row_held(catalog: Catalog) -> None:
    """PostgreSQL's message on a missing value quotes the whole row."""
    row = {"payload_id": "p", "object_id": "geheim", "reason": None, "buried_ms": 0}

    with pytest.raises(CatalogUnavailable) as caught:
        catalog.run_blocking(lambda c: c.execute(graves.insert(), row).close())

    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim" not in f"{error} {getattr(error, 'orig', '')}"
        error = error.__cause__ or error.__context__


# Many at once, and callers who go away.


def test_no_change_is_lost_however_many_change_a_row_at_once(
    catalog: Catalog, other: Catalog
) -> None:
    catalog.run_blocking(partial(add, name="a"))
    change = update(markers).values(created_ms=markers.c.created_ms + 1)
    query = select(markers.c.created_ms)

    def unit(connection: Connection) -> int:
        names(connection)  # who has read may still write
        connection.execute(change)
        return int(connection.execute(query).scalar_one())

    count = THREADS * ROUNDS
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(
            threads.map(lambda i: (catalog, other)[i % 2].run_blocking(unit), range(count))
        )

    assert list(range(1, count + 1)) == sorted(answers)


async def test_whoever_was_answered_reads_it(catalog: Catalog) -> None:
    async def write_and_read(name: str) -> bool:
        await catalog.run(partial(add, name=name))
        return name in await catalog.read(names)

    seen = await asyncio.gather(*(write_and_read(f"{i:02}") for i in range(50)))

    assert [True] * 50 == seen


async def test_a_later_unit_sees_what_a_cancelled_caller_left_running(catalog: Catalog) -> None:
    unit = Held("a")
    cancelled = asyncio.create_task(catalog.run(unit))
    await asyncio.to_thread(unit.entered.wait, WITHIN_S)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    later = asyncio.create_task(catalog.run(names))
    done, _ = await asyncio.wait([later], timeout=LOOK_S)
    assert not done
    unit.release.set()

    assert ["a"] == await later


async def test_what_a_later_unit_did_not_see_of_cancelled_ones_never_comes(
    tmp_path: Path, catalog: Catalog
) -> None:
    """They wait for their turn behind units that take all the threads there are."""
    units = [Held(f"held {i}") for i in range(THREADS)]
    holding = [asyncio.create_task(catalog.run(unit)) for unit in units]
    first = units if catalog.kind == "postgresql" else units[:1]
    for unit in first:
        await asyncio.to_thread(unit.entered.wait, WITHIN_S)
    waiting = [
        asyncio.create_task(catalog.run(partial(add, name=f"{i:02}"))) for i in range(4 * THREADS)
    ]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert {True} == {task.cancelled() for task in (await asyncio.wait(waiting))[0]}
    later = asyncio.create_task(catalog.run(names))
    await asyncio.sleep(0)
    for unit in units:
        unit.release.set()

    seen = {name for name in await later if name.isdecimal()}
    await asyncio.gather(*holding)
    await asyncio.to_thread(catalog.close)
    again = await asyncio.to_thread(databases.open, tmp_path)
    came = {name for name in await again.read(names) if name.isdecimal()}
    await asyncio.to_thread(again.close)

    assert seen == came


# Reads.


def test_a_read_sees_one_moment(catalog: Catalog) -> None:
    catalog.run_blocking(partial(add, name="a"))

    def unit(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        assert "b" == catalog.run_blocking(partial(add, name="b"))
        return before, names(connection)

    assert (["a"], ["a"]) == catalog.read_blocking(unit)
    assert ["a", "b"] == catalog.read_blocking(names)


def test_a_read_does_not_wait_for_who_writes(catalog: Catalog, other: Catalog) -> None:
    with held(catalog, "a"):
        assert [] == catalog.read_blocking(names)
        assert [] == other.read_blocking(names)
    assert ["a"] == other.read_blocking(names)


def test_a_read_cannot_write(catalog: Catalog) -> None:
    with pytest.raises(CatalogUnavailable):
        catalog.read_blocking(partial(add, name="a"))
    assert [] == catalog.read_blocking(names)


def test_what_a_read_raises_is_raised(catalog: Catalog) -> None:
    def unit(_connection: Connection) -> None:
        raise SlotBusy("for this test")

    for _ in range(THREADS):
        with pytest.raises(SlotBusy):
            catalog.read_blocking(unit)
    assert [] == catalog.read_blocking(names)
