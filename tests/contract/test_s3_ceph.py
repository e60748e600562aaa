"""Goal: Ceph, which many providers run, serves as well as the server of the other tests.

Method: a real cluster of one disk. By night only, as its packages are large; the whole contract is
run over it as well. Here is what it does otherwise, and what it says in words of its own.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from crypto import Secret
from storage_gateway.backends.probe import probe
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_answers import Versioning
from storage_gateway.backends.s3_client import Request
from storage_gateway.backends.s3_signature import Credentials
from storage_gateway.errors import BackendUnavailable, BlobMissing, StorageFull
from storage_gateway.stress.tcp_faults import FaultKind, Side
from tests.servers.ceph import Ceph, ceph

from .s3 import (
    KEY,
    MARKER,
    Bucket,
    assert_lacks_nothing,
    impatient,
    new_bucket,
    now,
    refusals,
    s3_settings,
    s3_store,
)
from .test_probe import DEPLOYMENT, VERSIONING
from .test_s3_matrix import DATA, in_body, store_behind_proxy

pytestmark = pytest.mark.nightly


@pytest.fixture
async def store(ceph_server: Ceph, tmp_path: Path) -> AsyncIterator[S3Store]:
    async with s3_store(ceph_server, tmp_path) as opened:
        yield opened


@pytest.fixture
async def bucket(ceph_server: Ceph) -> AsyncIterator[Bucket]:
    async with new_bucket(ceph_server) as made:
        yield made


async def test_the_probe_finds_all_that_it_looks_for(bucket: Bucket) -> None:
    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert_lacks_nothing(report)
    assert [] == await bucket.contents()


@pytest.mark.parametrize(
    ("states", "found", "refusals"),
    [
        pytest.param(["Enabled"], Versioning.ON, ["versioning"], id="on"),
        pytest.param(["Enabled", "Suspended"], Versioning.SUSPENDED, [], id="suspended"),
    ],
)
async def test_versions_are_noticed_and_removed(
    bucket: Bucket, states: list[str], found: Versioning, refusals: list[str]
) -> None:
    for state in states:
        await bucket.set("versioning", VERSIONING.format(state))

    report = await probe(bucket.client, deployment_id=DEPLOYMENT, clock=now)

    assert found is report.versioning
    assert "versioning" in [finding.kind for finding in report.findings]
    assert refusals == [finding.kind for finding in report.refusals]
    assert [] == await bucket.contents()


async def test_a_wrong_digest_is_refused(bucket: Bucket) -> None:
    headers = {"Content-MD5": base64.b64encode(bytes(16)).decode()}
    with pytest.raises(BackendUnavailable, match="400 BadDigest"):
        await bucket.client.call(Request(method="PUT", key=KEY, body=b"x", headers=headers))

    assert [] == await bucket.contents()


async def test_a_flipped_bit_of_a_put_is_noticed(ceph_server: Ceph, tmp_path: Path) -> None:
    async with store_behind_proxy(ceph_server, tmp_path) as (behind, proxy):
        await proxy.inject(in_body(FaultKind.FLIP, Side.REQUEST))
        with pytest.raises(BackendUnavailable, match="XAmzContentSHA256Mismatch"):
            await behind.put(f"{KEY}-flipped", DATA)
        await proxy.heal()

        with pytest.raises(BlobMissing):
            await behind.stat(f"{KEY}-flipped")


async def test_what_is_wrong_with_credentials_and_clocks_is_said(
    ceph_server: Ceph, store: S3Store, tmp_path: Path
) -> None:
    def hour_off() -> datetime:
        return now() + timedelta(hours=1)

    await store.put(KEY, b"x")
    right, bucket = store.settings.credentials, store.settings.bucket
    wrong_secret = Credentials(access_key=right.access_key, secret_key=Secret(b"wrong-secret"))
    wrong_key = Credentials(access_key="nobody", secret_key=right.secret_key)
    for name, credentials, clock, said in (
        (bucket, wrong_secret, now, "is the secret key right"),
        (bucket, wrong_key, now, "does not know the access key"),
        (bucket, right, hour_off, "set the clocks"),
        ("no-such-bucket", right, now, "no such bucket"),
    ):
        settings = s3_settings(ceph_server, name, credentials=credentials)
        closed = S3Store(settings, marker=MARKER, spool=tmp_path, clock=clock)
        try:
            told = await refusals(closed, said)
            assert ceph_server.secret_key not in told
        finally:
            await closed.close()


async def test_a_quota_that_is_used_up_is_a_full_store(ceph_server: Ceph, store: S3Store) -> None:
    data = Random(2).randbytes(100_000)
    await store.put(KEY, data)
    await asyncio.to_thread(ceph_server.set_quota, store.settings.bucket, 150_000)

    with pytest.raises(StorageFull):
        await store.put(f"{KEY}0", data)

    assert data == await store.get(KEY, 0, len(data))
    await store.delete(KEY)
    await store.put(f"{KEY}0", data)


async def test_a_flipped_bit_on_disk_is_never_served(tmp_path: Path) -> None:
    """The disk compares checksums. Of a blob of which no other copy is left nothing is answered any
    more, so it cannot be removed either: it is in a server of its own.
    """
    with ceph() as server:
        settings = s3_settings(server, await asyncio.to_thread(server.new_bucket))
        store = S3Store(settings, marker=MARKER, spool=tmp_path, clock=now)
        try:
            await store.put(MARKER, b"marker")
            data = Random(1).randbytes(100_000)
            await store.put(KEY, data)
            await store.put(f"{KEY}0", b"x")
            await asyncio.to_thread(server.flip_bit, data[50_000:50_100])

            async with impatient(store, tmp_path, deadline_s=2.0) as spoilt:
                for use in (spoilt.get(KEY, 0, len(data)), spoilt.delete(KEY)):
                    with pytest.raises(BackendUnavailable):
                        await use
            assert b"x" == await store.get(f"{KEY}0", 0, 1)
        finally:
            await store.close()


def test_two_servers_do_not_meet_and_leave_nothing_behind(ceph_server: Ceph) -> None:
    with ceph() as other:
        name = other.new_bucket()
        folder, parts = other.folder, other.parts

        assert b"NoSuchBucket" in ceph_server.buckets.ask("GET", f"/{name}")[1]
    assert 3 == len(parts)
    assert None not in [part.poll() for part in parts]
    assert not folder.exists()
    assert ceph_server.secret_key not in repr(ceph_server)
