"""Goal: when an object is told `erased`, no byte that the deployment left holds any of its head: no
file, log, store, version, or copy that its operator can open; and nothing brings it back.

Method: real gateways on both databases, a bucket that keeps versions, a node. The same search finds
the head before. PostgreSQL runs with the settings that docs/retention.md asks for, and all of its
files are searched, its log too. Clocks are moved, not waited for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import databases
from tests.gateway import eventually
from tests.http.blind_world import open_blind
from tests.http.erase_world import (
    World,
    everywhere,
    found,
    found_when_flushed,
    own_server,
    pages_need_no_rest,
    reading,
    world_in,
)
from tests.http.searching import head_of
from tests.http.steps import SEGMENT, fetch
from tests.http.test_jobs import run_job
from tests.http.test_keys import rotated
from tests.http.test_manifest_copies import is_brought, pass_over_copies
from tests.http.test_rebuild import lose_catalog, new_token, rebuilt, snapshot
from tests.http.test_replicas import NAMES, Folders

__all__ = ["own_server", "pages_need_no_rest"]

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        yield world


async def test_nothing_of_the_head_is_left(world: World) -> None:
    urn, head = await world.made(size=SEGMENT + 1)
    other, living = await world.made("t2")
    assert everywhere("files") == await found_when_flushed(world, head)

    assert "erasing" == await world.erase(urn)
    await world.recovery.run_once()
    assert "erasing" == await world.erase(urn)
    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)
    assert set() == await found_when_flushed(world, head)
    assert everywhere("files") >= await found(world, living) >= {"files, opened"}
    assert living == await world.head(other)


async def test_it_is_not_erased_while_a_reader_may_see_it(world: World) -> None:
    urn, head = await world.made()
    with ExitStack() as transaction:
        transaction.enter_context(reading(world.gateway.data_dir))
        await world.erase(urn)
        for _ in range(3):
            await world.after_the_horizon()
            assert "erasing" == await world.erase(urn)
        assert await found(world, head)
        assert await world.is_410(urn)

    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)


async def test_it_is_not_erased_while_a_store_is_away(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    settings = {"backends": folders.backends(), "reserve_bytes": 0, "write_quorum": 2}
    async with world_in(tmp_path, **settings) as world:
        urn, head = await world.made()
        await folders.vanish(NAMES[1])
        await world.erase(urn)
        for _ in range(3):
            await world.after_the_horizon()
            assert "erasing" == await world.erase(urn)
        assert {"files, opened"} <= await found(world, head)
        assert await world.is_410(urn)
        await folders.come_back(NAMES[1])

        await world.passed()  # seen again, and emptied: the wait begins
        assert "erasing" == await world.erase(urn)
        await world.after_the_horizon()

        assert "erased" == await world.erase(urn)
        assert set() == await found(world, head)


async def test_a_catalog_made_again_from_the_stores_does_not_bring_it_back(
    world: World, tmp_path: Path
) -> None:
    urn, head = await world.made()
    kept, _ = await world.made("t2")
    await world.erase(urn)
    await world.recovery.run_once()
    await world.after_the_horizon()
    assert "erased" == await world.erase(urn)
    session_id = world.session.session_id
    await world.gateway.gateway.stop()
    await asyncio.to_thread(lose_catalog, world.gateway.data_dir)

    done = await rebuilt(world.gateway.data_dir)

    assert 0 == done.status, done
    async with world_in(tmp_path) as again:
        token = await new_token(again.gateway, session_id)
        (await fetch(again.gateway, urn, token)).problem(410, "erased")
        assert 200 == (await fetch(again.gateway, kept, token)).status
        await again.recovery.run_once()
        await again.after_the_horizon()
        answer = await fetch(again.gateway, urn, token, method="DELETE")
        assert (200, "erased") == (answer.status, answer.json()["state"])
        assert set() == await found(again, head)


async def test_an_old_catalog_that_was_put_back_does_not_bring_it_back(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        urn, head = await world.made()
    data_dir = world.gateway.data_dir
    put_back = await asyncio.to_thread(snapshot, data_dir)
    newest = databases.made.get(data_dir)
    async with world_in(tmp_path) as world:
        # The session that has it is that of before.
        session_id = await session_of(world, urn)
        token = await new_token(world.gateway, session_id)
        await fetch(world.gateway, urn, token, method="DELETE")
        await world.recovery.run_once()
        await world.after_the_horizon()
        answer = await fetch(world.gateway, urn, token, method="DELETE")
        assert "erased" == answer.json()["state"]
    await asyncio.to_thread(put_back)
    if databases.server is None:
        await asyncio.to_thread((data_dir / "kept").unlink)
    else:
        await asyncio.to_thread(databases.server.drop, str(newest))
    assert await found_when_flushed(world, head), "the backup has it"

    done = await rebuilt(data_dir)

    assert 0 == done.status, done
    async with world_in(tmp_path) as again:
        token = await new_token(again.gateway, session_id)
        (await fetch(again.gateway, urn, token)).problem(410, "erased")
        await again.recovery.run_once()
        await again.after_the_horizon()
        answer = await fetch(again.gateway, urn, token, method="DELETE")
        assert (200, "erased") == (answer.status, answer.json()["state"])
        assert set() == await found(again, head)


async def session_of(world: World, urn: str) -> str:
    answer = await fetch(world.gateway, urn, world.gateway.operator_token, part="/manifest")
    return str(answer.json()["session_id"])


async def test_heads_that_a_blind_session_kept_go_too(world: World) -> None:
    blind = await open_blind(world.gateway)
    urn = str((await blind.put("t1", b"content"))["urn"])
    first = head_of((await blind.get(urn)).body)
    former = await blind.rotate()
    answer = await blind.rewrap(urn, former)
    assert 200 == answer.status, answer
    second = head_of((await blind.get(urn)).body)
    await eventually(lambda: is_brought(world.gateway), what="the copies")
    catalog = everywhere()
    for head in (first, second):
        assert catalog <= await found_when_flushed(world, head)

    answer = await blind.ask("DELETE", f"/v1/objects/{urn}")
    assert 202 == answer.status
    await world.recovery.run_once()
    await world.after_the_horizon()

    answer = await blind.ask("DELETE", f"/v1/objects/{urn}")
    assert (200, "erased") == (answer.status, answer.json()["state"])
    for head in (first, second):
        assert set() == await found(world, head)


@pytest.mark.parametrize("kind", ["rewrap", "reseal"])
async def test_heads_that_others_took_the_place_of_go_too(world: World, kind: str) -> None:
    urn, first = await world.made()
    before = await found_when_flushed(world, first)
    await rotated(world.gateway, world.session)
    job = await run_job(world.gateway, world.session.user_token, kind)
    assert 1 == job["progress"]["done"], job
    second = await world.head(urn)
    assert first != second
    await pass_over_copies(world.gateway)
    assert everywhere("files") == before
    assert everywhere("files") <= await found_when_flushed(world, second)

    await world.erase(urn)
    await world.recovery.run_once()
    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    for head in (first, second):
        assert set() == await found(world, head)
