"""Goal: the S3 server of the tests is what the tests take it for. Method: ask it past its S3 API,
and spoil what it keeps.
"""

import asyncio
from pathlib import Path
from random import Random

import pytest

from storage_gateway.backends.s3_client import Request, S3Client
from tests.contract.s3 import now, s3_settings
from tests.servers.seaweedfs import PARTS, SeaweedFS, seaweedfs

KEY = "a/b/0"


def content(size: int) -> bytes:
    return Random(0).randbytes(size)


def test_what_was_stored_outlives_a_kill(s3_server: SeaweedFS) -> None:
    bucket, endpoint = s3_server.new_bucket(), s3_server.endpoint
    s3_server.store(bucket, KEY, content(1000))

    s3_server.kill()
    s3_server.start()

    assert endpoint == s3_server.endpoint
    assert content(1000) == s3_server.stored(bucket, KEY)


def test_a_dropped_bucket_is_gone(s3_server: SeaweedFS) -> None:
    bucket = s3_server.new_bucket()
    s3_server.store(bucket, KEY, content(1000))

    s3_server.drop(bucket)

    with pytest.raises(AssertionError):
        s3_server.stored(bucket, KEY)


def test_requests_are_counted_by_bucket_and_method(s3_server: SeaweedFS) -> None:
    bucket, other = s3_server.new_bucket(), s3_server.new_bucket()
    settings = s3_settings(s3_server, bucket)

    async def ask() -> None:
        client = S3Client(settings, clock=now)
        try:
            for key in ("a", "b"):
                await client.call(Request(method="PUT", key=key, body=b"x"))
            await client.call(Request(method="GET", key="a", byte_range=(0, 1)))
            await client.call(Request(method="GET", key="missing"))
        finally:
            await client.close()

    asyncio.run(ask())

    assert (2, 1) == (s3_server.requests(bucket, "PUT"), s3_server.requests(bucket, "GET"))
    assert 0 == s3_server.requests(other, "PUT")


def test_a_truncated_object_is_shorter(s3_server: SeaweedFS) -> None:
    bucket = s3_server.new_bucket()
    s3_server.store(bucket, KEY, content(1000))

    s3_server.truncate(bucket, KEY, 10)

    assert content(1000)[:10] == s3_server.stored(bucket, KEY)


def test_a_flipped_bit_is_seen_on_disk(s3_server: SeaweedFS) -> None:
    bucket, data = s3_server.new_bucket(), content(4000)
    s3_server.store(bucket, KEY, data)

    s3_server.flip_bit(data)

    with pytest.raises(AssertionError, match="in no file"):
        s3_server.flip_bit(data)
    s3_server.flip_bit(data[1:])


def test_two_servers_do_not_meet_and_leave_nothing_behind(s3_server: SeaweedFS) -> None:
    with seaweedfs() as other:
        bucket = other.new_bucket()
        other.store(bucket, KEY, b"x")
        with pytest.raises(AssertionError):
            s3_server.stored(bucket, KEY)
        folder, ports = other.folder, other.ports

    assert not folder.exists()
    sockets = [f"seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock" for part in PARTS]
    assert [] == [name for name in sockets if Path("/tmp", name).exists()]


def test_its_secret_is_not_shown(s3_server: SeaweedFS) -> None:
    assert s3_server.secret_key not in repr(s3_server)
