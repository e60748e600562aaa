"""Goal: a metered store changes nothing, and tells of each operation once, however it ended."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage_gateway.backends import LocalStore, Range
from storage_gateway.backends.faulty import FaultyStore
from storage_gateway.backends.metered import MeteredStore, Operation
from storage_gateway.errors import BackendUnavailable, BlobMissing

KEY = "deployment/main/payloads/payload/0"


class Seen:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, int, int]] = []

    def __call__(self, done: Operation) -> None:
        assert done.seconds >= 0
        self.told.append((done.store, done.operation, done.outcome, done.sent, done.received))


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[FaultyStore]:
    local = LocalStore(tmp_path / "store", name="disk")
    yield FaultyStore(local, seed=1)
    await asyncio.to_thread(local.close)


async def test_each_operation_is_told_of_with_its_bytes(faulty: FaultyStore) -> None:
    seen = Seen()
    store = MeteredStore(faulty, seen)
    await store.put(KEY, b"12345")
    assert b"234" == await store.get(KEY, 1, 3)
    with ThreadPoolExecutor(1) as threads:
        await store.fetch([Range(KEY, 0, 2), Range(KEY, 2, 2)], lambda _, data: data, threads)
    await store.stat(KEY)
    assert [KEY] == [blob.key async for blob in store.list("deployment/main/payloads/payload/")]
    await store.delete(KEY)
    writer = store.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(b"123"))
    await asyncio.to_thread(writer.write, 3, memoryview(b"4567"))
    assert ("disk",) == await writer.finish()

    assert [
        ("disk", "put", "ok", 5, 0),
        ("disk", "read", "ok", 0, 3),
        ("disk", "read", "ok", 0, 4),
        ("disk", "stat", "ok", 0, 0),
        ("disk", "list", "ok", 0, 0),
        ("disk", "delete", "ok", 0, 0),
        ("disk", "write", "ok", 7, 0),
    ] == seen.told


async def test_failures_are_told_of_by_their_code_and_raised(faulty: FaultyStore) -> None:
    await faulty.put("marker", b"")
    seen = Seen()
    store = MeteredStore(faulty, seen)
    with pytest.raises(BlobMissing):
        await store.stat(KEY)
    faulty.faults = faulty.faults.__class__(refused={"write": 1.0, "put": 1.0})
    with pytest.raises(BackendUnavailable):
        await store.put(KEY, b"x")
    writer = store.create(KEY)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
    await writer.abort()

    assert [
        ("disk", "stat", "blob_missing", 0, 0),
        ("disk", "put", "backend_unavailable", 0, 0),
        ("disk", "write", "backend_unavailable", 0, 0),
    ] == seen.told


async def test_who_is_cancelled_is_told_of_as_that(faulty: FaultyStore) -> None:
    seen = Seen()
    store = MeteredStore(faulty, seen)
    faulty.faults = faulty.faults.__class__(hang={"put": 1.0}, hang_s=60.0)
    asked = asyncio.create_task(store.put(KEY, b"x"))
    while not faulty.asked["put"]:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked

    assert [("disk", "put", "cancelled", 0, 0)] == seen.told
