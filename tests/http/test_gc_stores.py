"""Goal: of a store that is another one, does not answer, or has more in it than payloads of ours,
gc takes nothing that it should not, and it goes on where it stopped.

Method: as tests/http/test_gc.py; stores that are moved away, hang, or list what a test wants.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from storage_gateway import collect as collecting
from storage_gateway import listing
from storage_gateway.backends import BlobInfo
from storage_gateway.collect import CollectReport
from storage_gateway.ids import new_random_id
from tests.http.gc_world import (
    HOUR_MS,
    World,
    bucket,
    bucket_world,
    folders,
    world,
    world_of,
)
from tests.http.test_replicas import Folders
from tests.http.test_s3 import PATIENT, s3_backend
from tests.http.test_s3 import running as running_over
from tests.servers.seaweedfs import SeaweedFS

__all__ = ["bucket", "bucket_world", "folders", "world"]

pytestmark = pytest.mark.both_databases(by_day=False)


async def test_of_other_deployments_and_namespaces_nothing_is_touched(
    folders: Folders, world: World
) -> None:
    ours, other = world.gateway.gateway.parts.deployment_id, new_random_id()
    left = [
        f"{other}/main/payloads/{new_random_id()}/0",
        f"{other}/marker",
        f"{ours}/stress-{new_random_id()}/payloads/{new_random_id()}/0",
        f"{ours}/main/manifests/{new_random_id()}/1",
        f"{ours}/main/payloads-of-old/{new_random_id()}/0",
        f"{ours}/main/{new_random_id()}/0",
        f"main/payloads/{new_random_id()}/0",
        "readme.txt",
    ]
    for key in left:
        await world.store().put(key, b"theirs")
    everything = await world.keys(prefix="")

    reports = [await world.collect.run_once(confirm=1000), *await world.age(4)]

    assert [(0, 0, 0)] * 5 == [(r.orphans, r.deleted, r.strange) for r in reports]
    assert everything == await world.keys(prefix="")


@pytest.mark.nightly
async def test_two_deployments_on_one_bucket_never_touch_each_other(
    tmp_path: Path, bucket_world: World, s3_server: SeaweedFS, bucket: str
) -> None:
    """Staging, whose catalog names none of it, is pointed at production's bucket."""
    before = await bucket_world.keys(prefix="")
    (tmp_path / "staging").mkdir()
    own = await asyncio.to_thread(s3_server.new_bucket)
    backend = s3_backend(s3_server, own) | PATIENT
    async with (
        running_over(tmp_path / "staging", backend) as (gateway, session),
        world_of(gateway, session) as staging,
    ):
        staging_members = gateway.gateway.parts.members
        production = bucket_world.gateway.gateway.parts
        staging.collect._members = {"bucket": production.members[0]}
        strangers = [await staging.collect.run_once(confirm=1000), *await staging.age(4)]
        # And were its marker there as well, as if it had been started on it when it was empty:
        marker = gateway.gateway.parts.marker
        await asyncio.to_thread(s3_server.store, bucket, marker, b"x")
        neighbours = [await staging.collect.run_once(confirm=1000), *await staging.age(4)]
        staging.collect._members = {member.name: member for member in staging_members}
        ours = await bucket_world.age(4)

    assert [(1, 0, 0)] * 5 == [(r.skipped, r.seen, r.deleted) for r in strangers]
    assert [(0, 0, 0)] * 5 == [(r.skipped, r.seen, r.deleted) for r in neighbours]
    assert [(0, 2, 0)] * 4 == [(r.skipped, r.seen, r.deleted) for r in ours]
    assert before | {marker} == await bucket_world.keys(prefix="")
    assert await bucket_world.is_whole()


async def test_in_a_store_without_our_marker_nothing_is_deleted(world: World) -> None:
    payload_id = await world.plant()
    await world.age(2)
    await world.store().delete(world.gateway.gateway.parts.marker)

    reports = await world.age(3)

    assert [(1, 0, 0)] * 3 == [(r.skipped, r.deleted, r.unmarked) for r in reports]
    assert f"{payload_id}/0" in await world.keys()
    assert 1 == len(await world.marks())


STRANGE = [
    "readme.txt",
    "A" * 32 + "/0",
    "a" * 31 + "/0",
    "a" * 33 + "/0",
    "a" * 32 + "/00",
    "a" * 32 + "/-1",
    "a" * 32 + "/0.part",
    "a" * 32 + "/roots",
    "a" * 32 + "/0x/0",
    "zzz/0",
]


