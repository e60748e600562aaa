"""Goal: several stores are as good as the best of them, and never count as more than they are.

Method: local stores with faults of their own behind `Replicas`; each test says what one of them
does, and what the whole must then do. The suite shows that it keeps the contract of one store.
"""

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage_gateway.backends import Range
from storage_gateway.backends import replicas as replicas_module
from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull
from tests.gateway import DEADLINE_S

from .several import (
    CONTENT,
    DELETES_FAIL,
    FINISHES_FAIL,
    KEY,
    LISTS_FAIL,
    READS_FAIL,
    WRITES_FAIL,
    Stores,
    fetched,
    is_content,
    spoil,
    written,
)


async def test_all_that_are_well_get_it(stores: Stores) -> None:
    assert ("one", "three", "two") == await written(stores.together(write_quorum=1))
    for name in ("one", "two", "three"):
        assert CONTENT == await asyncio.to_thread(stores.file(name).read_bytes)


@pytest.mark.parametrize("faults", [WRITES_FAIL, FINISHES_FAIL], ids=["write", "finish"])
async def test_one_that_fails_is_left_out(stores: Stores, faults: StoreFaults) -> None:
    stores.two.faults = faults

    assert ("one", "three") == await written(stores.together(write_quorum=2))


@pytest.mark.parametrize("faults", [WRITES_FAIL, FINISHES_FAIL], ids=["write", "finish"])
async def test_below_the_quorum_it_is_not_stored(stores: Stores, faults: StoreFaults) -> None:
    stores.one.faults = stores.two.faults = faults

    with pytest.raises(BackendUnavailable, match="2 stores must take"):
        await written(stores.together(write_quorum=2))


async def test_below_the_quorum_no_more_is_taken(stores: Stores) -> None:
    stores.one.faults = stores.two.faults = WRITES_FAIL
    together = stores.together(write_quorum=2)
    writer = together.create(KEY)

    with pytest.raises(BackendUnavailable):
        await asyncio.to_thread(writer.write, 0, memoryview(CONTENT))
    await writer.abort()
    with pytest.raises(BackendUnavailable):
        await together.put("other", b"x")


async def test_a_domain_counts_once_however_many_stores_are_in_it(stores: Stores) -> None:
    stores.three.faults = WRITES_FAIL

    with pytest.raises(BackendUnavailable):
        await written(stores.together(write_quorum=2, domains="aab"))


async def test_a_full_store_is_told_as_full_when_it_is_needed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("no space left in store one")

    monkeypatch.setattr(stores.one, "before_blocking", full)
    together = stores.together(write_quorum=3)

    with pytest.raises(StorageFull):
        await written(together)
    await together.delete(KEY)
    assert ("three", "two") == await written(stores.together(write_quorum=2))


async def test_a_quorum_that_cannot_be_is_refused(stores: Stores) -> None:
    for write_quorum, domains in ((4, "abc"), (3, "aab"), (0, "abc")):
        with pytest.raises(ValueError, match="failure domains"):
            stores.together(write_quorum=write_quorum, domains=domains)


