"""Goal: a bucket that is slow, dead, wrong, closed or damaged is never taken for an empty one, and
what it acknowledged is there. Method: a real server, killed, stopped and spoilt below its API.
"""

import asyncio
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from crypto import SEGMENT_SIZE, Secret
from storage_gateway.backends import BlobInfo
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_client import S3Client
from storage_gateway.backends.s3_signature import Credentials
from storage_gateway.errors import BackendUnavailable, BlobMissing
from tests.certificates import certificate
from tests.servers.seaweedfs import SeaweedFS, seaweedfs

from .s3 import KEY, MARKER, impatient, now, refusals, s3_settings, s3_store

SEGMENT = Random(0).randbytes(SEGMENT_SIZE)


async def test_a_whole_segment_is_kept(s3_server: SeaweedFS, tmp_path: Path) -> None:
    async with s3_store(s3_server, tmp_path) as store:
        writer = store.create(KEY)
        await asyncio.to_thread(writer.write, 0, memoryview(SEGMENT))
        await writer.finish()

        assert BlobInfo(KEY, SEGMENT_SIZE) == await store.stat(KEY)
        assert SEGMENT == await store.get(KEY, 0, SEGMENT_SIZE)
        assert SEGMENT[-70_000:] == await store.get(KEY, SEGMENT_SIZE - 70_000, 70_000)


async def test_a_server_killed_among_puts_loses_nothing_that_it_acknowledged(
    s3_server: SeaweedFS,
    tmp_path: Path,
) -> None:
    async with (
        s3_store(s3_server, tmp_path) as patient,
        impatient(patient, tmp_path, deadline_s=3.0) as store,
    ):
        kept: set[str] = set()
        refused: set[str] = set()

        async def keep_putting(row: int) -> None:
            for at in range(1000):
                key = f"d/main/payloads/p{row}/{at}"
                try:
                    await store.put(key, key.encode() * 2000)
                except BackendUnavailable:
                    refused.add(key)
                    return
                kept.add(key)

        rows = asyncio.gather(*(keep_putting(row) for row in range(8)))
        while len(kept) < 20:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(s3_server.kill)
        await rows
        await asyncio.to_thread(s3_server.start)

        assert 8 == len(refused)
        for key in kept:
            expected = key.encode() * 2000
            assert expected == await patient.get(key, 0, len(expected))
        # Whether these are there is unknown; what is there is whole.
        for key in refused:
            try:
                found = await patient.stat(key)
            except BlobMissing:
                continue
            assert len(key) * 2000 == found.size


