"""Goal: whoever asks whether a gateway is ready is answered soon, however its stores are, does not
make it ask a bucket more often, and learns kinds of faults, not where a store is.

Method: folders and buckets, which fail and hang when they are told to, asked as `/readyz` asks.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from storage_gateway import readiness
from storage_gateway.backends import LocalStore, Member
from storage_gateway.backends.ipfs_gateway import IPFSGateway, IPFSGatewaySettings
from storage_gateway.backends.s3 import S3Store
from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.errors import StorageFull
from storage_gateway.readiness import ANSWER_S_MAX, FRESH_S, Readiness, Watch
from tests.gateway import eventually
from tests.servers.scripted import HANG, Received, Say, Script, Scripted, scripted

from .s3 import MARKER, now
from .several import HungStore
from .test_s3_faults import error, settings

DEPLOYMENT = "the-deployment"
VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
LOCKED = (
    b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    b"</ObjectLockConfiguration>"
)
NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


def well(request: Received) -> Say:
    """Say what a bucket says of which nothing is to be said."""
    _, _, query = request.target.partition("?")
    if "versioning" in query:
        return Say(200, b"<VersioningConfiguration/>")
    if "object-lock" in query:
        return error(404, "ObjectLockConfigurationNotFoundError")
    if "list-type" in query:
        return Say(200, NOTHING)
    if request.target.endswith(MARKER):
        return Say(206, b"m", {"Content-Range": "bytes 0-0/37"})
    return error(404, "NoSuchKey")


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SQLiteCatalog]:
    opened = await asyncio.to_thread(SQLiteCatalog.open, tmp_path / "catalog.sqlite3")
    yield opened
    await asyncio.to_thread(opened.close)


@pytest.fixture
async def folders(tmp_path: Path) -> AsyncIterator[list[HungStore]]:
    """Return two folders with their markers."""
    stores = [LocalStore(tmp_path / name, name=name) for name in ("one", "two")]
    for store in stores:
        await store.put(MARKER, b"marker")
    yield [HungStore(store) for store in stores]
    for store in stores:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def bucket(script: Script, tmp_path: Path) -> AsyncIterator[tuple[S3Store, Scripted]]:
    async with scripted(script) as server:
        store = S3Store(
            replace(settings(server.endpoint), name="bucket"),
            marker=MARKER,
            spool=tmp_path,
            clock=now,
        )
        try:
            yield store, server
        finally:
            await store.close()


@asynccontextmanager
async def watching(
    catalog: SQLiteCatalog,
    *members: Member,
    quorum: int = 1,
    check_room: Callable[[], None] = lambda: None,
    gateways: Sequence[IPFSGateway] = (),
) -> AsyncIterator[Watch]:
    watch = Watch(
        catalog=catalog,
        members=members,
        marker=MARKER,
        deployment_id=DEPLOYMENT,
        quorum=quorum,
        check_room=check_room,
        clock=now,
        gateways=gateways,
    )
    try:
        yield watch
    finally:
        await watch.close()


def members(*stores: HungStore | S3Store, domains: str = "abc") -> list[Member]:
    return [Member(s, domain=d) for s, d in zip(stores, domains, strict=False)]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ANSWER_S_MAX", 0.2)


async def timed(watch: Watch) -> tuple[Readiness, float]:
    began_s = time.monotonic()
    return await watch.check(), time.monotonic() - began_s


def test_a_balancer_is_answered_before_it_gives_up() -> None:
    """Its probes wait for some 5 seconds; the deadline of an operation is 60."""
    assert ANSWER_S_MAX < 5


@pytest.mark.usefixtures("soon")
async def test_a_bucket_that_hangs_is_not_waited_for(
    catalog: SQLiteCatalog, folders: list[HungStore], tmp_path: Path
) -> None:
    async with (
        bucket(lambda _: HANG, tmp_path) as (hanging, _),
        watching(catalog, *members(folders[0], hanging)) as watch,
    ):
        found, took_s = await timed(watch)

    assert took_s < 0.2 + 1.0, "not the store's own deadline of 5 seconds"
    assert (True, False) == (found.ready, found.well)
    assert {
        "store one": "ok",
        "store bucket": "backend_unavailable",
    }.items() <= found.checks.items()


@pytest.mark.usefixtures("soon")
async def test_a_bucket_that_answers_others_is_busy_and_not_away(
    catalog: SQLiteCatalog, tmp_path: Path
) -> None:
    """As where all connections are taken by large bodies, which come through."""
    async with (
        bucket(lambda _: HANG, tmp_path) as (store, _),
        watching(catalog, *members(store)) as watch,
    ):
        store._client.answered_s = time.monotonic() + 60
        found = await watch.check()

    assert found.ready


async def test_a_bucket_counts_as_answering_once_it_did(tmp_path: Path) -> None:
    async with bucket(well, tmp_path) as (store, _):
        before = store.answered_within(60)
        await store.stat(MARKER)
        after = store.answered_within(60)

    assert (False, True) == (before, after)


@pytest.mark.usefixtures("soon")
async def test_a_bucket_is_ready_again_when_one_connection_still_hangs(
    catalog: SQLiteCatalog, tmp_path: Path
) -> None:
    hang = iter([True])
    async with (
        bucket(lambda r: HANG if next(hang, False) else well(r), tmp_path) as (store, _),
        watching(catalog, *members(store)) as watch,
    ):
        watch._stores[0].question._fresh_s = 0.0
        found = [await watch.check(), await watch.check()]

    assert [False, True] == [one.ready for one in found]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("quorum", "domains", "ready"), [(2, "abc", True), (2, "aba", False), (1, "aba", True)]
)
async def test_ready_is_what_has_a_quorum_of_failure_domains(
    catalog: SQLiteCatalog,
    folders: list[HungStore],
    tmp_path: Path,
    quorum: int,
    domains: str,
    ready: bool,
) -> None:
    folders[1].hang("stat")
    async with (
        bucket(well, tmp_path) as (answering, _),
        watching(
            catalog, *members(answering, folders[1], folders[0], domains=domains), quorum=quorum
        ) as watch,
    ):
        found = await watch.check()

    assert ready == found.ready
    names = ("bucket", "two", "one")
    assert ["ok", "backend_unavailable", "ok"] == [found.checks[f"store {n}"] for n in names]


@pytest.mark.usefixtures("soon")
async def test_stores_are_asked_side_by_side_and_a_disk_that_hangs_once(
    catalog: SQLiteCatalog, folders: list[HungStore]
) -> None:
    """Each time that it is asked would keep a thread for as long as it hangs."""
    for folder in folders:
        folder.hang("stat")
    async with watching(catalog, *members(*folders)) as watch:
        found, took_s = await timed(watch)
        await watch.check()
        asked = [folder.asked["stat"] for folder in folders]
        for folder in folders:
            folder.go_on.set()

        async def is_ready() -> bool:
            return (await watch.check()).ready

        await eventually(is_ready, what="two disks")

    assert not found.ready
    assert took_s < 2 * 0.2, "one after the other"
    assert [1, 1] == asked


async def test_a_bucket_is_not_asked_by_each_who_asks(
    catalog: SQLiteCatalog, tmp_path: Path
) -> None:
    async with (
        bucket(well, tmp_path) as (store, server),
        watching(catalog, *members(store)) as watch,
    ):
        found = await asyncio.gather(*(watch.check() for _ in range(20)))
        found.append(await watch.check())
        asked = len(server.received)
        watch._stores[0].question._fresh_s = 0.0
        await watch.check()

        assert all(one.ready for one in found)
        assert 1 == asked
        assert 2 == len(server.received)
        assert FRESH_S <= 1, "what is told must be true"


async def test_since_when_a_store_is_as_it_is(
    catalog: SQLiteCatalog, folders: list[HungStore], tmp_path: Path
) -> None:
    async with watching(catalog, *members(*folders), quorum=2) as watch:
        at_first, again = await watch.check(), await watch.check()
        await asyncio.to_thread((tmp_path / "one").rename, tmp_path / "away")
        gone = await watch.check()
        await asyncio.to_thread((tmp_path / "away").rename, tmp_path / "one")
        back = await watch.check()

    ones = [found.stores[0] for found in (at_first, again, gone, back)]
    assert [True, True, False, True] == [one.ready for one in ones]
    assert ones[0].since == ones[1].since < ones[2].since < ones[3].since
    assert at_first.stores[1] == back.stores[1]


async def test_a_full_disk_is_told_for_each_store(
    catalog: SQLiteCatalog, folders: list[HungStore]
) -> None:
    def full() -> None:
        raise StorageFull("less than the reserve is free")

    async with watching(catalog, *members(*folders), check_room=full) as watch:
        found = await watch.check()

    assert not found.ready
    assert ["storage_full"] * 2 == [found.checks[f"store {name}"] for name in ("one", "two")]


async def test_a_store_that_rests_is_told(catalog: SQLiteCatalog, folders: list[HungStore]) -> None:
    one, two = members(*folders)
    for at in range(3):
        one.writes.fail(at, probe=False)
        two.reads.fail(at, probe=False)
    async with watching(catalog, one, two) as watch:
        found = await watch.check()

    assert [(False, True), (True, False)] == [(s.reads_rest, s.writes_rest) for s in found.stores]


async def test_what_a_look_finds_is_told_and_logged_once(
    catalog: SQLiteCatalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(request: Received) -> Say:
        if "versioning" in request.target:
            return Say(200, VERSIONED)
        if "object-lock" in request.target:
            return Say(200, LOCKED)
        said = well(request)
        return replace(said, headers={**said.headers, "Date": "Sun, 29 Nov 2020 00:00:00 GMT"})

    async with (
        bucket(script, tmp_path) as (store, server),
        watching(catalog, *members(store)) as watch,
    ):
        before = (await watch.check()).stores[0]
        await watch.see_all(0.01)
        found = await watch.check()

    assert (None, ()) == (before.probed, before.findings)
    (state,) = found.stores
    assert {"clock", "versioning", "object-lock"} == {f.kind for f in state.findings}
    assert state.probed is not None
    assert (True, False) == (found.ready, found.well)
    assert {"GET"} == {request.method for request in server.received}, "a look writes nothing"
    logged = [r for r in caplog.records if r.getMessage() == "found out about a store"]
    assert [logging.WARNING] * 3 == [record.levelno for record in logged]


async def test_a_bucket_that_is_back_is_looked_at(
    catalog: SQLiteCatalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was out of reach when the gateway started: it is written to again, too."""
    answers = iter([error(403, "AccessDenied")] * 3)
    async with bucket(lambda r: next(answers, None) or well(r), tmp_path) as (store, _):
        member = Member(store, domain="a", ready=False)
        async with watching(catalog, member) as watch:
            watch._stores[0].question._fresh_s = 0.0
            await watch.see_all(0.01)
            found = await watch.check()

    assert member.ready
    assert found.stores[0].probed is not None
    assert found.well
    assert "found out about a store" not in caplog.text