async def test_who_lags_behind_the_quorum_is_not_waited_for_and_gets_it_later(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    stores.three.go_on.clear()
    together = stores.together(write_quorum=2)

    assert ("one", "two") == await written(together)
    assert 1 == together.members[2].lagging
    stores.three.go_on.set()
    await together.wait_late()

    assert CONTENT == await asyncio.to_thread(stores.file("three").read_bytes)
    assert 0 == together.members[2].lagging
    assert [] == caplog.records, "it was synced, and not given up"


async def test_who_lags_too_far_behind_is_left_out_until_it_has_caught_up(stores: Stores) -> None:
    stores.three.go_on.clear()
    together = stores.together(write_quorum=2)
    for number in range(replicas_module.LAGGING_MAX):
        await together.create(f"{KEY}/{number}").finish()

    assert ["one", "two"] == [m.name for m, _ in together.create(KEY)._writers]
    stores.three.go_on.set()
    await together.wait_late()
    assert 3 == len(together.create(KEY)._writers)


async def test_who_lags_is_asked_all_the_same_where_the_quorum_needs_it(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    together.members[2].lagging = replicas_module.LAGGING_MAX

    assert ("one", "three", "two") == await written(together)


async def test_closing_gives_up_what_lags(stores: Stores) -> None:
    stores.three.go_on.clear()
    together = stores.together(write_quorum=2)
    await written(together)

    await together.close()

    assert 0 == together.members[2].lagging
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_one_that_was_not_seen_to_be_ours_is_not_written_to(stores: Stores) -> None:
    together = stores.together(write_quorum=1)
    together.members[0].ready = False

    assert ("three", "two") == await written(together)
    await together.put("other", b"x")
    assert [False, True] == [(stores.folder / n / "other").exists() for n in ("one", "two")]


async def test_who_is_not_written_to_is_named_when_the_quorum_needs_it(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    together.members[0].ready = False

    with pytest.raises(BackendUnavailable, match=r"out of reach: one\Z"):
        await written(together)


async def test_one_that_was_not_seen_to_be_ours_is_no_witness_of_absence(stores: Stores) -> None:
    """Its folder may be the mount point, and what should go may lie on the disk."""
    together = stores.together(write_quorum=1)
    together.members[0].ready = False
    await written(together)
    for name in ("two", "three"):
        await asyncio.to_thread(stores.file(name).unlink)

    with pytest.raises(BackendUnavailable, match="store one was not seen"):
        await together.delete(KEY)
    with pytest.raises(BackendUnavailable, match="store one was not seen"):
        assert [] == [blob async for blob in together.list("deployment/")]
    for use in (fetched(together), together.get(KEY, 0, 1), together.stat(KEY)):
        with pytest.raises(BackendUnavailable, match="store one was not seen"):
            await use

    together.members[0].ready = True
    await together.delete(KEY)
    with pytest.raises(BlobMissing):
        await fetched(together)


async def test_what_was_left_out_of_a_write_is_let_go_of(stores: Stores) -> None:
    """A file that stays open is a descriptor lost with every segment, and space on a full disk."""

    def still_open() -> list[str]:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [str(link) for link in links if link.is_relative_to(stores.folder)]

    if not Path("/proc/self/fd").exists():
        pytest.skip("not tested: leaks of descriptors; to test it: run on Linux")
    stores.two.faults = StoreFaults(torn=1.0)
    together = stores.together(write_quorum=2)
    writer = together.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(CONTENT))
    assert 3 == len(await asyncio.to_thread(still_open))

    assert ("one", "three") == await writer.finish()
    await together.wait_late()

    assert [] == await asyncio.to_thread(still_open)


async def test_a_cancelled_finish_leaves_nothing_at_work(stores: Stores) -> None:
    for store in (stores.one, stores.two, stores.three):
        store.go_on.clear()
    together = stores.together(write_quorum=2)
    writing = asyncio.create_task(together.create(KEY).finish())
    await asyncio.sleep(0)

    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_read_goes_on_to_who_can_serve(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.faults = stores.two.faults = READS_FAIL

    assert CONTENT == await fetched(together)
    assert CONTENT == await together.get(KEY, 0, len(CONTENT))
    assert len(CONTENT) == (await together.stat(KEY)).size
    assert [] == stores.bad, "out of reach is not bad"


def shorten(file: Path) -> None:
    file.write_bytes(CONTENT[:-1])


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(Path.unlink, "BlobMissing"), (spoil, "BlobCorrupt"), (shorten, "BlobCorrupt")],
)
async def test_a_bad_replica_is_replaced_and_told_of(
    stores: Stores, damage: Callable[[Path], object], kind: str
) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await asyncio.to_thread(damage, stores.file("one"))

    assert CONTENT == await fetched(together, is_content)

    assert [(KEY, "one", kind)] == stores.bad


async def test_each_range_is_taken_from_who_has_it_right(stores: Stores) -> None:
    """No store has all: the first half is right in one, the second in another."""
    together = stores.together(write_quorum=3)
    await written(together)
    half = len(CONTENT) // 2
    one, two = CONTENT[:half] + bytes(len(CONTENT) - half), bytes(half) + CONTENT[half:]
    await asyncio.to_thread(stores.file("one").write_bytes, one)
    await asyncio.to_thread(stores.file("two").write_bytes, two)
    await asyncio.to_thread(stores.file("three").unlink)
    ranges = [Range(KEY, 0, half), Range(KEY, half, len(CONTENT) - half)]
    wanted = [CONTENT[:half], CONTENT[half:]]

    def check(at: int, data: bytes) -> bytes:
        if data != wanted[at]:
            raise BlobCorrupt("not the content")
        return data

    with ThreadPoolExecutor(1) as threads:
        assert wanted == await together.fetch(ranges, check, threads)


@pytest.mark.parametrize(
    ("faults", "damage", "told"),
    [
        (READS_FAIL, Path.unlink, BackendUnavailable),
        (READS_FAIL, spoil, BackendUnavailable),
        (StoreFaults(), Path.unlink, BlobMissing),
        (StoreFaults(), spoil, BlobCorrupt),
    ],
    ids=["unreachable, missing", "unreachable, corrupt", "missing", "corrupt"],
)
async def test_nothing_is_called_lost_that_may_be_where_nobody_can_look(
    stores: Stores,
    faults: StoreFaults,
    damage: Callable[[Path], object],
    told: type[Exception],
) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.faults = faults
    for name in ("one", "two", "three"):
        await asyncio.to_thread(damage, stores.file(name))

    with pytest.raises(told):
        await fetched(together, is_content)


async def test_a_deletion_reaches_whom_it_can_and_says_that_it_did_not_reach_all(
    stores: Stores,
) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.faults = DELETES_FAIL

    with pytest.raises(BackendUnavailable):
        await together.delete(KEY)
    assert [True, False, False] == [stores.file(n).exists() for n in ("one", "two", "three")]

    stores.one.heal()
    await together.delete(KEY)
    assert not stores.file("one").exists()


async def test_a_list_tells_what_it_can_before_it_fails(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await stores.two.put("deployment/main/payloads/payload/1", b"x")
    stores.one.faults = LISTS_FAIL
    keys = [KEY, "deployment/main/payloads/payload/1"]

    listing = together.list("deployment/")
    assert keys == [(await anext(listing)).key for _ in keys]
    with pytest.raises(BackendUnavailable):
        await anext(listing)

    stores.one.heal()
    assert keys == [blob.key async for blob in together.list("deployment/")]


async def test_who_has_a_quorum_does_not_wait_long_for_a_store_that_hangs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the quorum itself took."""
    monkeypatch.setattr(replicas_module, "GRACE_S_MAX", 0.0)
    together = stores.together(write_quorum=2)
    stores.three.hang("finish")
    try:
        writer = together.create(KEY)
        monkeypatch.setattr(writer, "_clock", itertools.count(0, 3600).__next__)
        async with asyncio.timeout(DEADLINE_S):
            placed = await writer.finish()
    finally:
        stores.three.go_on.set()
        await together.wait_late()
        await together.close()

    assert ("one", "two") == placed
