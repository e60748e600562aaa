"""Goal: a bucket whose server has no room left is unavailable for what is written and for nothing
else, and as good as before once there is room. Method: a real server on a small disk, which is
filled up.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from crypto import SEGMENT_SIZE
from storage_gateway.errors import BackendUnavailable, BlobMissing
from tests.servers.small_disk import SmallDisk, small_disk

from .s3 import KEY, impatient, s3_store

DATA = Random(0).randbytes(SEGMENT_SIZE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path) as running:
        yield running


async def test_a_full_disk_loses_nothing_and_takes_nothing_by_halves(
    server: SmallDisk, tmp_path: Path
) -> None:
    async with (
        s3_store(server, tmp_path) as store,
        impatient(store, tmp_path, deadline_s=2.0) as refused,
    ):
        kept = [f"{KEY}-{at}" for at in range(2)]
        for key in kept:
            await store.put(key, DATA)
        await asyncio.to_thread(server.fill, leave=SEGMENT_SIZE // 2)

        # It says InternalError: that it is full is known to its log alone.
        with pytest.raises(BackendUnavailable, match="500 InternalError"):
            await refused.put(KEY, DATA)
        for key in kept:
            assert DATA == await store.get(key, 0, SEGMENT_SIZE)
        with pytest.raises(BlobMissing):
            await store.stat(KEY)
        assert set(kept) == {blob.key async for blob in store.list("d/")}
        await store.delete(kept.pop())

        await asyncio.to_thread(server.make_room)
        await store.put(KEY, DATA)
        assert DATA == await store.get(KEY, 0, SEGMENT_SIZE)
        assert {KEY, *kept} == {blob.key async for blob in store.list("d/")}