async def test_a_name_that_is_no_text_is_strange(folders: Folders, world: World) -> None:
    folder = folders.path / "one" / world.payloads
    odd = os.fsencode(folder) + b"/\xff\n"
    await asyncio.to_thread(Path(os.fsdecode(odd)).write_bytes, b"x")

    report = await world.collect.run_once()

    assert (1, 0, True) == (report.strange, report.skipped, report.ended)
    assert await asyncio.to_thread(os.path.exists, odd)


@pytest.mark.parametrize("beside", ["nothing", "an orphan"])
async def test_strange_keys_stay_and_are_told(world: World, beside: str) -> None:
    for name in STRANGE:
        await world.store().put(f"{world.payloads}{name}", b"strange")
    if beside == "an orphan":
        await world.plant("1", "root", payload_id="a" * 32)
    before = await world.keys()

    reports = await world.age(3)

    went = {f"{'a' * 32}/1", f"{'a' * 32}/root"} if beside == "an orphan" else set()
    assert [len(STRANGE)] * 3 == [report.strange for report in reports]
    assert len(went) == sum(report.blobs_deleted for report in reports)
    assert before - went == await world.keys()


async def test_a_store_that_does_not_answer_is_no_empty_one(folders: Folders, world: World) -> None:
    planted = [await world.plant(at=at) for at in range(2)]
    await world.age(2)
    await folders.vanish("one")

    report = await world.collect.run_once()
    await folders.come_back("one")

    assert (1, 0, 1, True) == (report.skipped, report.unmarked, report.deleted, report.ended)
    assert {("one", planted[0])} == set(await world.marks())
    assert 1 == (await world.collect.run_once()).deleted


@pytest.mark.nightly
async def test_a_store_that_hangs_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "SILENCE_S_MAX", 0.2)
    await world.plant(at=1)

    async def hang(key: str) -> BlobInfo:
        await asyncio.Event().wait()
        raise AssertionError(key)

    monkeypatch.setattr(world.gateway.gateway.parts.members[0].store, "stat", hang)
    report = await world.collect.run_once()

    assert (1, 1, True) == (report.skipped, report.marked, report.ended)


async def test_a_store_that_was_not_seen_is_not_looked_at(world: World) -> None:
    await world.plant()
    world.gateway.gateway.parts.members[0].ready = False

    report = await world.collect.run_once()

    assert (1, 2, 0) == (report.skipped, report.seen, report.marked)


async def test_a_listing_out_of_order_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.plant(payload_id="a" * 32)
    store = world.gateway.gateway.parts.members[0].store
    listed = store.list

    async def backwards(prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        for blob in reversed([blob async for blob in listed(prefix, after=after)]):
            yield blob

    monkeypatch.setattr(store, "list", backwards)
    report = await world.collect.run_once()

    assert (1, 0) == (report.skipped, report.marked)


@contextmanager
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(listing, "PAYLOADS_IN_PAGE", 1)
        patched.setattr(collecting, "PAGE", 1)
        yield


async def in_small_turns(world: World) -> list[CollectReport]:
    """Make a round of turns that look at one payload each."""
    reports = [await world.collect.run_once(limit=1)]
    while not reports[-1].ended:
        reports.append(await world.collect.run_once(limit=1))
        assert len(reports) < 50
    return reports


async def goes_on_where_it_stopped(world: World) -> None:
    planted = [await world.plant(payload_id=c * 32) for c in "ad7"]
    confirm = partial(world.collect.run_once, confirm=3)
    world.collect.run_once = confirm  # type: ignore[method-assign]
    with small_pages():
        first = await in_small_turns(world)
        for _ in range(2):
            world.pass_by(2 * HOUR_MS)
            last = await in_small_turns(world)

    seen = sum(report.seen for report in first)
    assert (5 + 2 * (len(world.gateway.gateway.parts.members) - 1), 3) == (
        seen,
        sum(report.marked for report in first),
    )
    assert len(first) >= 5
    assert 3 == sum(report.deleted for report in last)
    assert {0, 1} >= {report.deleted for report in last}
    assert not {key for key in await world.keys() if key.partition("/")[0] in planted}
    assert 2 == len(await world.keys())


async def test_it_goes_on_where_it_stopped(world: World) -> None:
    await goes_on_where_it_stopped(world)


@pytest.mark.nightly
async def test_in_a_bucket_it_goes_on_where_it_stopped(bucket_world: World) -> None:
    await goes_on_where_it_stopped(bucket_world)
