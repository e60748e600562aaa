"""Goal: what a store can do is found out, what the gateway needs and it lacks refuses it, and
nothing of the probe stays behind. Method: a real server, alone and behind one that lies about one
thing.
"""

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from storage_gateway.backends import probe as probe_module
from storage_gateway.backends.probe import probe
from storage_gateway.backends.probe_report import ProbeReport
from storage_gateway.backends.s3_answers import Versioning
from storage_gateway.backends.s3_client import S3Client
from tests.servers.s3 import S3Server
from tests.servers.scripted import HANG, Received, Say, scripted
from tests.servers.seaweedfs import SeaweedFS

from .s3 import Bucket, assert_lacks_nothing, new_bucket, now, s3_settings

DEPLOYMENT = "the-deployment"
VERSIONING = "<VersioningConfiguration><Status>{}</Status></VersioningConfiguration>"
LOCK = "<ObjectLockConfiguration>{}</ObjectLockConfiguration>".format(
    "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
)


@pytest.fixture
async def bucket(s3_server: SeaweedFS) -> AsyncIterator[Bucket]:
    async with new_bucket(s3_server) as made:
        yield made


Forward = Callable[[Received], Say]
Lie = Callable[[Received, Forward], Say | None]


def forward_to(server: S3Server) -> Forward:
    def forward(request: Received) -> Say:
        with closing(
            http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=20)
        ) as connection:
            headers = {name: value for name, value in request.headers.items() if name}
            connection.request(request.method, request.target, request.body, headers)
            answer = connection.getresponse()
            said = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("content-length", "connection", "transfer-encoding")
            }
            return Say(answer.status, answer.read(), said)

    return forward


async def probe_behind(bucket: Bucket, lie: Lie, **changes: Any) -> ProbeReport:  # noqa: ANN401 - of settings
    """Probe the bucket through a server that passes on what it is asked, or lies."""
    forward = forward_to(bucket.server)
    async with scripted(lambda request: lie(request, forward)) as liar:
        settings = s3_settings(bucket.server, bucket.name, endpoint=liar.endpoint, **changes)
        client = S3Client(settings, clock=now)
        try:
            return await probe(client, deployment_id=DEPLOYMENT, clock=now)
        finally:
            await client.close()


def key_of(request: Received) -> str:
    """Return the name of an object within the folder of the probe; empty for the bucket."""
    path = urlsplit(request.target).path.strip("/").split("/")
    return "/".join(path[4:])


def query_of(request: Received) -> str:
    return urlsplit(request.target).query


def error(status: int, code: str) -> Say:
    return Say(status, f"<Error><Code>{code}</Code></Error>".encode())


def kinds(report: ProbeReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def refusals(report: ProbeReport) -> list[str]:
    return [finding.kind for finding in report.refusals]


async def test_a_store_that_has_all_is_refused_nothing(bucket: Bucket) -> None:
    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert_lacks_nothing(report)
    assert report.put_mb_s is not None
    assert report.get_mb_s is not None
    assert report.put_mb_s > 0
    assert report.get_mb_s > 0
    assert [] == await bucket.contents()


async def test_the_needed_part_asks_for_nothing_else(bucket: Bucket) -> None:
    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now, everything=False)

    assert report.deletes
    assert () == report.findings
    assert (None,) * 4 == (
        report.preconditions,
        report.checksums,
        report.put_mb_s,
        report.get_mb_s,
    )


async def test_all_lies_in_a_folder_of_its_own(bucket: Bucket) -> None:
    written = set()

    def watch(request: Received, forward: Forward) -> Say:
        if request.method in ("PUT", "DELETE"):
            written.add("/".join(urlsplit(request.target).path.split("/")[1:4]))
        return forward(request)

    await probe_behind(bucket, watch)

    assert {f"{bucket.name}/{DEPLOYMENT}/probe"} == written