async def test_a_server_that_comes_back_in_time_is_waited_for(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with s3_store(s3_server, tmp_path, attempt_s=5.0) as store:
        await store.put(KEY, b"x")
        s3_server.stop()
        reading = asyncio.create_task(store.get(KEY, 0, 1))
        done, _ = await asyncio.wait([reading], timeout=0.3)
        s3_server.resume()

        assert not done
        assert b"x" == await reading


def descriptors() -> int:
    if not Path("/proc/self/fd").exists():
        pytest.skip("not tested: leaks of descriptors; to test it: run on Linux")
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_server_that_hangs_is_unavailable_at_the_deadline(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with (
        s3_store(s3_server, tmp_path) as patient,
        impatient(patient, tmp_path, deadline_s=0.5) as store,
    ):
        await patient.put(KEY, b"x")
        before = descriptors()
        s3_server.stop()
        try:
            for use in (
                store.get(KEY, 0, 1),
                store.put(f"{KEY}0", SEGMENT),
                store.delete(f"{KEY}1"),
                *(store.put(f"{KEY}{at}", SEGMENT) for at in range(2, 6)),
            ):
                with pytest.raises(BackendUnavailable, match=r"did not answer within 0\.5 seconds"):
                    await use
            # A large body that was given up, too: nobody may wait to send the rest of it.
            assert descriptors() <= before
        finally:
            s3_server.resume()

        assert b"x" == await patient.get(KEY, 0, 1)


async def test_a_cancelled_call_ends_and_spoils_no_connection(
    s3_server: SeaweedFS, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    async with s3_store(s3_server, tmp_path, connections_max=2) as store:
        await store.put(KEY, SEGMENT)
        for at in range(1, 21):
            call = (
                store.get(KEY, 0, SEGMENT_SIZE)
                if at % 2
                else store.put(f"{KEY}{at}", SEGMENT[:-at])
            )
            task = asyncio.create_task(call)
            await asyncio.sleep(random.random() * 0.03)
            task.cancel()
            await asyncio.wait([task])
            assert SEGMENT[at : at + 9] == await store.get(KEY, at, 9)
        cut = [blob async for blob in store.list("d/") if blob.key != KEY]
        assert all(SEGMENT_SIZE - int(blob.key.removeprefix(KEY)) == blob.size for blob in cut)


async def test_a_bucket_that_is_not_there_is_unavailable(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    store = S3Store(
        s3_settings(s3_server, "no-such-bucket"), marker=MARKER, spool=tmp_path, clock=now
    )
    try:
        await refusals(store, "no such bucket")
    finally:
        await store.close()


async def test_another_bucket_is_not_an_empty_store(s3_server: SeaweedFS, tmp_path: Path) -> None:
    """Nothing may be written to it, nor removed from it, nor missed in it."""
    async with s3_store(s3_server, tmp_path) as theirs:
        await theirs.put("x/1", b"x")
        ours = S3Store(theirs.settings, marker="another-marker", spool=tmp_path, clock=now)
        try:
            for use in (
                ours.get(KEY, 0, 1),
                ours.stat(KEY),
                ours.put(KEY, b"x"),
                ours.delete("x/1"),
                anext(ours.list("d/")),
            ):
                with pytest.raises(BackendUnavailable, match="lacks the marker"):
                    await use
            assert b"x" == await ours.get("x/1", 0, 1)
        finally:
            await ours.close()
        with pytest.raises(BlobMissing):
            await theirs.stat(KEY)
        assert BlobInfo("x/1", 1) == await theirs.stat("x/1")


async def test_an_emptied_bucket_is_noticed_when_the_marker_was_seen_too_long_ago(
    s3_server: SeaweedFS,
    tmp_path: Path,
) -> None:
    async with s3_store(s3_server, tmp_path) as patient:
        impatient = S3Store(
            patient.settings, marker=MARKER, spool=tmp_path, clock=now, marker_fresh_s=0.0
        )
        try:
            for store in (patient, impatient):
                with pytest.raises(BlobMissing):
                    await store.get(KEY, 0, 1)
            await asyncio.to_thread(s3_server.remove, patient.settings.bucket, MARKER)

            with pytest.raises(BlobMissing):
                await patient.get(KEY, 0, 1)
            with pytest.raises(BackendUnavailable, match="lacks the marker"):
                await impatient.get(KEY, 0, 1)
        finally:
            await impatient.close()


async def test_without_the_right_credentials_it_is_unavailable(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    def hour_off() -> datetime:
        return now() + timedelta(hours=1)

    async with s3_store(s3_server, tmp_path) as store:
        await store.put(KEY, b"x")
        right = store.settings.credentials
        wrong_secret = Credentials(access_key=right.access_key, secret_key=Secret(b"wrong-secret"))
        wrong_key = Credentials(access_key="nobody", secret_key=right.secret_key)
        bucket = store.settings.bucket
        for credentials, clock, said in (
            (wrong_secret, now, "is the secret key right"),
            (wrong_key, now, "does not know the access key"),
            (right, hour_off, "set the clocks"),
        ):
            settings = s3_settings(s3_server, bucket, credentials=credentials)
            closed = S3Store(settings, marker=MARKER, spool=tmp_path, clock=clock)
            try:
                told = await refusals(closed, said)
                assert "wrong-secret" not in told
                assert s3_server.secret_key not in told
            finally:
                await closed.close()


async def test_a_flipped_bit_on_disk_is_never_served(s3_server: SeaweedFS, tmp_path: Path) -> None:
    """This server notices by itself and then gives nothing. Others do not: readers check tags."""
    async with (
        s3_store(s3_server, tmp_path) as patient,
        impatient(patient, tmp_path, deadline_s=2.0) as store,
    ):
        data = Random(1).randbytes(100_000)
        await patient.put(KEY, data)
        await patient.put(f"{KEY}0", b"x")
        await asyncio.to_thread(s3_server.flip_bit, data[50_000:50_100])

        with pytest.raises(BackendUnavailable):
            await store.get(KEY, 0, len(data))
        assert b"x" == await patient.get(f"{KEY}0", 0, 1)


async def test_a_listing_of_several_pages_is_whole(s3_server: SeaweedFS, tmp_path: Path) -> None:
    async with s3_store(s3_server, tmp_path) as store:
        keys = {f"d/{at:04}" for at in range(1003)}
        waiting = iter(keys)

        async def put_some() -> None:
            for key in waiting:
                await store.put(key, b"")

        await asyncio.gather(*(put_some() for _ in range(16)))

        found = [blob.key async for blob in store.list("d/")]
        assert keys == set(found)
        assert len(keys) == len(found)


async def test_over_tls_bodies_are_kept_without_being_signed(tmp_path: Path) -> None:
    files = certificate(tmp_path, "127.0.0.1")
    with seaweedfs(files) as server:
        settings = s3_settings(server, await asyncio.to_thread(server.new_bucket))
        trusting = ssl.create_default_context(cafile=str(files[0]))
        store = S3Store(settings, marker=MARKER, spool=tmp_path, clock=now, tls=trusting)
        try:
            await store.put(MARKER, b"")
            await store.put(KEY, SEGMENT)

            assert SEGMENT[100:200] == await store.get(KEY, 100, 100)
            assert BlobInfo(KEY, SEGMENT_SIZE) == await store.stat(KEY)
        finally:
            await store.close()


async def test_a_bucket_may_be_in_the_name_of_the_host(s3_server: SeaweedFS) -> None:
    settings = s3_settings(s3_server, "bucket", path_style=False)
    client = S3Client(settings, clock=now)
    await client.close()

    # No name below another is looked up in tests.
    host = f"bucket.127.0.0.1:{s3_server.port}"
    assert (f"http://{host}", host, "") == (client._base, client._host, client._root)