async def test_a_look_that_is_not_answered_is_taken_again_and_is_no_finding(
    catalog: SQLiteCatalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([error(500)] * 8)
    async with (
        bucket(
            lambda r: well(r) if r.target.endswith(MARKER) else next(answers, None) or well(r),
            tmp_path,
        ) as (store, _),
        watching(catalog, *members(store)) as watch,
    ):
        await watch.see_all(0.01)
        found = await watch.check()

    assert found.well
    assert found.stores[0].probed is not None
    logged = [r for r in caplog.records if r.getMessage() == "found out about a store"]
    assert ["unavailable"] == [vars(record)["kind"] for record in logged]


async def test_what_killed_probes_left_is_removed_once_it_is_old_enough(
    catalog: SQLiteCatalog, tmp_path: Path
) -> None:
    old, young = (f"{DEPLOYMENT}/probe/{began_s:.0f}-x/small" for began_s in (1, now().timestamp()))
    here = [old, young]
    listings = []

    def script(request: Received) -> Say:
        if request.method == "DELETE":
            here.remove(request.target.removeprefix("/b/"))
            return Say(204)
        if "list-type" not in request.target:
            return well(request)
        listings.append(request)
        if len(listings) == 3:  # whoever was at work has removed it
            here.remove(young)
        blobs = "".join(f"<Contents><Key>{k}</Key><Size>1</Size></Contents>" for k in here)
        return Say(200, NOTHING.replace(b"<IsT", f"{blobs}<IsT".encode()))

    async with (
        bucket(script, tmp_path) as (store, server),
        watching(catalog, *members(store)) as watch,
    ):
        await watch.see_all(0.01)

    assert [f"/b/{old}"] == [r.target for r in server.received if r.method == "DELETE"]
    assert 3 == len(listings)


async def test_nothing_goes_on_after_the_end(
    catalog: SQLiteCatalog, folders: list[HungStore]
) -> None:
    folders[0].hang("stat")
    before = asyncio.all_tasks()
    async with watching(catalog, *members(*folders)) as watch:
        asking = asyncio.create_task(watch.check())
        while not folders[0].asked["stat"]:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    assert before == asyncio.all_tasks()


async def test_a_gateway_of_ipfs_is_not_waited_for_and_seldom_asked(
    catalog: SQLiteCatalog, folders: list[HungStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "ANSWER_S_MAX", 3600.0)
    async with scripted(lambda _: HANG) as server:
        stranger = IPFSGateway(IPFSGatewaySettings(name="stranger", url=server.endpoint))
        try:
            async with watching(catalog, *members(folders[0]), gateways=[stranger]) as watch:
                first = await watch.check()

                async def is_asked() -> bool:
                    return bool(server.received)

                await eventually(is_asked, what="a question")
                second = await watch.check()
        finally:
            await stranger.close()

    assert 1 == len(server.received)
    for found in (first, second):
        assert (True, True) == (found.ready, found.well)
        (state,) = found.gateways
        assert ("stranger", False, None, ()) == (
            state.name,
            state.reads_rest,
            state.probed,
            state.findings,
        )
