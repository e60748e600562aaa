"""Goal: every keyed store keeps the contract of `storage_gateway.backends.contract`.

Method: one suite over all kinds of stores (tests/contract/stores.py), on real storage. What only a
kind of its own can show, such as power cuts, is beside it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from crypto import LEAF_SIZE
from storage_gateway.backends import BlobInfo, KeyedStore, Range
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing

from .stores import OpenStore

KEY = "deployment/main/payloads/payload/0"
SIZES = [0, 1, 4095, 4096, 65_536, LEAF_SIZE, LEAF_SIZE + 1]


def content(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


async def fetched(opened: OpenStore, *ranges: Range) -> list[bytes]:
    with ThreadPoolExecutor(2) as threads:
        return await opened.store.fetch(ranges, lambda _, data: data, threads)


async def listed(store: KeyedStore, prefix: str) -> list[BlobInfo]:
    return [blob async for blob in store.list(prefix)]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_there(opened: OpenStore, size: int) -> None:
    data = content(size)

    await opened.store.put(KEY, data)

    assert data == await opened.store.get(KEY, 0, size)
    assert BlobInfo(KEY, size) == await opened.store.stat(KEY)


async def test_ranges_are_exact(opened: OpenStore, seed: int) -> None:
    data = content(10_000)
    await opened.store.put(KEY, data)
    random = Random(seed)

    for _ in range(50):
        offset = random.randint(0, len(data))
        size = random.randint(0, len(data) - offset)
        expected = data[offset : offset + size]
        assert expected == await opened.store.get(KEY, offset, size)
        assert [expected] == await fetched(opened, Range(KEY, offset, size))


async def test_ranges_of_several_blobs_are_fetched_in_their_order(opened: OpenStore) -> None:
    data, other = content(1000), content(1000, seed=1)
    await opened.store.put(KEY, data)
    await opened.store.put(f"{KEY}0", other)
    ranges = [(0, 10), (10, 5), (15, 0), (15, 85), (200, 1), (0, 10)]

    found = await fetched(
        opened, *(Range(KEY, *r) for r in ranges), Range(f"{KEY}0", 10, 3), Range(KEY, 13, 3)
    )

    expected = [data[offset : offset + size] for offset, size in ranges]
    assert [*expected, other[10:13], data[13:16]] == found


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (99, 2), (1000, 1), (0, 1 << 20)])
async def test_a_range_beyond_the_end_is_corruption(
    opened: OpenStore, offset: int, size: int
) -> None:
    await opened.store.put(KEY, content(100))

    for read in (
        opened.store.get(KEY, offset, size),
        fetched(opened, Range(KEY, offset, size)),
    ):
        with pytest.raises(BlobCorrupt, match="ends at byte"):
            await read


async def test_a_blob_that_was_cut_short_is_corruption(opened: OpenStore) -> None:
    await opened.store.put(KEY, content(100))
    await asyncio.to_thread(opened.truncate, KEY, 50)

    assert content(100)[:50] == await opened.store.get(KEY, 0, 50)
    with pytest.raises(BlobCorrupt):
        await opened.store.get(KEY, 0, 51)


@pytest.mark.parametrize("beside", [None, "deployment/main/payloads/payload/1", "deployment/x"])
async def test_what_is_not_there_is_missing(opened: OpenStore, beside: str | None) -> None:
    await opened.store.put(beside or "marker", b"")

    for read in (
        opened.store.get(KEY, 0, 1),
        fetched(opened, Range(KEY, 0, 1)),
        opened.store.stat(KEY),
    ):
        with pytest.raises(BlobMissing):
            await read


async def test_below_a_blob_there_is_nothing(opened: OpenStore) -> None:
    await opened.store.put(KEY, b"x")

    with pytest.raises(BlobMissing):
        await opened.store.stat(f"{KEY}/0")
    await opened.store.delete(f"{KEY}/0")
    assert [] == await listed(opened.store, f"{KEY}/")
    assert BlobInfo(KEY, 1) == await opened.store.stat(KEY)


async def test_a_listing_goes_on_behind_a_key(opened: OpenStore) -> None:
    keys = ["a/1/0", "a/1/10", "a/1/2", "a/10/0", "a/10/1", "a/2/0"]
    for key in [*keys, "b/0"]:
        await opened.store.put(key, b"x")

    for after in ["", "A", "a/1/0", "a/1/1", "a/1/10", "a/11", "a/2/0", "a/3"]:
        found = [blob.key async for blob in opened.store.list("a/", after=after)]
        assert [key for key in keys if key > after] == found


async def test_deleting_is_idempotent_and_deletes_nothing_else(opened: OpenStore) -> None:
    neighbours = ["a/1/0", "a/1/10", "a/10/1", "a/2"]
    for key in ["a/1/1", *neighbours]:
        await opened.store.put(key, b"x")

    for _ in range(2):
        await opened.store.delete("a/1/1")
        with pytest.raises(BlobMissing):
            await opened.store.stat("a/1/1")
    assert set(neighbours) == {blob.key for blob in await listed(opened.store, "a/")}


async def test_what_was_never_there_can_be_deleted(opened: OpenStore) -> None:
    await opened.store.put("marker", b"")

    await opened.store.delete(KEY)
    await opened.store.delete("other")

    assert BlobInfo("marker", 0) == await opened.store.stat("marker")


async def test_deleting_the_last_blob_leaves_a_store(opened: OpenStore) -> None:
    await opened.store.put("marker", b"")
    await opened.store.delete("marker")

    with pytest.raises(BlobMissing):
        await opened.store.stat("marker")
    await opened.store.put(KEY, b"x")
    assert b"x" == await opened.store.get(KEY, 0, 1)


async def test_lists_hold_every_blob_of_the_folder_and_no_other(opened: OpenStore) -> None:
    sizes = {f"d/n/{payload}/{index}": index for payload in ("p", "pp") for index in range(12)}
    for key, size in sizes.items():
        await opened.store.put(key, bytes(size))
    await opened.store.put("d/nn/p/0", b"x")
    await opened.store.put("d/n0", b"x")

    for prefix in ("d/n/", "d/n/p/", "d/n/pp/"):
        found = await listed(opened.store, prefix)
        expected = {BlobInfo(key, size) for key, size in sizes.items() if key.startswith(prefix)}
        assert expected == set(found)
        assert len(expected) == len(found)


async def test_a_list_of_what_is_not_there_is_empty(opened: OpenStore) -> None:
    await opened.store.put("d/marker", b"")

    assert [] == await listed(opened.store, "d/n/payloads/p/")
    assert [] == await listed(opened.store, "e/")


BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/.",
    "a/..",
    "../a",
    "a/../../b",
    "a\0b",
    "\0",
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
async def test_a_key_cannot_leave_the_store(opened: OpenStore, key: str) -> None:
    await opened.store.put("marker", b"")
    writer = opened.store.create(key)

    with pytest.raises(ValueError):  # noqa: PT011 - a fault of the caller, of no type of ours
        await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
    await writer.abort()
    for answer in (
        opened.store.put(key, b"x"),
        opened.store.get(key, 0, 1),
        opened.store.stat(key),
        opened.store.delete(key),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - as above
            await answer


@pytest.mark.parametrize(
    "key", ["a/é", "a/漢字/🔑", "a/ b", "a/...", "a/.hidden", "a/~", "a/%2e%2e"]
)
async def test_other_names_are_names(opened: OpenStore, key: str) -> None:
    await opened.store.put(key, b"x")

    assert b"x" == await opened.store.get(key, 0, 1)
    assert [BlobInfo(key, 1)] == await listed(opened.store, "a/")


async def test_leaves_may_come_in_any_order_from_any_thread(opened: OpenStore, seed: int) -> None:
    data = content(8 * LEAF_SIZE - 5)
    offsets = list(range(0, len(data), LEAF_SIZE))
    Random(seed).shuffle(offsets)
    writer = opened.store.create(KEY)

    with ThreadPoolExecutor(4) as threads:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(
                loop.run_in_executor(
                    threads, writer.write, at, memoryview(bytearray(data[at : at + LEAF_SIZE]))
                )
                for at in offsets
            )
        )
    await writer.finish()

    assert data == await opened.store.get(KEY, 0, len(data))
    assert BlobInfo(KEY, len(data)) == await opened.store.stat(KEY)


@pytest.mark.parametrize("size", [4096, 65_536, LEAF_SIZE])
async def test_a_write_that_only_copies_may_be_done_on_the_event_loop(
    opened: OpenStore, size: int
) -> None:
    """What blocks there fails any test (tests/conftest.py)."""
    data = content(size)
    writer = opened.store.create(KEY)

    if writer.only_copies(size):
        writer.write(0, memoryview(data))
    else:
        await asyncio.to_thread(writer.write, 0, memoryview(data))
    await writer.finish()

    assert data == await opened.store.get(KEY, 0, size)


async def test_the_buffer_may_be_used_again_once_a_write_returned(opened: OpenStore) -> None:
    writer = opened.store.create(KEY)
    buffer = bytearray(b"first")

    await asyncio.to_thread(writer.write, 0, memoryview(buffer))
    buffer[:] = b"other"
    await asyncio.to_thread(writer.write, 5, memoryview(buffer))
    await writer.finish()

    assert b"firstother" == await opened.store.get(KEY, 0, 10)


async def test_a_blob_that_was_begun_and_not_written_is_not_there(opened: OpenStore) -> None:
    await opened.store.put("marker", b"")
    writer = opened.store.create(KEY)

    assert [] == await listed(opened.store, "deployment/")
    await writer.abort()
    assert [] == await listed(opened.store, "deployment/")


async def test_an_empty_blob_is_there(opened: OpenStore) -> None:
    await opened.store.create(KEY).finish()

    assert BlobInfo(KEY, 0) == await opened.store.stat(KEY)


async def test_abort_never_raises(opened: OpenStore) -> None:
    unwritten, written, finished = (opened.store.create(f"a/b/{i}") for i in range(3))
    await asyncio.to_thread(written.write, 0, memoryview(b"x"))
    await finished.finish()

    for writer in (unwritten, written, finished):
        for _ in range(2):
            await writer.abort()

    assert BlobInfo("a/b/2", 0) == await opened.store.stat("a/b/2")


async def test_nothing_is_written_after_an_abort(opened: OpenStore) -> None:
    """Else a slow thread could bring back a blob that was deleted a moment ago."""
    await opened.store.put("marker", b"")
    writer = opened.store.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
    await writer.abort()
    await opened.store.delete(KEY)

    with pytest.raises(BackendUnavailable):
        await asyncio.to_thread(writer.write, 1, memoryview(b"x"))
    with pytest.raises(BackendUnavailable):
        await writer.finish()
    assert [] == await listed(opened.store, "deployment/")


async def test_a_blob_deleted_while_it_is_written_is_not_called_durable(opened: OpenStore) -> None:
    await opened.store.put("marker", b"")
    writer = opened.store.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
    await opened.store.delete(KEY)

    with pytest.raises(BackendUnavailable):
        await writer.finish()


async def test_many_at_once(opened: OpenStore) -> None:
    keys = [f"d/n/payloads/{i % 5}/{i}" for i in range(40)]

    await asyncio.gather(*(opened.store.put(key, key.encode()) for key in keys))
    found = await asyncio.gather(*(opened.store.get(key, 0, len(key)) for key in keys))
    await asyncio.gather(*(opened.store.delete(key) for key in keys))

    assert [key.encode() for key in keys] == found
    assert [] == await listed(opened.store, "d/")


async def _uses(store: KeyedStore, *, blob: str) -> list[type[Exception]]:
    """Use a store in every way; return what was raised, none where it worked."""

    async def write() -> None:
        writer = store.create("deployment/main/payloads/new/0")
        try:
            await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
            await writer.finish()
        finally:
            await writer.abort()

    raised: list[type[Exception]] = []
    for use in (
        write(),
        store.put("deployment/main/payloads/new/1", b"x"),
        store.get(blob, 0, 1),
        store.stat(blob),
        store.delete("deployment/main/payloads/gone/0"),
        listed(store, "deployment/main/payloads/gone/"),
        listed(store, "deployment/"),
    ):
        try:
            await use
        except Exception as error:  # noqa: BLE001 - the types are what is asked for
            raised.append(type(error))
    return raised


async def test_a_store_that_vanished_is_unavailable_and_never_empty(opened: OpenStore) -> None:
    await opened.store.put("deployment/marker", b"")
    await opened.store.put(KEY, b"x")
    assert [] == await _uses(opened.store, blob=KEY)

    await asyncio.to_thread(opened.vanish)
    raised = await _uses(opened.store, blob=KEY)
    await asyncio.to_thread(opened.come_back)

    assert [BackendUnavailable] * 7 == raised
    assert b"x" == await opened.store.get(KEY, 0, 1)


async def test_the_store_is_told_apart_after_reading_its_marker_alone(opened: OpenStore) -> None:
    """A process that only started has written nothing yet, and must not write beside the store."""
    await opened.store.put("deployment/marker", b"")
    await opened.store.stat("deployment/marker")

    await asyncio.to_thread(opened.vanish)
    raised = await _uses(opened.store, blob="deployment/marker")
    await asyncio.to_thread(opened.come_back)

    assert [BackendUnavailable] * 7 == raised
