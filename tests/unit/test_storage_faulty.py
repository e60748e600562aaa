"""Goal: the faulting store and catalog fail as their plan says, as often, at the same draws for the
same seed, and not at all once healed. Method: over a real local store and catalog in a folder.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from storage_gateway.backends import LocalStore, Range
from storage_gateway.backends.faulty import FaultyStore, StoreFaults
from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.faulty import CatalogFaults, FaultyCatalog
from storage_gateway.chance import Chance
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, CatalogUnavailable

ALWAYS = 1.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaultyStore]:
    inner = LocalStore(tmp_path / "store")
    yield FaultyStore(inner, seed=1)
    inner.close()


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[FaultyCatalog]:
    inner = await asyncio.to_thread(SQLiteCatalog.open, tmp_path / "catalog.sqlite3")
    yield FaultyCatalog(inner, seed=1)
    await asyncio.to_thread(inner.close)


def test_draws_depend_on_seed_and_label_alone() -> None:
    one, same, other, labelled = Chance(7), Chance(7), Chance(8), Chance(7, "x")
    drawn = [one.fraction() for _ in range(200)]

    assert drawn == [same.fraction() for _ in range(200)]
    assert drawn != [other.fraction() for _ in range(200)]
    assert drawn != [labelled.fraction() for _ in range(200)]
    assert all(0 <= fraction < 1 for fraction in drawn)
    assert 0.4 < sum(drawn) / 200 < 0.6
    assert {0, 1, 2} == {Chance(n).below(3) for n in range(50)}
    assert {"a", "b"} == {Chance(n).one_of("ab") for n in range(50)}


async def test_what_lies_in_a_blobs_place_is_read_instead(store: FaultyStore) -> None:
    await store.put("a/a", b"genuine")
    await store.put("a/b", b"genuine")
    store.damaged["a/a"] = b"other"
    ranges = [Range("a/a", 1, 4), Range("a/b", 1, 4), Range("a/a", 3, 3)]
    with ThreadPoolExecutor(1) as threads:
        two = await store.fetch(ranges[:2], lambda _, data: data, threads)
        with pytest.raises(BlobCorrupt):
            await store.fetch(ranges, lambda _, data: data, threads)

    assert [b"ther", b"enui"] == two
    assert b"the" == await store.get("a/a", 1, 3)
    with pytest.raises(BlobCorrupt):
        await store.get("a/a", 0, 6)
    await store.delete("a/a")
    await store.put("a/a", b"written again")
    assert b"written again" == await store.get("a/a", 0, 13)
    store.damaged["a/c"] = b"other"
    writer = store.create("a/c")
    await asyncio.to_thread(writer.write, 0, memoryview(b"written once more"))
    await writer.finish()
    assert b"once more" == await store.get("a/c", 8, 9)


async def test_a_refused_operation_does_nothing(store: FaultyStore) -> None:
    await store.put("a/a", b"x")
    store.faults = StoreFaults(refused={"put": ALWAYS})
    with pytest.raises(BackendUnavailable):
        await store.put("a/b", b"x")
    store.heal()

    with pytest.raises(BlobMissing):
        await store.stat("a/b")
    assert 1 == store.injected["refused put"]


async def test_a_lost_answer_is_of_something_done(store: FaultyStore) -> None:
    store.faults = StoreFaults(lost_answer={"put": ALWAYS})
    with pytest.raises(BackendUnavailable):
        await store.put("a/b", b"x")
    store.heal()

    assert 1 == (await store.stat("a/b")).size


async def test_calls_that_were_slow_are_counted(store: FaultyStore) -> None:
    await store.put("a/b", b"x")
    store.faults = StoreFaults(delay_s={"stat": 0.001})
    await store.stat("a/b")
    await store.get("a/b", 0, 1)

    assert {"slow stat": 1} == store.injected


async def test_a_write_that_is_not_answered_yet_is_counted(store: FaultyStore) -> None:
    store.faults = StoreFaults(delay_s={"finish": 3600})
    finishing = asyncio.create_task(store.create("a/0").finish())
    await asyncio.sleep(0)
    before = store.finishing
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)

    assert (1, 0) == (before, store.finishing)


async def test_a_torn_write_keeps_a_part(store: FaultyStore) -> None:
    store.faults = StoreFaults(torn=ALWAYS)
    writer = store.create("a/0")
    with pytest.raises(BackendUnavailable):
        await asyncio.to_thread(writer.write, 0, memoryview(b"x" * 1000))
    await writer.abort()
    store.heal()

    kept = [blob.size async for blob in store.list("a/")]
    assert not kept or 0 <= kept[0] < 1000
    assert 1 == store.injected["torn write"]


async def test_points_are_told_in_order(store: FaultyStore) -> None:
    told: list[str] = []
    store.faults = StoreFaults(at_point=told.append)
    writer = store.create("a/0")
    await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
    await writer.finish()
    await store.delete("a/0")

    steps = [("write", "finish", "delete")[n // 2] for n in range(6)]
    ends = ["begins", "done"] * 3
    assert [f"{step} {end}" for step, end in zip(steps, ends, strict=True)] == told


def _insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO markers VALUES ('b', 1)"))


def _count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM markers")).scalar_one())


async def test_a_transaction_is_refused_or_its_answer_lost(catalog: FaultyCatalog) -> None:
    catalog.faults = CatalogFaults(refused=ALWAYS)
    with pytest.raises(CatalogUnavailable):
        await catalog.run(_insert)
    with pytest.raises(CatalogUnavailable):
        await catalog.read(_count)
    catalog.heal()
    assert 0 == await catalog.read(_count)

    catalog.faults = CatalogFaults(lost_answer=ALWAYS)
    with pytest.raises(CatalogUnavailable):
        await catalog.run(_insert)
    catalog.heal()
    assert 1 == await catalog.read(_count)
    assert (2, 1) == (catalog.injected["refused"], catalog.injected["lost_answer"])
