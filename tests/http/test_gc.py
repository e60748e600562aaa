"""Goal: what nothing names is marked, and deleted once it was so for long enough, and nothing else
is ever touched, whatever clocks, stores, operators and other processes do.

Method: a real gateway over two folders, or a bucket of a real S3 server, into which blobs are put
behind its back; passes by hand, with a catalog whose clock the test sets.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import Connection, Table, insert, select, update

from storage_gateway import collect as collecting
from storage_gateway.backends import BlobInfo
from storage_gateway.catalog.passes import take_pass
from storage_gateway.catalog.tables import (
    deployment,
    graves,
    intents,
    objects,
    placements,
    segments,
)
from storage_gateway.collect import NAME, CollectReport, may_go_at_once
from storage_gateway.errors import BackendUnavailable, CatalogUnavailable
from tests.gateway import eventually
from tests.http.gc_world import (
    DWELL_S,
    HOUR_MS,
    INTERVAL_S,
    YEAR_MS,
    World,
    bucket,
    bucket_world,
    folders,
    over_folders,
    world,
)
from tests.http.passes import collect_of
from tests.http.raw import Answer, connected, exchange, request
from tests.http.steps import PLAINTEXT, fetch, made_bytes, uploaded
from tests.http.test_replicas import Folders

__all__ = ["bucket", "bucket_world", "folders", "world"]

pytestmark = pytest.mark.both_databases(by_day=False)


async def is_marked_kept_and_deleted(world: World) -> None:
    named = await world.keys()
    payload_id = await world.plant("0", "1", "10", "root")

    first = await world.collect.run_once()
    assert (1, 1, 0, True) == (first.marked, first.orphans, first.deleted, first.ended)
    for wait_ms in (1.9 * HOUR_MS, 1.9 * HOUR_MS):
        world.pass_by(wait_ms)
        early = await world.collect.run_once()
        assert (0, 1, 0, True) == (early.marked, early.orphans, early.deleted, early.ended)
    assert {payload_id} == {key.partition("/")[0] for key in await world.keys() - named}
    world.pass_by(0.3 * HOUR_MS)
    last = await world.collect.run_once()

    assert (1, 4, 32) == (last.deleted, last.blobs_deleted, last.bytes_deleted)
    assert named == await world.keys()
    assert {} == await world.marks()
    assert (0, 0) == ((again := await world.collect.run_once()).orphans, again.deleted)
    assert await world.is_whole()


async def test_an_orphan_is_marked_and_kept_then_deleted(world: World) -> None:
    await is_marked_kept_and_deleted(world)


async def test_an_orphan_in_a_bucket_is_marked_and_kept_then_deleted(bucket_world: World) -> None:
    await is_marked_kept_and_deleted(bucket_world)


async def test_a_clock_that_is_set_forward_by_a_year_makes_nothing_old(world: World) -> None:
    await world.plant()
    await world.collect.run_once()

    world.pass_by(YEAR_MS)
    reports = [await world.collect.run_once() for _ in range(5)]

    assert [0] * 5 == [report.deleted for report in reports]
    (waited_ms,) = (await world.marks()).values()
    assert 2 * HOUR_MS <= waited_ms < 2.1 * HOUR_MS


async def test_a_clock_that_is_set_back_loses_nothing_and_makes_nothing_old(world: World) -> None:
    payload_id = await world.plant()
    await world.collect.run_once()
    world.pass_by(2 * HOUR_MS)
    await world.collect.run_once()

    world.set_clock(-YEAR_MS)
    back = await world.collect.run_once()
    (waited_ms,) = (await world.marks()).values()
    world.pass_by(2.1 * HOUR_MS)
    last = await world.collect.run_once()

    assert 0 == back.deleted
    assert 2 * HOUR_MS <= waited_ms < 2.1 * HOUR_MS
    assert 1 == last.deleted
    assert f"{payload_id}/0" not in await world.keys()


async def test_what_is_committed_while_a_store_is_listed_is_no_orphan(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = world.gateway.gateway.parts.members[0]
    listed = member.store.list
    count = 2

    async def upload_then_list(prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        nonlocal count
        content, path = made_bytes(100, seed=count), world.session.path(f"t{count}")
        made = await uploaded(world.gateway, path, world.session.user_token, content)
        world.urns.append(made["urn"])
        count += 1
        async for blob in listed(prefix, after=after):
            yield blob

    monkeypatch.setattr(member.store, "list", upload_then_list)
    reports = await world.age(4)

    assert [0] * 4 == [report.orphans + report.deleted for report in reports]
    assert {} == await world.marks()
    assert 6 == len(world.urns)
    assert await world.is_whole()


async def test_an_upload_under_way_is_no_orphan(world: World) -> None:
    body = made_bytes(9_000_000)
    path = world.session.path("slow")
    head = request("POST", path, world.session.user_token, body=body)
    async with connected(world.gateway.address) as connection:
        await connection.send(head[:-1_000_000])
        before = await world.keys()

        async def is_stored() -> bool:
            return len(await world.keys() - before) > 0 or len(before) > 2

        await eventually(is_stored, what="a first segment")
        reports = await world.age(4)
        await connection.send(head[-1_000_000:])
        answer = await connection.answer()

    assert [0] * 4 == [report.orphans + report.deleted for report in reports]
    assert 201 == answer.status
    read = await fetch(
        world.gateway, answer.json()["urn"], world.session.user_token, headers=[PLAINTEXT]
    )
    assert body == read.body


async def test_what_a_grave_names_is_left_to_its_grave(folders: Folders) -> None:
    """A write that came late lies under a payload id that was given up."""
    settings = {"recovery_interval_s": 3600.0, "late_write_horizon_s": 3600.0}
    async with over_folders(folders, **settings) as world:
        token = world.session.user_token
        await fetch(world.gateway, world.urns.pop(), token, method="DELETE")
        (payload_id,) = await world.catalog.read(
            lambda c: c.execute(select(graves.c.payload_id)).scalars().all()
        )
        await world.plant(payload_id=payload_id)

        reports = await world.age(4)

        assert [0] * 4 == [report.orphans + report.deleted for report in reports]
        assert f"{payload_id}/0" in await world.keys()


@pytest.mark.parametrize("when", ["before a look", "right before it goes"])
async def test_a_mark_goes_when_its_payload_is_named_again(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload_id = await world.plant()
    # Not by an intent: recovery would end one whose process nobody knows.
    name = insert(segments).values(payload_id=payload_id, segment=0)
    await world.age(2)
    if when == "before a look":
        await world.catalog.run(lambda c: c.execute(name).rowcount)
    else:
        store = world.gateway.gateway.parts.members[0].store
        listed = store.list

        async def name_then_list(prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
            if prefix.endswith(f"{payload_id}/"):
                await world.catalog.run(lambda c: c.execute(name).rowcount)
            async for blob in listed(prefix, after=after):
                yield blob

        monkeypatch.setattr(store, "list", name_then_list)
    world.pass_by(2 * HOUR_MS)
    report = await world.collect.run_once()

    assert 0 == report.deleted
    assert {} == await world.marks()
    assert f"{payload_id}/0" in await world.keys()


async def test_a_mark_goes_when_its_payload_is_gone(world: World) -> None:
    planted = [await world.plant(payload_id=c * 32) for c in "a7"]
    await world.collect.run_once()
    for payload_id in planted:
        await world.store().delete(f"{world.payloads}{payload_id}/0")

    report = await world.collect.run_once()

    assert (2, 0) == (report.unmarked, report.orphans)
    assert {} == await world.marks()


@pytest.mark.parametrize(
    ("seen", "count"),
    [(0, 0), (1, 0), (2, 1), (3, 1), (150, 75), (200, 100), (10_000, 100), (20_000, 200)],
)
def test_how_much_may_go_at_once(seen: int, count: int) -> None:
    assert count == may_go_at_once(seen)


async def test_where_much_would_go_nothing_does_without_an_operators_word(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(collecting, "BRAKE", 2)
    for at in range(8):
        content = made_bytes(100, seed=2 + at)
        path = world.session.path(f"more{at}")
        made = await uploaded(world.gateway, path, world.session.user_token, content)
        world.urns.append(made["urn"])
    planted = {f"{await world.plant()}/0" for _ in range(3)}
    await world.age(2)

    braked = await world.collect.run_once()
    late = await world.plant()
    goes_on = await world.collect.run_once()
    refused = await world.collect.run_once(confirm=2)
    assert planted <= await world.keys()
    assert {"one": 3, "two": 0} == world.collect.braked
    confirmed = await world.collect.run_once(confirm=3)

    assert [(0, 3)] * 3 == [(r.deleted, r.braked) for r in (braked, goes_on, refused)]
    assert (1, 4) == (goes_on.marked, goes_on.orphans)
    assert (3, 0) == (confirmed.deleted, confirmed.braked)
    assert {f"{late}/0"} == (await world.keys() & (planted | {f"{late}/0"}))
    assert [("ERROR", 3)] * 3 == [
        (record.levelname, record.__dict__["payloads"])
        for record in caplog.records
        if "--confirm" in record.getMessage()
    ]
    assert await world.is_whole()


async def test_the_word_is_given_over_http(world: World) -> None:
    for _ in range(3):
        await world.plant()
    collect = world.gateway.gateway.upkeep.collect
    collect._dwell_ms = 1

    async def ask(body: str) -> Answer:
        token, headers = world.gateway.operator_token, [("Content-Type", "application/json")]
        asked = request("POST", "/v1/admin/passes/gc", token, headers=headers, body=body.encode())
        return await exchange(world.gateway.address, asked)

    async def is_braked() -> bool:
        return bool((await ask("{}")).json()["braked"] == 3)

    await eventually(is_braked, what="a brake")
    told = world.gateway.gateway.metrics.text().decode()
    few = await ask('{"confirm": 2}')
    enough = await ask('{"confirm": 3}')

    assert (3, 0) == (few.json()["braked"], few.json()["deleted"])
    assert (0, 3) == (enough.json()["braked"], enough.json()["deleted"])
    assert 2 == len(await world.keys())
    assert 'storage_gateway_gc_braked{store="one"} 3.0' in told
    assert 'storage_gateway_orphan_payloads{store="one"} 3.0' in told


def emptied(connection: Connection, table: Table) -> int:
    return connection.execute(table.delete()).rowcount


async def test_a_catalog_that_was_emptied_empties_no_store(world: World) -> None:
    before = [await world.keys(at) for at in range(2)]
    for table in (objects, intents, graves, segments, placements):
        await world.catalog.run(partial(emptied, table=table))

    reports = await world.age(5)

    assert 0 == sum(report.deleted for report in reports)
    assert 4 == reports[-1].braked
    assert before == [await world.keys(at) for at in range(2)]


@pytest.mark.parametrize("fault", [BackendUnavailable("away"), ZeroDivisionError(), None])
async def test_what_breaks_off_in_the_midst_is_ended_by_the_next_pass(
    world: World, fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an error the process ends there: what it began it never ends."""
    payload_id = await world.plant("0", "1", "2")
    await world.age(2)
    store = world.gateway.gateway.parts.members[0].store
    delete, reached = store.delete, asyncio.Event()

    async def break_off(key: str) -> None:
        if key.endswith("/1"):
            reached.set()
            if fault is not None:
                raise fault
            await asyncio.Event().wait()
        await delete(key)

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", break_off)
        running_pass = asyncio.create_task(world.collect.run_once())
        await reached.wait()
        if fault is None:
            running_pass.cancel()
            await asyncio.gather(running_pass, return_exceptions=True)
        else:
            assert (0, 1) == ((report := await running_pass).deleted, report.skipped)
    left = {f"{payload_id}/1", f"{payload_id}/2"}
    assert left == {key for key in await world.keys() if key.startswith(payload_id)}
    other = collect_of(world.gateway, world.catalog, dwell_s=DWELL_S, interval_s=INTERVAL_S)
    report = await other.run_once()

    assert (1, 2) == (report.deleted, report.blobs_deleted)
    assert not {key for key in await world.keys() if key.startswith(payload_id)}