async def test_a_bucket_that_keeps_versions_is_refused_and_left_clean(bucket: Bucket) -> None:
    await bucket.set("versioning", VERSIONING.format("Enabled"))

    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert Versioning.ON is report.versioning
    assert ["versioning"] == kinds(report) == refusals(report)
    assert report.deletes
    assert [] == await bucket.contents()


async def test_a_bucket_that_kept_versions_is_told_so(bucket: Bucket) -> None:
    for status in ("Enabled", "Suspended"):
        await bucket.set("versioning", VERSIONING.format(status))

    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert Versioning.SUSPENDED is report.versioning
    assert ["versioning"] == kinds(report)
    assert [] == refusals(report)
    # This server cannot remove the marks of deletion of such a bucket; they hold no bytes.
    assert [] == await bucket.contents(marks=False)


async def test_a_bucket_with_object_lock_is_refused(bucket: Bucket) -> None:
    await bucket.set("versioning", VERSIONING.format("Enabled"))
    await bucket.set("object-lock", LOCK)

    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert report.object_lock
    assert ["versioning", "object-lock"] == refusals(report)
    assert [] == await bucket.contents()


async def test_versions_are_noticed_by_what_is_kept(bucket: Bucket) -> None:
    """The access key may not ask for the bucket's state, or the store tells a wrong one."""
    await bucket.set("versioning", VERSIONING.format("Enabled"))
    for answer in (error(403, "AccessDenied"), error(501, "NotImplemented")):

        def lie(request: Received, forward: Forward, answer: Say = answer) -> Say:
            return answer if "versioning=" in query_of(request) else forward(request)

        report = await probe_behind(bucket, lie)

        assert Versioning.ON is report.versioning
        assert ["versioning"] == refusals(report)
        assert [] == await bucket.contents()


@pytest.mark.parametrize(
    ("answer", "versioning", "lock"),
    [
        (error(501, "NotImplemented"), Versioning.OFF, False),
        (error(405, "MethodNotAllowed"), Versioning.OFF, False),
        (error(403, "AccessDenied"), None, None),
        (error(400, "InvalidRequest"), None, None),
    ],
)
async def test_a_store_need_not_know_of_versions_and_locks(
    bucket: Bucket, answer: Say, versioning: Versioning | None, lock: bool | None
) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        unknown = ("object-lock=", "versioning=", "versions=")
        return answer if any(one in query_of(request) for one in unknown) else forward(request)

    report = await probe_behind(bucket, lie)

    assert (versioning, lock) == (report.versioning, report.object_lock)
    assert [] == refusals(report)
    assert ([] if versioning else ["versioning", "object-lock"]) == kinds(report)
    assert [] == await bucket.contents()


async def test_another_document_is_no_state(bucket: Bucket) -> None:
    """Some answer a question that they do not know with a listing of the bucket."""
    for what in ("versioning=", "object-lock="):

        def lie(request: Received, forward: Forward, what: str = what) -> Say:
            known = what not in query_of(request)
            return forward(request) if known else Say(200, b"<ListBucketResult/>")

        report = await probe_behind(bucket, lie)

        assert ["unavailable"] == refusals(report)
        assert "something else than a state" in report.findings[0].detail


def stale_misses() -> Lie:
    missed: set[int] = set()

    def lie(request: Received, forward: Forward) -> Say:
        key = key_of(request)
        if request.method == "GET" and key == "small" and len(missed) < 2:
            missed.add(len(missed))
            return error(404, "NoSuchKey")
        return forward(request)

    return lie


def other_bytes(request: Received, forward: Forward) -> Say:
    said = forward(request)
    if key_of(request) == "small" and (request.method, said.status) == ("GET", 200):
        return replace(said, body=said.body[::-1])
    return said


def no_ranges(request: Received, forward: Forward) -> Say:
    headers = {name: value for name, value in request.headers.items() if name != "range"}
    return forward(replace(request, headers=headers))


def other_bytes_of_a_range(request: Received, forward: Forward) -> Say:
    said = forward(request)
    return replace(said, body=said.body[::-1]) if said.status == 206 else said


def whole_beyond_the_end(request: Received, forward: Forward) -> Say:
    said = forward(request)
    return replace(said, status=200) if said.status == 416 else said


