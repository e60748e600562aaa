"""Goal: what lies in a store and is named by nothing is marked, its time is counted as it was seen,
and nothing that any table names may go, in every database.

Method: units on pages of payloads that no store ever had; the time of a mark is moved in its row.
"""

from functools import partial

import pytest
from sqlalchemy import Table, insert, update

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.orphans import (
    Looked,
    OrphanSum,
    SeenPayload,
    count_ripe,
    list_ripe,
    mark_orphans,
    may_go,
    named_among,
    sum_orphans,
    unmark,
    unmark_after,
)
from storage_gateway.catalog.tables import (
    deployment,
    graves,
    intents,
    objects,
    orphans,
    pins,
    placements,
    segments,
    sessions,
)
from storage_gateway.catalog.work import load_deployment

pytestmark = pytest.mark.both_databases

STORE = "one"
HOUR_MS = 3600 * 1000
SESSION = {"session_id": "s", "custody": "router", "key_class": "classic", "created_ms": 0}
OBJECT = {
    "object_id": "o",
    "session_id": "s",
    "task_id": "t",
    "direction": "input",
    "miner": "",
    "state": "committed",
    "generation": 1,
    "payload_id": "p",
    "cid": "c",
    "size": 0,
    "payload_size": 0,
    "sealed_size": 0,
    "key_class": "classic",
    "wrapped_for": [],
    "file_key_print": b"f",
    "sequence": 1,
    "created_ms": 0,
}
PIN = {"payload_id": "p", "backend": "b", "key": "k", "root": "r", "size": 1, "leaf_digests": b""}
INTENT = {"object_id": "o", "instance_id": "i", "fence": 1, "state": "open", "created_ms": 0}
NAMES: list[tuple[Table, dict[str, object]]] = [
    (intents, INTENT | {"payload_id": "p"}),
    (graves, {"payload_id": "p", "object_id": "o", "reason": "aborted", "buried_ms": 0}),
    (segments, {"payload_id": "p", "segment": 0}),
    (placements, {"payload_id": "p", "segment": 0, "backend": "b", "state": "pending"}),
    (pins, PIN),
    (objects, OBJECT),
    (objects, OBJECT | {"state": "erasing"}),
]
BY_DAY = {0, 5}
"""Of those: an upload under way, and an object."""


async def look(
    catalog: Catalog, *payload_ids: str, after: str = "", last: str = "z", store: str = STORE
) -> Looked:
    seen = [SeenPayload(payload_id, 2, 1 << 40) for payload_id in payload_ids]
    return await catalog.run(
        partial(mark_orphans, backend=store, seen=seen, after=after, last=last, longest_ms=HOUR_MS)
    )


async def ripe(catalog: Catalog, dwell_ms: int, after: str = "", limit: int = 10) -> list[str]:
    return await catalog.read(
        partial(list_ripe, backend=STORE, dwell_ms=dwell_ms, after=after, limit=limit)
    )


async def let_pass(catalog: Catalog, ms: int) -> None:
    """Have all marks been seen so much earlier."""
    await catalog.run(
        lambda c: c.execute(update(orphans).values(seen_ms=orphans.c.seen_ms - ms)).rowcount
    )


async def insert_name(catalog: Catalog, table: Table, row: dict[str, object]) -> None:
    if table is objects:
        await catalog.run(lambda c: c.execute(insert(sessions).values(SESSION)).rowcount)
    await catalog.run(lambda c: c.execute(insert(table).values(row)).rowcount)


async def test_what_is_seen_is_marked_once(catalog: Catalog) -> None:
    assert Looked(2, 2, 0) == await look(catalog, "a", "b")
    assert Looked(1, 3, 0) == await look(catalog, "a", "b", "c")
    assert Looked(1, 1, 0) == await look(catalog, "a", store="two")

    assert {STORE: OrphanSum(3, 6, 3 << 40), "two": OrphanSum(1, 2, 1 << 40)} == (
        await catalog.read(sum_orphans)
    )


