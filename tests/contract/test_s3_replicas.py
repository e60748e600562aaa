"""Goal: a bucket and a folder are as good as the better of them: whatever becomes of the bucket,
what is right in the folder is served, and nothing is told missing that is only out of reach.
Method: a real server, killed and spoilt.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage_gateway.backends import LocalStore, Member, Range, Replicas, replica_reads
from storage_gateway.backends.health import OBSERVED_MIN
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import RETRIES_SAVED_MAX
from storage_gateway.errors import BlobCorrupt
from tests.servers.s3 import HOST, free_ports
from tests.servers.seaweedfs import SeaweedFS

from .s3 import MARKER, now, s3_store
from .test_s3_faults import settings

KEY = "d/main/payloads/p/0"
CONTENT = b"content of a blob" * 1000


@dataclass(frozen=True)
class Both:
    """The bucket, which is read first, and the folder; what was told of bad replicas."""

    together: Replicas
    bucket: S3Store
    folder: LocalStore
    bad: list[tuple[str, str, str]]

    async def write(self) -> tuple[str, ...]:
        writer = self.together.create(KEY)
        try:
            await asyncio.to_thread(writer.write, 0, memoryview(CONTENT))
            return await writer.finish()
        finally:
            await writer.abort()

    async def read(self) -> bytes:
        def check(_: int, data: bytes) -> bytes:
            if data != CONTENT:
                raise BlobCorrupt("not the content")
            return data

        with ThreadPoolExecutor(1) as threads:
            found = await self.together.fetch([Range(KEY, 0, len(CONTENT))], check, threads)
        return b"".join(found)


@asynccontextmanager
async def both(server: SeaweedFS, folder: Path) -> AsyncIterator[Both]:
    bad: list[tuple[str, str, str]] = []
    local = LocalStore(folder / "store")
    async with s3_store(server, folder) as bucket:
        await local.put("marker", b"")
        together = Replicas(
            [Member(bucket, domain="a"), Member(local, domain="b")],
            write_quorum=1,
            on_bad=lambda key, name, kind: bad.append((key, name, kind.__name__)),
        )
        yield Both(together, bucket, local, bad)
        await together.close()
        await asyncio.to_thread(local.close)


async def test_both_get_it(s3_server: SeaweedFS, tmp_path: Path) -> None:
    async with both(s3_server, tmp_path) as stores:
        placed = await stores.write()
        await stores.together.wait_late()

        assert set(placed) <= {"s3", "local"}
        assert placed
        for store in (stores.bucket, stores.folder):
            assert CONTENT == await store.get(KEY, 0, len(CONTENT))


async def test_without_the_server_the_folder_takes_and_gives(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with both(s3_server, tmp_path) as stores:
        await asyncio.to_thread(s3_server.kill)

        assert ("local",) == await stores.write()
        assert CONTENT == await stores.read()
        assert [] == stores.bad


async def test_without_the_bucket_nothing_is_told_missing(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with both(s3_server, tmp_path) as stores:
        await stores.write()
        await stores.together.wait_late()
        await asyncio.to_thread(s3_server.drop, stores.bucket.settings.bucket)

        assert CONTENT == await stores.read()
        assert [] == stores.bad


async def test_a_replica_that_is_not_in_the_bucket_is_told_missing(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with both(s3_server, tmp_path) as stores:
        await stores.write()
        await stores.together.wait_late()
        await asyncio.to_thread(s3_server.remove, stores.bucket.settings.bucket, KEY)

        assert CONTENT == await stores.read()
        assert [(KEY, "s3", "BlobMissing")] == stores.bad


async def test_a_replica_that_was_exchanged_is_told_corrupt(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with both(s3_server, tmp_path) as stores:
        await stores.write()
        await stores.together.wait_late()
        other = CONTENT[:-1] + b"?"
        await asyncio.to_thread(s3_server.store, stores.bucket.settings.bucket, KEY, other)

        assert CONTENT == await stores.read()
        assert [(KEY, "s3", "BlobCorrupt")] == stores.bad


async def test_who_refuses_connections_is_left_alone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is tried again, another store answers, and nobody hears of the failure: so it is one
    only once nothing is left of the retries, and each such read takes at least one of them.
    """
    monkeypatch.setattr(replica_reads, "MEASURED_EVERY", 1)
    monkeypatch.setattr(replica_reads, "HEDGE_SHARE", 1.0)
    local = LocalStore(tmp_path / "store")
    (port,) = free_ports(1)
    at = settings(f"http://{HOST}:{port}")
    bucket = S3Store(at, marker=MARKER, spool=tmp_path, clock=now)
    refusing = Member(bucket, domain="a")
    together = Replicas([refusing, Member(local, domain="b")], write_quorum=1)
    for _ in range(OBSERVED_MIN):
        refusing.latency.observe(0.001, 0.0)  # as quick as it was, before
    try:
        await local.put(KEY, CONTENT)
        reads = 0
        while refusing.reads.is_closed and reads < 5 * RETRIES_SAVED_MAX:
            assert CONTENT == await Both(together, bucket, local, []).read()
            reads += 1
    finally:
        await together.close()
        await bucket.close()
        await asyncio.to_thread(local.close)

    assert not refusing.reads.is_closed
    assert bucket.attempts > bucket.calls, "it was tried again as long as that was allowed"