async def test_it_is_one_processs_turn(world: World) -> None:
    await world.plant()
    assert await world.catalog.run(lambda c: take_pass(c, NAME, "b" * 32, 3600.0))

    assert CollectReport() == await world.collect.run_once()


async def test_two_processes_at_once_do_it_once(world: World) -> None:
    for _ in range(2):
        await world.plant()
    other = collect_of(world.gateway, world.catalog, dwell_s=DWELL_S, interval_s=INTERVAL_S)
    marked = deleted = 0
    for _ in range(3):
        reports = await asyncio.gather(*(c.run_once() for c in (world.collect, other)))
        marked += sum(report.marked for report in reports)
        deleted += sum(report.deleted for report in reports)
        world.pass_by(2 * HOUR_MS)

    assert (2, 2) == (marked, deleted)
    assert {} == await world.marks()


async def test_a_catalog_that_is_behind_collects_nothing(world: World) -> None:
    payload_id = await world.plant()
    await world.age(2)
    await world.catalog.run(lambda c: c.execute(update(deployment).values(behind_ms=1)).rowcount)

    report = await world.collect.run_once(confirm=1000)

    assert CollectReport(behind=True, ended=True) == report
    assert f"{payload_id}/0" in await world.keys()


@pytest.mark.parametrize("error", [CatalogUnavailable, BackendUnavailable])
async def test_before_anything_goes_the_catalog_is_checked(
    world: World, error: type[BackendUnavailable]
) -> None:
    payload_id = await world.plant()
    reports = await world.age(2)

    async def refuse() -> None:
        raise error("it is an old one")

    world.collect.check_current = refuse
    with pytest.raises(error):
        await world.collect.run_once()

    assert 0 == sum(report.deleted for report in reports)
    assert f"{payload_id}/0" in await world.keys()


async def test_it_rests_after_a_round(world: World) -> None:
    await world.collect.run_once()

    rest = await world.collect.run_once(pause_s=3600.0)

    assert CollectReport() == rest
    assert world.collect.round_ended_ms is not None


async def test_the_gateway_does_it_by_itself(folders: Folders) -> None:
    async with over_folders(folders, gc_interval_s=0.05, gc_dwell_s=0.3) as world:
        await world.plant(str(random.randrange(1000)))

        async def is_gone() -> bool:
            return 2 == len(await world.keys())

        await eventually(is_gone, what="an orphan that is gone")
        told = world.gateway.gateway.metrics.text().decode()

    assert "gc_newest" in told
