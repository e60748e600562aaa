"""Goal: a gateway whose only bucket is on Ceph does all that it does elsewhere, and loses nothing
when the server dies in the midst of it. Method: a real cluster of one disk, whose gateway is killed
and started again; by night only.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway.config import ConfigError
from tests.contract.s3 import Bucket, new_bucket
from tests.contract.test_probe import VERSIONING
from tests.gateway import eventually, leftovers
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded
from tests.http.test_s3 import eventually_uploaded, keeps_and_erases, running, s3_backend
from tests.servers.ceph import Ceph

pytestmark = pytest.mark.nightly


@pytest.fixture
async def bucket(ceph_server: Ceph) -> AsyncIterator[Bucket]:
    async with new_bucket(ceph_server) as made:
        yield made


@pytest.mark.both_databases
async def test_objects_are_kept_read_and_erased(
    tmp_path: Path, ceph_server: Ceph, bucket: Bucket
) -> None:
    await keeps_and_erases(tmp_path, s3_backend(ceph_server, bucket.name))


async def test_a_server_killed_among_uploads_loses_nothing_that_was_acknowledged(
    tmp_path: Path, ceph_server: Ceph, bucket: Bucket
) -> None:
    contents = [made_bytes(size, seed=size) for size in (1000, SEGMENT + 1)]
    kept: dict[str, bytes] = {}
    async with running(tmp_path, s3_backend(ceph_server, bucket.name)) as (gateway, session):
        token = session.user_token

        async def keep_uploading(row: int) -> str:
            for at in range(100):
                content = contents[at % 2]
                answer = await upload(gateway, session.path(f"t{row}x{at}"), token, content)
                if answer.status != 201:
                    answer.problem(503, "backend_unavailable")
                    return f"t{row}x{at}"
                kept[answer.json()["urn"]] = content
            raise AssertionError("nobody noticed that the server was killed")

        rows = asyncio.gather(*(keep_uploading(row) for row in range(4)))
        await eventually(lambda: asyncio.sleep(0, len(kept) >= 8), what="a few uploads")
        await asyncio.to_thread(ceph_server.kill)
        refused = await rows
        unread = await fetch(gateway, next(iter(kept)), token, headers=[PLAINTEXT])
        await asyncio.to_thread(ceph_server.start)
        for urn, content in kept.items():
            read = await fetch(gateway, urn, token, headers=[PLAINTEXT])
            assert (200, content) == (read.status, read.body)
        for task in refused:
            await eventually_uploaded(gateway, session, task, b"other")

        async def is_clean() -> bool:
            return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

        await eventually(is_clean, what="a bucket with nothing left over")

    unread.problem(503, "backend_unavailable")


async def test_a_quota_that_is_used_up_is_told_and_spoils_nothing(
    tmp_path: Path, ceph_server: Ceph, bucket: Bucket
) -> None:
    content = made_bytes(SEGMENT)
    async with running(tmp_path, s3_backend(ceph_server, bucket.name)) as (gateway, session):
        token = session.user_token
        document = await uploaded(gateway, session.path("t1"), token, content)
        await asyncio.to_thread(ceph_server.set_quota, bucket.name, SEGMENT + SEGMENT // 2)
        refused = await upload(gateway, session.path("t2"), token, content)
        read = await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
        await fetch(gateway, document["urn"], token, method="DELETE")
        await eventually_uploaded(gateway, session, "t2", content)

    refused.problem(507, "storage_full")
    assert content == read.body


async def test_a_bucket_that_keeps_versions_is_refused(
    tmp_path: Path, ceph_server: Ceph, bucket: Bucket
) -> None:
    await bucket.set("versioning", VERSIONING.format("Enabled"))

    with pytest.raises(ConfigError, match="cannot be used: the bucket keeps versions"):
        async with running(tmp_path, s3_backend(ceph_server, bucket.name)):
            raise AssertionError("it started")
