"""Goal: a bucket that runs full costs uploads that need it, and nothing else: what was acknowledged
is read and erased, another store goes on, and once there is room nothing is left over.

Method: a real server on a small disk, which runs full under the uploads of several clients.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.gateway import OpenSession, RunningGateway, eventually, leftovers, payload_keys
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded
from tests.http.test_replicas import placed
from tests.http.test_s3 import PATIENT, eventually_uploaded, running, s3_backend
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS
from tests.servers.small_disk import SmallDisk, small_disk

CLIENTS = 3


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path) as server:
        yield server


@asynccontextmanager
async def new_bucket(server: S3Server) -> AsyncIterator[str]:
    bucket = await asyncio.to_thread(server.new_bucket)
    yield bucket
    await asyncio.to_thread(server.drop, bucket)


async def uploaded_until_full(
    gateway: RunningGateway, session: OpenSession, random: Random
) -> tuple[dict[str, bytes], list[str]]:
    """Let clients upload until there is no room; return what was acknowledged, and what was not."""
    kept: dict[str, bytes] = {}

    async def keep_uploading(row: int) -> str:
        for at in range(100):
            task, content = f"t{row}x{at}", made_bytes(random.randint(1, 2 * SEGMENT), at)
            answer = await upload(gateway, session.path(task), session.user_token, content)
            if answer.status != 201:
                answer.problem(503, "backend_unavailable")
                return task
            kept[answer.json()["urn"]] = content
        raise AssertionError("the disk is larger than it should be")

    refused = await asyncio.gather(*(keep_uploading(row) for row in range(CLIENTS)))
    return kept, refused


@pytest.mark.nightly
@pytest.mark.parametrize("again", range(3))
async def test_the_only_bucket_is_full(
    tmp_path: Path, full_soon: SmallDisk, seed: int, again: int
) -> None:
    first = made_bytes(SEGMENT)
    async with new_bucket(full_soon) as bucket:
        backend = s3_backend(full_soon, bucket)
        async with running(tmp_path, backend | PATIENT) as (gateway, session):
            token = session.user_token
            document = await uploaded(gateway, session.path("first"), token, first)
        async with running(tmp_path, backend) as (gateway, _):
            await asyncio.to_thread(full_soon.fill, leave=3 * SEGMENT)
            kept, refused = await uploaded_until_full(gateway, session, Random(seed + again))
            for urn, content in kept.items():
                read = await fetch(gateway, urn, token, headers=[PLAINTEXT])
                assert (200, content) == (read.status, read.body)
                assert (await fetch(gateway, urn, token, method="DELETE")).status in (200, 202)
            await asyncio.to_thread(full_soon.make_room)
            for task in refused:
                await eventually_uploaded(gateway, session, task, b"after all")
            await eventually_clean(gateway, session, kept)
            read = await fetch(gateway, document["urn"], token, headers=[PLAINTEXT])
            keys = await payload_keys(gateway.catalog, gateway.gateway.parts.store)

    assert first == read.body
    assert 1 + len(refused) == len(keys)


async def eventually_clean(
    gateway: RunningGateway, session: OpenSession, erased: Iterable[str]
) -> None:
    """Wait until these objects are erased, and nothing is there that no object accounts for."""

    async def is_clean() -> bool:
        for urn in erased:
            shown = await fetch(gateway, urn, session.user_token, part="/manifest")
            if shown.json()["state"] != "erased":
                return False
        return not await leftovers(gateway.catalog, gateway.gateway.parts.store)

    await eventually(is_clean, what="a store with nothing left over")


@pytest.mark.parametrize(
    ("write_quorum", "status"), [(1, 201), pytest.param(2, 503, marks=pytest.mark.nightly)]
)
async def test_one_bucket_of_two_is_full(
    tmp_path: Path, s3_server: SeaweedFS, full_soon: SmallDisk, write_quorum: int, status: int
) -> None:
    content = made_bytes(SEGMENT)
    async with new_bucket(full_soon) as narrow, new_bucket(s3_server) as wide:
        first = s3_backend(full_soon, narrow) | {"name": "narrow"}
        second = s3_backend(s3_server, wide) | {"name": "wide"}
        async with running(tmp_path, first | PATIENT, second | PATIENT) as (gateway, session):
            token = session.user_token
            before = await uploaded(gateway, session.path("t1"), token, content)
        both = (first, second | PATIENT)
        async with running(tmp_path, *both, write_quorum=write_quorum) as (gateway, _):
            await asyncio.to_thread(full_soon.fill, leave=SEGMENT // 2)
            during = await upload(gateway, session.path("t2"), token, content)
            rows = await placed(gateway)
            kept = [before["urn"], *([during.json()["urn"]] if status == 201 else [])]
            read = [await fetch(gateway, urn, token, headers=[PLAINTEXT]) for urn in kept]
        async with running(tmp_path, first, second, write_quorum=write_quorum) as (gateway, _):
            for urn in kept:
                await fetch(gateway, urn, token, method="DELETE")
            await asyncio.to_thread(full_soon.make_room)
            await eventually_uploaded(gateway, session, "t3", content)
            await eventually_clean(gateway, session, kept)

    assert status == during.status
    assert status == 201 or during.problem(503, "backend_unavailable")
    missed = [(0, "narrow", "pending")] if status == 201 else []
    assert missed == [row for row in rows if row[2] != "placed"]
    assert [content] * len(kept) == [answer.body for answer in read]