def shifted_range(request: Received, forward: Forward) -> Say:
    said = forward(request)
    if said.status == 206:
        return replace(said, headers={**said.headers, "Content-Range": "bytes 0-99/4096"})
    return said


def wrong_size(request: Received, forward: Forward) -> Say:
    said = forward(request)
    if said.status == 206:
        return replace(said, headers={**said.headers, "Content-Range": "bytes 1000-1099/4097"})
    return said


def first_page_again_and_again() -> Lie:
    pages: list[Say] = []

    def lie(request: Received, forward: Forward) -> Say:
        if "list-type" not in query_of(request):
            return forward(request)
        pages.append(pages[0] if pages else forward(request))
        return pages[-1]

    return lie


def only_the_first_page(request: Received, forward: Forward) -> Say:
    said = forward(request)
    if "list-type" not in query_of(request):
        return said
    return replace(said, body=said.body.replace(b"<IsTruncated>true", b"<IsTruncated>false"))


def listed_with_other_sizes(request: Received, forward: Forward) -> Say:
    said = forward(request)
    if "list-type" not in query_of(request):
        return said
    return replace(said, body=said.body.replace(b"<Size>6", b"<Size>7"))


def no_deletes(request: Received, forward: Forward) -> Say:
    first = request.method == "DELETE" and key_of(request) == "list/0"
    return Say(204) if first else forward(request)


def deleted_but_read(request: Received, forward: Forward) -> Say:
    said = forward(request)
    read = (request.method, key_of(request)) == ("GET", "list/0")
    return Say(200, b"list/0") if read and said.status == 404 else said


def deleted_but_listed() -> Lie:
    pages: dict[str, Say] = {}

    def lie(request: Received, forward: Forward) -> Say:
        if "list-type" not in query_of(request):
            return forward(request)
        return pages.setdefault(request.target, forward(request))

    return lie


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (stale_misses(), "reads-after-writes"),
        (other_bytes, "reads-after-writes"),
        (no_ranges, "range-reads"),
        (other_bytes_of_a_range, "range-reads"),
        (whole_beyond_the_end, "range-reads"),
        (shifted_range, "range-reads"),
        (wrong_size, "range-reads"),
        (first_page_again_and_again(), "listing"),
        (only_the_first_page, "listing"),
        (listed_with_other_sizes, "listing"),
        (no_deletes, "deletes"),
        (deleted_but_listed(), "deletes"),
        (deleted_but_read, "deletes"),
    ],
)
async def test_what_is_needed_and_lacking_refuses(bucket: Bucket, lie: Lie, kind: str) -> None:
    report = await probe_behind(bucket, lie)

    assert [kind] == refusals(report)
    assert getattr(report, kind.replace("-", "_")) is False
    finding = report.refusals[0]
    assert finding.detail
    assert finding.remedy


