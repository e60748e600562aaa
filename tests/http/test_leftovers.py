"""Goal: what a bucket keeps beside the objects goes, until none of it is left; never what is read,
never what could bring back something that the catalog names, and nothing of anybody else.

Method: a gateway over a bucket of a real server, in which others begin uploads in parts, switch
versioning on, delete and write over; between the two, where a test wants it, one that listens or
answers by itself.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import delete, insert, update

from storage_gateway.backends import s3_leftovers
from storage_gateway.catalog.passes import take_pass
from storage_gateway.catalog.tables import deployment, intents
from storage_gateway.leftovers import NAME, LeftoversReport
from tests.contract.test_probe import LOCK, error, forward_to
from tests.gateway import OpenSession, RunningGateway
from tests.http.leftovers_world import VERSIONING, World, world_over
from tests.http.raw import exchange, request
from tests.http.steps import PLAINTEXT, fetch, made_bytes, uploaded
from tests.servers.scripted import Received, Say, scripted
from tests.servers.seaweedfs import SeaweedFS

STRANGER = "b" * 32


@pytest.fixture
async def world(s3_server: SeaweedFS, tmp_path: Path) -> AsyncIterator[World]:
    async with world_over(s3_server, s3_server.port, tmp_path) as made:
        yield made


async def lay(world: World, task: str = "t1", size: int = 1000) -> tuple[str, str]:
    """Upload; return the URN and the key of the only segment."""
    before = await world.keys()
    made = await uploaded(
        world.gateway, world.session.path(task), world.session.user_token, made_bytes(size)
    )
    (key,) = set(await world.keys()) - set(before)
    return str(made["urn"]), key


async def read(world: World, urn: str) -> bytes:
    answer = await fetch(world.gateway, urn, world.session.user_token, headers=[PLAINTEXT])
    assert 200 == answer.status, answer
    return answer.body


async def erase(world: World, urn: str) -> None:
    answer = await fetch(world.gateway, urn, world.session.user_token, method="DELETE")
    assert answer.status in (200, 202)


async def test_uploads_in_parts_go_and_those_of_others_stay(world: World) -> None:
    ours = [f"{world.prefix}main/payloads/{'a' * 32}/{n}" for n in range(4)]
    ours += [ours[0], f"{world.prefix}elsewhere"]
    for key in [*ours, f"{STRANGER}/main/payloads/x/0", "alone"]:
        await world.begin_upload(key)

    report = await (await world.leftovers(page_max=2)).run_once()

    assert (6, 6, 0, True) == (
        report.uploads,
        report.uploads_removed,
        report.kept,
        report.ended,
    )
    assert ["alone", f"{STRANGER}/main/payloads/x/0"] == sorted(await world.uploads())
    again = await (await world.leftovers()).run_once()
    assert LeftoversReport(ended=True) == again


@pytest.mark.both_databases
async def test_what_is_erased_goes_with_all_its_versions(world: World) -> None:
    """The bucket keeps what was deleted: it must not be there for ever."""
    await world.keep_versions()
    stays, key = await lay(world, "t0")
    goes = [await lay(world, f"t{n}") for n in (1, 2, 3)]
    stranger = f"{STRANGER}/main/payloads/{'a' * 32}/0"
    for _ in range(2):
        await world.do("PUT", stranger, b"x")
    await world.do("DELETE", stranger)
    for urn, of_it in goes:
        await world.do("PUT", of_it, b"as somebody wrote over it")
        await erase(world, urn)

    report = await (await world.leftovers(page_max=2)).run_once()

    assert (9, 9, 0, 0) == (
        report.versions,
        report.versions_removed,
        report.kept,
        report.restorable,
    )
    assert [(key, True)] == [(v.key, v.is_latest) for v in await world.versions()]
    assert made_bytes(1000) == await read(world, stays)
    assert 3 == len(await world.versions(f"{STRANGER}/"))


async def test_of_what_is_read_only_that_stays(world: World) -> None:
    """Written twice; deleted and written again, as repair does it."""
    await world.keep_versions()
    twice, again = await lay(world, "t1"), await lay(world, "t2")
    for _, key in (twice, again):
        status, content = await world.do("GET", key)
        assert 200 == status
        if key == again[1]:
            await world.do("PUT", key, b"rot")
            await world.do("DELETE", key)
        await world.do("PUT", key, content)
    assert 6 == len(await world.versions())

    report = await (await world.leftovers(page_max=1)).run_once()

    assert (4, 4, 0) == (report.versions, report.versions_removed, report.restorable)
    assert [True, True] == [version.is_latest for version in await world.versions()]
    for urn, _ in (twice, again):
        assert made_bytes(1000) == await read(world, urn)


@pytest.mark.both_databases
@pytest.mark.parametrize("how", ["deleted", "written over"])
async def test_what_the_catalog_names_can_be_brought_back(
    world: World, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await world.keep_versions()
    urn, key = await lay(world)
    if how == "deleted":
        await world.do("DELETE", key)
    else:
        await world.do("PUT", key, b"garbage")
    before = await world.versions()

    report = await (await world.leftovers()).run_once()

    assert (1, 0) == (report.restorable, report.versions_removed)
    assert before == await world.versions()
    (told,) = [r.__dict__ for r in caplog.records if "an old version may be right" in r.msg]
    assert (urn, 0, 0, "bucket", key) == tuple(
        told[name] for name in ("urn", "segment", "copies_left", "store", "key")
    )
    assert "bring the right version back" in told["remedy"]
    (latest,) = [version for version in before if version.is_latest]
    await world.do("DELETE", key, versionId=latest.version)
    assert made_bytes(1000) == await read(world, urn)


async def test_what_an_upload_under_way_writes_is_left_alone(world: World) -> None:
    """Its first try may come late, and its second one before."""
    await world.keep_versions()
    key = f"{world.prefix}main/payloads/{'a' * 32}/0"
    await world.do("PUT", key, b"first")
    await world.do("DELETE", key)
    row = {"payload_id": "a" * 32, "object_id": "b" * 32, "instance_id": "c" * 32, "fence": 1}
    row |= {"state": "open", "created_ms": 0}
    await world.gateway.catalog.run(lambda c: c.execute(insert(intents), row))

    under_way = await (await world.leftovers()).run_once()
    await world.gateway.catalog.run(lambda c: c.execute(delete(intents)))
    over = await (await world.leftovers()).run_once()

    assert (2, 0) == (under_way.versions, under_way.versions_removed)
    assert (2, 2) == (over.versions, over.versions_removed)
    assert [] == await world.versions()


async def test_of_copies_of_records_the_newest_generation_can_be_brought_back(
    world: World,
) -> None:
    await world.keep_versions()
    urn, payload_key = await lay(world)
    manifests = f"{world.prefix}main/manifests"
    object_id = urn.rpartition(":")[2]
    keys = {
        "newest": f"{manifests}/{object_id}/1",
        "of no generation any more": f"{manifests}/{object_id}/2",
        "erased": f"{manifests}/{'a' * 32}/1",
        "of a session": f"{world.prefix}main/sessions/{'a' * 32}/1",
        "of claims": f"{world.prefix}main/retentions/{object_id}/1",
        "not ours": f"{manifests}/notes/1",
    }
    for key in keys.values():
        await world.do("PUT", key, b"a head is in it")
        await world.do("DELETE", key)

    report = await (await world.leftovers(page_max=2)).run_once()

    assert (10, 8, 1) == (report.versions, report.versions_removed, report.restorable)
    names = ("payloads", "manifests", "sessions", "retentions")
    folders = [f"{world.prefix}main/{name}/" for name in names]
    kept = {version.key for folder in folders for version in await world.versions(folder)}
    assert {payload_key, keys["newest"], keys["not ours"]} == kept


async def test_of_very_many_versions_the_mark_goes_with_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_leftovers, "VERSIONS_MAX", 2)
    await world.keep_versions()
    urn, key = await lay(world)
    for n in range(4):
        await world.do("PUT", key, f"{n}".encode())
    await erase(world, urn)
    leftovers = await world.leftovers(page_max=2)

    left = []
    for _ in range(6):  # one other than the latest each time, and then that
        await leftovers.run_once()
        kept = await world.versions()
        left.append((len(kept), sum(version.is_marker for version in kept)))

    assert (0, 0) == left[-1]
    assert all(marks == 1 for count, marks in left if count), left


async def test_by_an_old_catalog_nothing_is_removed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.keep_versions()
    _, key = await lay(world)
    await world.do("PUT", key, b"something else")
    await world.gateway.catalog.run(lambda c: c.execute(update(deployment).values(behind_ms=1)))

    leftovers = await world.leftovers()
    caplog.set_level("INFO", "storage_gateway.leftovers")

    behind = [await leftovers.run_once() for _ in range(3)]

    assert [LeftoversReport(behind=True, ended=True)] * 3 == behind
    assert 2 == len(await world.versions())
    told = [r.levelname for r in caplog.records if r.name == "storage_gateway.leftovers"]
    assert ["ERROR"] == told, "it is said once"


async def test_it_goes_on_where_it_stopped_and_rests_after_a_round(world: World) -> None:
    await world.keep_versions()
    urns = [(await lay(world, f"t{n}"))[0] for n in range(5)]
    for urn in urns[2:]:
        await erase(world, urn)
    leftovers = await world.leftovers()

    reports = [await leftovers.run_once(limit=1) for _ in range(6)]
    rest = await leftovers.run_once(pause_s=3600.0)
    assert await world.gateway.catalog.run(lambda c: take_pass(c, NAME, "b" * 32, 3600.0))
    of_another = await leftovers.run_once()

    assert [0, 0, 0, 2, 2, 2] == sorted(report.versions_removed for report in reports)
    assert [*[False] * 5, True] == [report.ended for report in reports]
    assert LeftoversReport() == rest == of_another
    assert 2 == len(await world.versions())


async def test_the_mark_goes_last_and_not_before_all_others_are_gone(world: World) -> None:
    """Else what was erased could be read again."""
    await world.keep_versions()
    urn, key = await lay(world)
    await world.do("PUT", key, b"newer")
    await erase(world, urn)
    kept = await world.versions(key)
    (mark_id,) = [v.version for v in kept if v.is_marker]
    newer, older = [v.version for v in kept if not v.is_marker]
    asked: list[str] = []
    locked = {older}
    forward = forward_to(world.server)

    def watch(received: Received) -> Say:
        query = parse_qs(urlsplit(received.target).query)
        if received.method == "DELETE":
            asked.extend(query["versionId"])
            if query["versionId"][0] in locked:
                return error(403, "AccessDenied")
        return forward(received)

    async with scripted(watch) as between:
        leftovers = await world.leftovers(endpoint=between.endpoint)
        first = await leftovers.run_once()
        assert (3, 1, 1) == (first.versions, first.versions_removed, first.kept)
        assert [older, newer] == asked, "the mark stays as long as anything is below it"
        locked.clear()
        second = await leftovers.run_once()

    assert [older, newer, older, mark_id] == asked
    assert (2, 2, 0) == (second.versions, second.versions_removed, second.kept)
    assert [] == await world.versions()
    assert {
        ("bucket", "version", "found"): 5,
        ("bucket", "version", "removed"): 3,
        ("bucket", "version", "kept"): 1,
    } == dict(leftovers.counts)


async def test_what_is_locked_is_kept_and_stays_hidden(world: World) -> None:
    await world.keep_versions()
    await world.do("PUT", "", LOCK.encode(), **{"object-lock": ""})
    urn, key = await lay(world)
    (version,) = await world.versions()
    until = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    lock = f"<Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate>"
    locked = f"<Retention>{lock}</Retention>".encode()
    await world.do("PUT", key, locked, retention="", versionId=version.version)
    await erase(world, urn)
    leftovers = await world.leftovers()

    reports = [await leftovers.run_once() for _ in range(2)]

    assert [LeftoversReport(keys=1, versions=2, kept=1, ended=True)] * 2 == reports
    assert [False, True] == sorted(version.is_marker for version in await world.versions())
    status, _ = await world.do("GET", key)
    assert 404 == status


async def test_a_bucket_that_kept_versions_once_is_looked_through(world: World) -> None:
    await world.keep_versions()
    urn, _ = await lay(world)
    await world.do("PUT", "", VERSIONING.replace(b"Enabled", b"Suspended"), versioning="")
    later, _ = await lay(world, "t2")
    for one in (urn, later):
        await erase(world, one)
    leftovers = await world.leftovers()

    reports = [await leftovers.run_once() for _ in range(2)]

    # This server cannot remove the marks of deletion of such a bucket; they hold no bytes.
    assert [(3, 1, 2), (2, 0, 2)] == [(r.versions, r.versions_removed, r.kept) for r in reports]
    assert [True, True] == [version.is_marker for version in await world.versions()]


@pytest.mark.parametrize(
    "answer",
    [
        error(501, "NotImplemented"),
        error(405, "MethodNotAllowed"),
        error(403, "AccessDenied"),
        error(404, "NoSuchKey"),
        Say(200, b"<ListBucketResult/>"),
    ],
    ids=["501", "405", "403", "404", "another listing"],
)
async def test_a_bucket_that_does_not_tell_is_noted_once(
    world: World, caplog: pytest.LogCaptureFixture, answer: Say
) -> None:
    urn, _ = await lay(world)
    forward = forward_to(world.server)

    def deaf(received: Received) -> Say:
        query = urlsplit(received.target).query
        unknown = any(f"{one}=" in query for one in ("uploads", "versions", "versioning"))
        return answer if unknown else forward(received)

    async with scripted(deaf) as between:
        leftovers = await world.leftovers(endpoint=between.endpoint)
        reports = [await leftovers.run_once() for _ in range(2)]

    assert [LeftoversReport(unknown=5, ended=True)] * 2 == reports
    told = [r.__dict__["asked"] for r in caplog.records if "does not tell" in r.msg]
    assert ["uploads", "versions"] == told
    assert made_bytes(1000) == await read(world, urn)


async def test_another_bucket_in_its_place_is_left_alone(world: World) -> None:
    """Empty as it is, it says nothing of ours."""
    await world.do("DELETE", f"{world.prefix}marker")
    empty = await (await world.leftovers()).run_once()
    await world.begin_upload(f"{world.prefix}x")

    report = await (await world.leftovers()).run_once()

    assert LeftoversReport(skipped=1, ended=True) == report == empty
    assert [f"{world.prefix}x"] == await world.uploads()


async def test_a_bucket_without_versions_is_asked_for_uploads_alone(world: World) -> None:
    await lay(world)
    asked: list[str] = []
    forward = forward_to(world.server)

    def watch(received: Received) -> Say:
        asked.append(urlsplit(received.target).query.partition("=")[0])
        return forward(received)

    async with scripted(watch) as between:
        report = await (await world.leftovers(endpoint=between.endpoint)).run_once()

    assert LeftoversReport(ended=True) == report
    assert "versions" not in asked


async def test_an_operator_runs_it_and_metrics_tell(world: World) -> None:
    await world.begin_upload(f"{world.prefix}main/payloads/{'a' * 32}/0")
    asked = request("POST", "/v1/admin/passes/leftovers", world.gateway.operator_token)

    answer = await exchange(world.gateway.address, asked)

    assert (200, 1, 1, True) == (
        answer.status,
        answer.json()["uploads"],
        answer.json()["uploads_removed"],
        answer.json()["ended"],
    )
    told = world.gateway.gateway.metrics.text().decode()
    labels = 'kind="upload",outcome="removed",store="bucket"'
    assert f"storage_gateway_bucket_leftovers_total{{{labels}}} 1.0" in told
    assert 'storage_gateway_leftovers_newest{what="uploads_removed"} 1.0' in told


async def test_where_no_store_is_a_bucket_there_is_nothing_to_do(
    gateway: RunningGateway, session: OpenSession
) -> None:
    await uploaded(gateway, session.path("t1"), session.user_token, b"content")
    leftovers = gateway.gateway.upkeep.leftovers

    assert LeftoversReport(ended=True) == await leftovers.run_once()
    async with asyncio.timeout(20):
        await leftovers.run_forever()
