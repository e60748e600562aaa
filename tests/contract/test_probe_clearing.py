"""Goal: what a probe wrote that was killed is removed by later ones, and what one is at work on is
not. Method: objects like a probe's in a bucket of a real server, looked at from later times.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import Request, S3Client
from storage_gateway.backends.scratch import (
    ABANDONED_S,
    LISTED_AT_ONCE,
    Scratch,
    clear_abandoned,
    probe_prefix,
)
from tests.servers.seaweedfs import SeaweedFS

from .s3 import Bucket, new_bucket, now, s3_settings

DEPLOYMENT = "the-deployment"
VERSIONING = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@pytest.fixture
async def bucket(s3_server: SeaweedFS) -> AsyncIterator[Bucket]:
    async with new_bucket(s3_server) as made:
        yield made


def later(by_s: float) -> datetime:
    return now() + timedelta(seconds=by_s)


async def test_what_a_killed_probe_left_is_cleared_once_it_cannot_be_at_work(
    bucket: Bucket,
) -> None:
    other = f"{DEPLOYMENT}/main/payloads/p/0"
    await bucket.client.call(Request(method="PUT", key=other, body=b"x"))
    assert await clear_abandoned(bucket.client, DEPLOYMENT, now())
    killed = Scratch(bucket.client, probe_prefix(DEPLOYMENT, now()))
    names = [f"list/{at}" for at in range(LISTED_AT_ONCE + 3)]
    await asyncio.gather(*(killed.put(name, b"x") for name in names))

    for by_s, cleared in ((0, False), (ABANDONED_S - 5, False), (ABANDONED_S + 5, True)):
        assert len(names) + 1 == len(set(await bucket.contents()))
        then = later(by_s)
        assert cleared == await clear_abandoned(bucket.client, DEPLOYMENT, then)

    assert {other} == set(await bucket.contents())


async def test_a_probe_clears_what_a_killed_one_left(
    s3_server: SeaweedFS, bucket: Bucket, tmp_path: Path
) -> None:
    killed = Scratch(bucket.client, probe_prefix(DEPLOYMENT, later(-ABANDONED_S - 5)))
    working = Scratch(bucket.client, probe_prefix(DEPLOYMENT, now()))
    await killed.put("small", b"x")
    await working.put("small", b"x")
    store = S3Store(s3_settings(s3_server, bucket.name), marker="m", spool=tmp_path, clock=now)
    try:
        await store.probe(DEPLOYMENT, everything=False)
    finally:
        await store.close()

    assert {f"{working.prefix}small"} == set(await bucket.contents())


async def test_of_versions_nothing_is_left_either(bucket: Bucket) -> None:
    await bucket.set("versioning", VERSIONING)
    killed = Scratch(bucket.client, probe_prefix(DEPLOYMENT, now()))
    await killed.put("small", b"x")
    await killed.put("small", b"y")

    assert await clear_abandoned(bucket.client, DEPLOYMENT, later(ABANDONED_S + 5))

    assert [] == await bucket.contents()


async def test_clearing_a_store_that_does_not_answer_is_not_done(bucket: Bucket) -> None:
    settings = s3_settings(bucket.server, "no-such-bucket")
    client = S3Client(settings, clock=now)
    try:
        assert not await clear_abandoned(client, DEPLOYMENT, now())
    finally:
        await client.close()