@pytest.mark.nightly
async def test_of_a_page_alone_what_is_not_seen_is_unmarked(catalog: Catalog) -> None:
    await look(catalog, "a", "b", "c", "d", "e")
    await look(catalog, "c", store="two")

    assert Looked(0, 1, 1) == await look(catalog, "d", after="b", last="d")
    assert Looked(0, 0, 1) == await look(catalog, after="a", last="b")
    assert ["a", "d", "e"] == await ripe(catalog, 0)
    assert 2 == await catalog.run(partial(unmark_after, backend=STORE, after="a"))
    assert ["a"] == await ripe(catalog, 0)
    await catalog.run(partial(unmark, backend=STORE, payload_id="a"))
    assert {"two": OrphanSum(1, 2, 1 << 40)} == await catalog.read(sum_orphans)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("passed_ms", "counted_ms"),
    [(HOUR_MS // 2, HOUR_MS // 2), (10**11, HOUR_MS), (-(10**11), 0)],
)
async def test_between_looks_no_more_is_counted_than_they_should_be_apart(
    catalog: Catalog, passed_ms: int, counted_ms: int
) -> None:
    await look(catalog, "a")
    for rounds in (1, 2):
        await let_pass(catalog, passed_ms)
        await look(catalog, "a")

        assert ["a"] == await ripe(catalog, rounds * counted_ms)
        assert [] == await ripe(catalog, rounds * counted_ms + HOUR_MS // 4)


@pytest.mark.nightly
async def test_what_is_old_enough_is_counted_and_comes_in_pages(catalog: Catalog) -> None:
    await look(catalog, "a", "b", "c")
    await let_pass(catalog, HOUR_MS)
    await look(catalog, "a", "b", "c", "d")

    assert 3 == await catalog.read(partial(count_ripe, backend=STORE, dwell_ms=HOUR_MS))
    assert ["a", "b"] == await ripe(catalog, HOUR_MS, limit=2)
    assert ["c"] == await ripe(catalog, HOUR_MS, after="b", limit=2)


@pytest.mark.parametrize(
    "name",
    [n if n in BY_DAY else pytest.param(n, marks=pytest.mark.nightly) for n in range(len(NAMES))],
)
async def test_what_anything_names_is_no_orphan_and_may_not_go(catalog: Catalog, name: int) -> None:
    table, row = NAMES[name]
    await catalog.run(partial(load_deployment, candidate_id="d"))
    await look(catalog, "p", "q")
    may = partial(may_go, backend=STORE, dwell_ms=0)
    assert await catalog.run(partial(may, payload_id="p"))
    await insert_name(catalog, table, row)

    assert {"p"} == await catalog.read(partial(named_among, payload_ids=["p", "q"]))
    assert not await catalog.run(partial(may, payload_id="p"))
    assert await catalog.run(partial(may, payload_id="q"))
    assert ["q"] == await ripe(catalog, 0)
    assert Looked(0, 1, 0) == await look(catalog, "p", "q")


@pytest.mark.nightly
async def test_what_is_erased_names_nothing(catalog: Catalog) -> None:
    await insert_name(catalog, objects, OBJECT | {"state": "erased"})

    assert set() == await catalog.read(partial(named_among, payload_ids=["p"]))


async def test_what_may_go_is_marked_old_enough_and_of_the_newest_catalog(
    catalog: Catalog,
) -> None:
    await catalog.run(partial(load_deployment, candidate_id="d"))
    await look(catalog, "a")
    may = partial(may_go, backend=STORE)

    assert await catalog.run(partial(may, payload_id="a", dwell_ms=0))
    assert not await catalog.run(partial(may, payload_id="b", dwell_ms=0))
    assert not await catalog.run(partial(may, payload_id="a", dwell_ms=1))
    await catalog.run(lambda c: c.execute(update(deployment).values(behind_ms=1)).rowcount)
    assert not await catalog.run(partial(may, payload_id="a", dwell_ms=0))
