"""Goal: of an IPFS node gc unpins what is ours by its name and that no catalog knows, and nothing
that is named or that others keep there.

Method: a real gateway over a real node, beside which somebody with another catalog sends blobs to
the node, or from whose catalog rows vanish as if it were an older one.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, delete, select

from storage_gateway import collect as collecting
from storage_gateway import listing
from storage_gateway.backends import ipfs as nodes
from storage_gateway.backends.contract import MARKER_CONTENT
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient
from storage_gateway.catalog.tables import blocks, objects, pins, placements, roots, segments, slots
from storage_gateway.ids import new_random_id
from tests.contract.ipfs import PinsInMemory, kubo_settings
from tests.contract.ipfs_node import put, tree
from tests.gateway import DEADLINE_S, open_session, running_gateway
from tests.http.gc_world import HOUR_MS, World, world_of
from tests.http.steps import SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_ipfs import ipfs_backend, node, read
from tests.servers.ipfs import IpfsNode

__all__ = ["node"]

pytestmark = pytest.mark.both_databases(by_day=False)


@pytest.fixture
async def world(tmp_path: Path, node: IpfsNode) -> AsyncIterator[World]:
    # A busy machine may take its time: a node that does not answer is left out of a round.
    patient = {"backends": [ipfs_backend(node) | {"deadline_s": DEADLINE_S}]}
    async with (
        running_gateway(
            tmp_path, reserve_bytes=0, late_write_horizon_s=2 * DEADLINE_S, **patient
        ) as gateway,
        world_of(gateway, await open_session(gateway, "101")) as world,
    ):
        yield world


@asynccontextmanager
async def stranger_of(node: IpfsNode, folder: Path, marker: str) -> AsyncIterator[IPFSStore]:
    """Open the node as one who has another catalog."""
    client = KuboClient(kubo_settings(node))
    store = IPFSStore(client, PinsInMemory(), marker=marker, spool=folder)
    await store.put(marker, MARKER_CONTENT)
    yield store
    await store.close()


async def send(node: IpfsNode, world: World, *keys: str) -> None:
    """Have the node keep something below these keys that the catalog knows nothing of."""
    parts = world.gateway.gateway.parts
    async with stranger_of(node, world.gateway.data_dir, parts.marker) as stranger:
        for key in keys:
            await stranger.put(key, b"orphaned")


async def forget(world: World, payload_id: str, *, name_too: bool) -> None:
    """Take from the catalog what a node keeps of a payload, and what names it too."""
    tables = [pins, *([objects, segments, placements, slots, roots, blocks] if name_too else [])]
    for table in tables:
        await world.catalog.run(partial(dropped, table=table, payload_id=payload_id))


def dropped(connection: Connection, table: Table, payload_id: str) -> int:
    return connection.execute(delete(table).where(table.c.payload_id == payload_id)).rowcount


async def payload_of_slot(world: World, task: str) -> str:
    query = select(objects.c.payload_id).where(objects.c.task_id == task)
    return str(await world.catalog.read(lambda c: c.execute(query).scalar_one()))


async def test_an_orphan_is_marked_and_kept_then_unpinned_and_nothing_else(
    world: World, node: IpfsNode
) -> None:
    foreign = tree()
    await asyncio.to_thread(put, node, foreign.wrapper, (*foreign.below, foreign.shared))
    ours = world.payloads.partition("/")[0]
    await send(
        node,
        world,
        f"{new_random_id()}/main/payloads/{new_random_id()}/0",
        f"{ours}/stress-{new_random_id()}/payloads/{new_random_id()}/0",
        f"{ours}/main/manifests/{new_random_id()}/1",
    )
    await send(node, world, f"{world.payloads}{'a' * 31}/0", f"{world.payloads}zzz")
    left = await asyncio.to_thread(node.pins)
    payload_id = new_random_id()
    await send(
        node, world, *(f"{world.payloads}{payload_id}/{name}" for name in ("0", "1", "root"))
    )

    first = await world.collect.run_once()
    assert (3, 1, 2) == (first.seen, first.marked, first.strange)
    for _ in range(2):
        world.pass_by(1.9 * HOUR_MS)
        early = await world.collect.run_once()
        assert (1, 0, True) == (early.orphans, early.deleted, early.ended)
    assert 3 == len(await asyncio.to_thread(node.pins) - left)
    world.pass_by(0.3 * HOUR_MS)
    last = await world.collect.run_once()
    await asyncio.to_thread(node.gc)

    assert (1, 3) == (last.deleted, last.blobs_deleted)
    assert left == await asyncio.to_thread(node.pins)
    assert {} == await world.marks()
    assert (0, 2) == ((again := await world.collect.run_once()).orphans, again.seen)
    assert await world.is_whole()


async def test_what_came_since_a_catalog_was_copied_is_found_by_its_names(
    world: World, node: IpfsNode
) -> None:
    before = await asyncio.to_thread(node.pins)
    content = made_bytes(SEGMENT + 1)
    await uploaded(world.gateway, world.session.path("later"), world.session.user_token, content)
    payload_id = await payload_of_slot(world, "later")
    assert 3 == len(await asyncio.to_thread(node.pins) - before)
    await forget(world, payload_id, name_too=True)

    first = await world.collect.run_once()
    marks = await world.marks()
    world.pass_by(2 * HOUR_MS)
    last = (await world.age(2))[-1]

    assert (3, 1) == (first.seen, first.marked)
    assert [("node", payload_id)] == list(marks)
    assert (1, 3) == (last.deleted, last.blobs_deleted)
    assert len(content) < last.bytes_deleted < 1.01 * len(content)
    assert before == await asyncio.to_thread(node.pins)


async def test_what_is_named_is_no_orphan_though_its_pins_are_forgotten(
    world: World, node: IpfsNode
) -> None:
    before = await asyncio.to_thread(node.pins)
    await forget(world, await payload_of_slot(world, "t0"), name_too=False)

    reports = await world.age(4)

    assert [(2, 0, 0)] * 4 == [(r.seen, r.orphans, r.deleted) for r in reports]
    assert before == await asyncio.to_thread(node.pins)


async def test_what_is_sent_while_roots_are_told_is_no_orphan(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = KuboClient.roots

    async def upload_then_tell(client: KuboClient) -> AsyncGenerator[str]:
        count = len(world.urns)
        content, path = made_bytes(100, seed=count), world.session.path(f"t{count}")
        made = await uploaded(world.gateway, path, world.session.user_token, content)
        world.urns.append(made["urn"])
        async for root in told(client):
            yield root

    monkeypatch.setattr(KuboClient, "roots", upload_then_tell)
    reports = await world.age(4)

    assert [0] * 4 == [report.orphans + report.deleted for report in reports]
    assert 6 == len(world.urns)
    assert await world.is_whole()


@pytest.mark.nightly
async def test_a_node_that_is_away_is_no_empty_one(world: World, node: IpfsNode) -> None:
    await send(node, world, f"{world.payloads}{new_random_id()}/0")
    await world.age(2)
    await asyncio.to_thread(node.kill)
    away = await world.collect.run_once()
    await asyncio.to_thread(node.start)

    assert (1, 0, 0) == (away.skipped, away.unmarked, away.deleted)
    assert 1 == len(await world.marks())
    assert 1 == (await world.collect.run_once()).deleted


@pytest.mark.nightly
async def test_where_most_of_a_node_would_go_nothing_does_however_it_is_gone_through(
    world: World, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on must not count again what was counted."""
    monkeypatch.setattr(listing, "PAYLOADS_IN_PAGE", 1)
    monkeypatch.setattr(nodes, "ROOTS_AT_ONCE", 2)
    monkeypatch.setattr(collecting, "PAGE", 1)
    planted = [c * 32 for c in "ad7"]
    await send(node, world, *(f"{world.payloads}{payload_id}/0" for payload_id in planted))
    before = await asyncio.to_thread(node.pins)
    for _ in range(3):
        reports = [await world.collect.run_once(limit=1)]
        while not reports[-1].ended:
            reports.append(await world.collect.run_once(limit=1))
        world.pass_by(2 * HOUR_MS)
    assert (5, 3, 0) == (
        sum(report.seen for report in reports),
        sum(report.braked for report in reports),
        sum(report.deleted for report in reports),
    )
    assert before == await asyncio.to_thread(node.pins)
    confirmed = [await world.collect.run_once(limit=2, confirm=3) for _ in range(6)]

    assert 3 == sum(report.deleted for report in confirmed)
    assert 3 == len(before - await asyncio.to_thread(node.pins))
    assert await world.is_whole()


@pytest.mark.nightly
async def test_an_erased_object_is_left_to_recovery(world: World, node: IpfsNode) -> None:
    content = made_bytes(SEGMENT + 1)
    token = world.session.user_token
    made = await uploaded(world.gateway, world.session.path("kept"), token, content)
    await fetch(world.gateway, world.urns.pop(), token, method="DELETE")

    reports = await world.age(4)

    assert [0] * 4 == [report.orphans + report.deleted for report in reports]
    await asyncio.to_thread(node.gc)
    assert content == await read(world.gateway, world.session, made["urn"])
