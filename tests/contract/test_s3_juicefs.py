"""Goal: a store that ignores preconditions, as many do, serves as well as one that keeps them.

Method: a real server that does (MinIO's S3 code, as JuiceFS took it over). The whole contract is
run over it by night; here is what differs, and what might depend on it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from crypto import SEGMENT_SIZE
from storage_gateway.backends import BlobInfo
from storage_gateway.backends.probe import probe
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_answers import Versioning
from storage_gateway.backends.s3_client import ATTEMPTS_MAX
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from storage_gateway.markers import make_marker
from storage_gateway.stress.tcp_faults import FaultKind, Side
from tests.servers.juicefs import JuiceFS, juicefs

from .s3 import MARKER, now, s3_settings, s3_store
from .test_s3_matrix import DATA, in_body, store_behind_proxy

KEY = "d/main/payloads/p/0"
SEGMENT = Random(0).randbytes(SEGMENT_SIZE)


@pytest.fixture
async def store(juicefs_server: JuiceFS, tmp_path: Path) -> AsyncIterator[S3Store]:
    async with s3_store(juicefs_server, tmp_path) as opened:
        yield opened


async def test_the_probe_says_so_and_refuses_nothing(store: S3Store) -> None:
    report = await probe(store._client, deployment_id="d", clock=now)

    assert ["preconditions"] == [finding.kind for finding in report.findings]
    assert (False, True) == (report.preconditions, report.checksums)
    assert () == report.refusals
    assert (Versioning.OFF, False) == (report.versioning, report.object_lock)
    assert [MARKER] == [blob.key async for blob in store.list("")]


async def test_what_was_written_is_read_listed_and_deleted(store: S3Store) -> None:
    writer = store.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(SEGMENT))
    await writer.finish()
    await store.put(f"{KEY}0", b"")

    assert SEGMENT[70_000:90_000] == await store.get(KEY, 70_000, 20_000)
    assert SEGMENT == await store.get(KEY, 0, SEGMENT_SIZE)
    with pytest.raises(BlobCorrupt):
        await store.get(KEY, SEGMENT_SIZE - 5, 10)
    blobs = sorted([blob async for blob in store.list("d/")], key=lambda blob: blob.key)
    assert [BlobInfo(KEY, SEGMENT_SIZE), BlobInfo(f"{KEY}0", 0)] == blobs
    for _ in range(2):  # as who is not sure does it
        await store.delete(KEY)
    with pytest.raises(BlobMissing):
        await store.stat(KEY)


async def test_markers_that_are_made_at_once_are_one(
    juicefs_server: JuiceFS, tmp_path: Path
) -> None:
    """Each put is told that it was done, and nobody finds another marker than its own."""
    bucket = await asyncio.to_thread(juicefs_server.new_bucket)
    stores = [
        S3Store(s3_settings(juicefs_server, bucket), marker="d/marker", spool=tmp_path, clock=now)
        for _ in range(4)
    ]
    try:
        await asyncio.gather(*(make_marker(store, "d/marker") for store in stores))
        assert ["d/marker"] == [blob.key async for blob in stores[0].list("")]
    finally:
        for store in stores:
            await store.close()


async def test_a_flipped_bit_of_a_put_is_noticed(juicefs_server: JuiceFS, tmp_path: Path) -> None:
    """It compares a body with the digest that was signed, which SeaweedFS does not."""
    async with store_behind_proxy(juicefs_server, tmp_path) as (behind, proxy):
        await proxy.inject(in_body(FaultKind.FLIP, Side.REQUEST))
        before = behind.attempts
        with pytest.raises(BackendUnavailable, match="XAmzContentSHA256Mismatch"):
            await behind.put(f"{KEY}-flipped", DATA)
        attempts = behind.attempts - before
        await proxy.heal()

        assert ATTEMPTS_MAX == attempts, "it was right when it left: sent again it may arrive so"
        with pytest.raises(BlobMissing):
            await behind.stat(f"{KEY}-flipped")


async def test_another_bucket_is_told(juicefs_server: JuiceFS, tmp_path: Path) -> None:
    other = S3Store(
        s3_settings(juicefs_server, "no-such-bucket"), marker=MARKER, spool=tmp_path, clock=now
    )
    try:
        for use in (other.stat(KEY), other.put(MARKER, b"x"), anext(other.list("d/"))):
            with pytest.raises(BackendUnavailable, match="no such bucket"):
                await use
    finally:
        await other.close()


async def test_what_was_acknowledged_outlives_a_kill(
    juicefs_server: JuiceFS, store: S3Store
) -> None:
    await store.put(KEY, SEGMENT)

    await asyncio.to_thread(juicefs_server.kill)
    await asyncio.to_thread(juicefs_server.start)

    assert SEGMENT == await store.get(KEY, 0, SEGMENT_SIZE)


def test_two_servers_do_not_meet_and_leave_nothing_behind(juicefs_server: JuiceFS) -> None:
    with juicefs() as other:
        other.new_bucket()
        folder, process = other.folder, other.process

        assert juicefs_server.port != other.port
    assert process is not None
    assert process.poll() is not None
    assert not folder.exists()
    assert juicefs_server.secret_key not in repr(juicefs_server)
