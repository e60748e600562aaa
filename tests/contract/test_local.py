"""Goal: what the disk answers is told apart, and nothing of the store is open to others.

Method: the local store on the real file system with one operation failing, and a look at the files.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway.backends import LocalStore, disk, local
from storage_gateway.backends.fs import RealFs
from storage_gateway.errors import BackendUnavailable, BlobMissing, StorageFull

KEY = "d/main/payloads/p/0"
OLD = "d/main/payloads/old/0"

WRITING = ["make_folder", "create", "write_at", "sync", "sync_folder"]
ERRORS = [
    (errno.ENOSPC, StorageFull),
    (errno.EDQUOT, StorageFull),
    (errno.EIO, BackendUnavailable),
    (errno.EROFS, BackendUnavailable),
    (errno.EMFILE, BackendUnavailable),
    (errno.EACCES, BackendUnavailable),
    (errno.ENOTDIR, BackendUnavailable),
]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class FailingFs(RealFs):
    """The real file system, with one operation that fails while ``error`` is set."""

    operation = ""
    error: int | None = None
    failures = 0

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name in ("operation", "error") or name != self.operation or self.error is None:
            return found
        error = self.error

        def fail(*_arguments: object) -> None:
            self.failures += 1
            raise OSError(error, os.strerror(error))

        return fail


@asynccontextmanager
async def failing(tmp_path: Path) -> AsyncIterator[tuple[LocalStore, FailingFs]]:
    fs = FailingFs()
    store = LocalStore(tmp_path / "store", fs)
    try:
        await store.put(OLD, b"old")
        yield store, fs
    finally:
        fs.error = None
        await asyncio.to_thread(store.close)


@pytest.mark.parametrize("operation", WRITING)
@pytest.mark.parametrize(("number", "expected"), ERRORS, ids=str)
async def test_an_error_of_the_disk_ends_a_write_with_its_meaning(
    tmp_path: Path, operation: str, number: int, expected: type[Exception]
) -> None:
    async with failing(tmp_path) as (store, fs):
        fs.operation, fs.error = operation, number
        with pytest.raises(expected) as caught:
            await store.put(KEY, b"x")
        assert errno.errorcode[number] in str(caught.value) or expected is StorageFull

        fs.error = None
        await store.delete(KEY)
        await store.put(f"{KEY}0", b"x")
        assert b"x" == await store.get(f"{KEY}0", 0, 1)
        assert b"old" == await store.get(OLD, 0, 3)


@pytest.mark.parametrize(
    ("operation", "use"),
    [
        ("read_at", lambda store: store.get(OLD, 0, 1)),
        ("size", lambda store: store.stat(OLD)),
        ("remove", lambda store: store.delete(OLD)),
        ("remove_folder", lambda store: store.delete(OLD)),
        ("sync_folder", lambda store: store.delete(OLD)),
        ("scan", lambda store: anext(store.list("d/"))),
    ],
)
async def test_an_error_of_the_disk_is_never_a_missing_blob(
    tmp_path: Path, operation: str, use: Callable[[LocalStore], asyncio.Future[object]]
) -> None:
    async with failing(tmp_path) as (store, fs):
        fs.operation, fs.error = operation, errno.EIO

        with pytest.raises(BackendUnavailable, match="EIO"):
            await use(store)


async def test_closing_with_an_error_is_no_error_of_abort(tmp_path: Path) -> None:
    async with failing(tmp_path) as (store, fs):
        writer = store.create(KEY)
        await asyncio.to_thread(writer.write, 0, memoryview(b"x"))
        fs.operation, fs.error = "close", errno.EIO
        await writer.abort()

    assert 1 == fs.failures


async def test_every_file_is_closed_whatever_fails(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(names(Path("/proc/self/fd")))

    if not Path("/proc/self/fd").exists():
        pytest.skip("not tested: leaks of descriptors; to test it: run on Linux")
    async with failing(tmp_path) as (store, fs):
        before = descriptors()
        for operation in WRITING:
            fs.operation, fs.error = operation, errno.ENOSPC
            with pytest.raises(StorageFull):
                await store.put(f"d/{operation}/p/0", b"x")
        assert before == descriptors()


async def test_a_key_that_exists_is_not_written_over(tmp_path: Path) -> None:
    async with failing(tmp_path) as (store, _):
        with pytest.raises(BackendUnavailable, match="EEXIST"):
            await store.put(OLD, b"new")

        assert b"old" == await store.get(OLD, 0, 3)


async def test_nobody_else_can_read_the_store(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with failing(tmp_path) as (store, _):
            await store.put(KEY, b"x")
    finally:
        os.umask(before)

    paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {0o600, 0o700} == modes


async def test_emptied_payload_folders_do_not_pile_up(tmp_path: Path) -> None:
    async with failing(tmp_path) as (store, _):
        for index in range(3):
            await store.put(f"d/main/payloads/p/{index}", b"x")
        for index in range(3):
            await store.delete(f"d/main/payloads/p/{index}")

    assert ["old"] == names(tmp_path / "store/d/main/payloads")


async def test_a_symbolic_link_out_of_the_store_is_not_followed_when_listing(
    tmp_path: Path,
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"x")
    async with failing(tmp_path) as (store, _):
        (tmp_path / "store/d/main/payloads/link").symlink_to(tmp_path / "outside")

        found = [blob.key async for blob in store.list("d/main/payloads/")]
        await store.delete("d/main/payloads/link")

    assert {OLD, "d/main/payloads/link"} == set(found)
    assert (tmp_path / "outside" / "file").exists()


async def test_an_unmounted_disk_is_not_an_empty_store(tmp_path: Path) -> None:
    """The mount point stays, as an empty folder; nothing may be written into it, nor missed."""
    async with failing(tmp_path) as (store, _):
        root, away = tmp_path / "store", tmp_path / "away"
        root.rename(away)
        root.mkdir()

        for use in (store.get(OLD, 0, 1), store.delete(OLD), store.put(KEY, b"x")):
            with pytest.raises(BackendUnavailable, match="mounted"):
                await use
        assert [] == names(root)

        root.rmdir()
        away.rename(root)
        assert b"old" == await store.get(OLD, 0, 3)
        with pytest.raises(BlobMissing):
            await store.get(KEY, 0, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 100])
async def test_a_folder_that_is_scanned_in_parts_is_listed_whole_and_in_order(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "SCANNED_AT_ONCE", count)
    monkeypatch.setattr(local, "LISTED_AT_ONCE", count)
    store = LocalStore(tmp_path / "store")
    keys = ["d/a-b", "d/a/0", "d/a/1/2", "d/a/2", "d/a0", "d/b", "d/c/0", "d/d/0", "e/0"]
    for key in reversed(keys):
        await store.put(key, b"x")

    for after in ["", "d/a", "d/a/", "d/a/1/", "d/a/9", *keys, "f"]:
        found = [blob.key async for blob in store.list("", after=after)]
        assert [key for key in keys if key > after] == found
    await asyncio.to_thread(store.close)