async def test_what_nothing_depends_on_is_only_said(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        unknown = ("if-none-match", "content-md5")
        headers = {name: value for name, value in request.headers.items() if name not in unknown}
        return forward(replace(request, headers=headers))

    report = await probe_behind(bucket, lie)

    assert (False, False) == (report.preconditions, report.checksums)
    assert ["preconditions", "checksums"] == kinds(report)
    assert [] == refusals(report)
    assert [] == await bucket.contents()


async def test_a_store_may_refuse_preconditions_and_checksums(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        asked = {"if-none-match", "content-md5"} & set(request.headers)
        return error(501, "NotImplemented") if asked else forward(request)

    report = await probe_behind(bucket, lie)

    assert (False, False) == (report.preconditions, report.checksums)
    assert [] == refusals(report)


@pytest.mark.parametrize(("off_s", "refused"), [(290, False), (310, True), (-310, True)])
async def test_a_clock_that_is_far_off_is_refused(
    bucket: Bucket, off_s: int, refused: bool
) -> None:
    def there() -> datetime:
        return now() - timedelta(seconds=off_s)

    client = S3Client(s3_settings(bucket.server, bucket.name), clock=there)
    try:
        report = await probe(client, deployment_id=DEPLOYMENT, clock=there, everything=False)
    finally:
        await client.close()

    assert report.clock_ahead_s is not None
    assert abs(report.clock_ahead_s - off_s) < 2
    assert refused == ("clock" in refusals(report))


async def test_a_clock_is_told_by_a_store_that_refuses_its_signatures(bucket: Bucket) -> None:
    def there() -> datetime:
        return now() + timedelta(hours=1)

    client = S3Client(s3_settings(bucket.server, bucket.name), clock=there)
    try:
        report = await probe(client, deployment_id=DEPLOYMENT, clock=there)
    finally:
        await client.close()

    assert ["clock", "unavailable"] == refusals(report)
    assert "behind" in report.findings[0].detail
    assert "set the clocks" in report.findings[1].detail


async def test_a_store_without_a_date_has_no_clock(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        said = forward(request)
        return replace(said, headers={**said.headers, "Date": "noon"})

    report = await probe_behind(bucket, lie)

    assert report.clock_ahead_s is None
    assert () == report.findings


async def test_a_store_that_is_not_there_is_a_finding_not_a_wait(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say | None:
        return HANG

    report = await probe_behind(bucket, lie, deadline_s=0.3)

    assert ["unavailable"] == kinds(report)
    assert "0.3 seconds" in report.findings[0].detail
    assert report.reads_after_writes is None


async def test_a_store_that_is_full_is_a_finding(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        return error(507, "InsufficientStorage") if request.method == "PUT" else forward(request)

    report = await probe_behind(bucket, lie)

    assert ["unavailable"] == refusals(report)
    assert "no space left" in report.findings[0].detail


@pytest.mark.parametrize("at", range(0, 12, 2))
async def test_nothing_stays_behind_when_it_fails(bucket: Bucket, at: int) -> None:
    """The writes from one on are done, and answered as if they were not."""
    puts = []

    def lie(request: Received, forward: Forward) -> Say:
        said = forward(request)
        if request.method != "PUT":
            return said
        puts.append(request)
        return said if len(puts) <= at else error(403, "AccessDenied")

    report = await probe_behind(bucket, lie)

    assert len(puts) == at + 1
    assert ["unavailable"] == refusals(report)
    assert [] == await bucket.contents()


@pytest.mark.parametrize("at", range(0, 12, 2))
@pytest.mark.parametrize("versions", [False, True])
async def test_nothing_stays_behind_when_it_is_cancelled(
    bucket: Bucket, at: int, versions: bool
) -> None:
    """In the midst of a write that was done and not answered yet."""
    if versions:
        await bucket.set("versioning", VERSIONING.format("Enabled"))
    puts = []
    reached = asyncio.Event()

    def lie(request: Received, forward: Forward) -> Say | None:
        said = forward(request)
        if request.method != "PUT":
            return said
        puts.append(request)
        if len(puts) <= at:
            return said
        reached.set()
        return HANG

    probing = asyncio.create_task(probe_behind(bucket, lie))
    await reached.wait()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing

    assert [] == await bucket.contents()


async def test_a_probe_ends_before_others_take_it_for_killed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "PROBE_S_MAX", 0.2)

    report = await probe_behind(bucket, lambda _request, _forward: HANG, deadline_s=20.0)

    assert ["unavailable"] == refusals(report)
    assert "longer than 0.2 seconds" in report.findings[0].detail


async def test_what_could_not_be_removed_is_said(bucket: Bucket) -> None:
    def lie(request: Received, forward: Forward) -> Say:
        stays = request.method == "DELETE" and key_of(request) == "timed/1"
        return error(403, "AccessDenied") if stays else forward(request)

    report = await probe_behind(bucket, lie)

    assert ["left-over"] == kinds(report)
    assert [] == refusals(report)
    assert f"{DEPLOYMENT}/probe/" in report.findings[0].detail
    left = await bucket.contents()
    assert all(key.endswith("/timed/1") for key in left)
    assert left
