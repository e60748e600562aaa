"""Goal: a segment on its way to a bucket costs hardly any memory, arrives as it was written, and
leaves no open file, whatever fails. Method: a server that says what the test wrote; a real disk,
whose errors are planted one at a time.
"""

import asyncio
import errno
import hashlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from storage_gateway.backends.fs import RealFs
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_body import READ_AT_ONCE
from storage_gateway.backends.s3_client import Request
from storage_gateway.backends.spool import SPOOLED_MIN, Spool
from storage_gateway.backends.spooled import SpooledWriter
from storage_gateway.errors import BackendUnavailable, StorageFull
from tests.garbage import held_by_cycles, uncollected
from tests.servers.scripted import HANG, Received, Say, Script, Scripted, scripted

from .s3 import MARKER, now
from .test_s3_faults import DONE, KEY, error, in_turn, settings

LARGE = Random(0).randbytes(2 * READ_AT_ONCE + 12_345)


@asynccontextmanager
async def spooling(
    script: Script, folder: Path, **changes: float
) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """Open a store over a server. What is said is about the puts alone."""

    def with_marker(request: Received) -> Say | None:
        return script(request) if request.method == "PUT" else DONE

    async with scripted(with_marker) as server:
        chosen = settings(server.endpoint, **changes)
        store = S3Store(chosen, marker=MARKER, spool=folder, clock=now)
        try:
            yield store, server
        finally:
            await store.close()


async def written(store: S3Store, data: bytes = LARGE) -> SpooledWriter:
    writer = store.create(KEY)
    await asyncio.to_thread(writer.write, 0, memoryview(data))
    return writer


def spools() -> list[int]:
    """Return the descriptors of files without a name that this process has open."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("not tested: files that are left open; to test it: run on Linux")
    found = []
    for link in list(folder.iterdir()):
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # that of this very listing
        if target.endswith("(deleted)") and "/memfd:" not in target:
            found.append(int(link.name))
    return found


async def all_closed(before: list[int]) -> None:
    async with asyncio.timeout(20):
        while spools() != before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [SPOOLED_MIN, SPOOLED_MIN + 1, len(LARGE)])
async def test_each_attempt_sends_all_of_it_with_its_digest(tmp_path: Path, size: int) -> None:
    cut_off = Say(200, b"", {}, 5)
    before = spools()
    async with spooling(in_turn(error(503), cut_off, DONE), tmp_path) as (store, server):
        writer = await written(store, LARGE[:size])
        assert (size > SPOOLED_MIN) == (len(spools()) > len(before))
        assert [] == list(tmp_path.iterdir())
        await writer.finish()

        assert before == spools()
        puts = [request for request in server.received if request.method == "PUT"]
        digest = hashlib.sha256(LARGE[:size]).hexdigest()
        assert [digest] * 3 == [put.headers["x-amz-content-sha256"] for put in puts]
        assert [LARGE[:size]] * 3 == [put.body for put in puts]


async def test_what_many_threads_write_is_put_together(tmp_path: Path, seed: int) -> None:
    """While the file is made of what was in memory, others write already."""
    random = Random(seed)
    for _ in range(20):
        data = random.randbytes(SPOOLED_MIN * 3)
        cuts = sorted({0, len(data), *(random.randrange(len(data)) for _ in range(30))})
        pieces = list(itertools.pairwise(cuts))
        random.shuffle(pieces)
        spool = Spool(tmp_path, store="s3")
        with ThreadPoolExecutor(8) as threads:
            for first, end in pieces:
                threads.submit(spool.write, first, memoryview(data)[first:end])
        assert spool.memory is None
        assert data == await asyncio.to_thread(spool.read, 0, spool.size)
        await spool.close()


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, BackendUnavailable),
    ],
)
async def test_a_disk_that_takes_no_more_is_told_so(
    tmp_path: Path, number: int, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: RealFs, descriptor: int, data: memoryview, offset: int) -> None:
        raise OSError(number, os.strerror(number))

    before = spools()
    async with spooling(lambda _: DONE, tmp_path) as (store, _):
        monkeypatch.setattr(RealFs, "write_at", fail)
        with pytest.raises(raised, match="store s3"):
            await written(store)
    assert before == spools()


async def test_a_folder_that_is_gone_is_told_so(tmp_path: Path) -> None:
    async with spooling(lambda _: DONE, tmp_path / "gone") as (store, _):
        with pytest.raises(BackendUnavailable, match="ENOENT"):
            await written(store)


@pytest.mark.parametrize("wrong", ["fails", "is short"])
async def test_a_spool_that_cannot_be_read_is_not_the_servers_fault(
    tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks again, and nothing is called stored."""
    reads = 0
    really = os.pread

    def read(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads <= 4:  # hashed, and begun to be sent
            return really(descriptor, size, offset)
        if wrong == "fails":
            raise OSError(errno.EIO, "planted")
        return b""

    before = spools()
    async with spooling(lambda _: DONE, tmp_path) as (store, server):
        writer = await written(store)
        monkeypatch.setattr(os, "pread", read)
        with pytest.raises(BackendUnavailable, match="spool of store s3"):
            await writer.finish()

        assert reads <= 6  # one that fails; one that is short is asked for the rest
        assert [] == [request for request in server.received if request.method == "PUT"]
    assert before == spools()


FAILING: dict[str, Script] = {
    "refused": lambda _: error(403, "AccessDenied"),
    "full": lambda _: error(507),
    "hangs": lambda _: HANG,
}


@pytest.mark.parametrize("way", FAILING)
async def test_a_failed_finish_leaves_no_file(tmp_path: Path, way: str) -> None:
    before = spools()
    async with spooling(FAILING[way], tmp_path, deadline_s=0.5) as (store, _):
        writer = await written(store)
        with pytest.raises((BackendUnavailable, StorageFull)):
            await writer.finish()
        await all_closed(before)


@pytest.mark.parametrize("size", [SPOOLED_MIN, len(LARGE)])
@pytest.mark.parametrize("way", [*FAILING, "breaks off"])
async def test_nothing_of_a_failed_finish_waits_for_the_collector(
    tmp_path: Path, way: str, size: int
) -> None:
    script = FAILING.get(way, lambda _: Say(200, b"", {}, 5))
    async with spooling(script, tmp_path, deadline_s=0.5) as (store, server):
        with uncollected():
            writer = await written(store, LARGE[:size])
            with pytest.raises((BackendUnavailable, StorageFull)) as raised:
                await writer.finish()
            server.received.clear()
            del raised, writer

            assert not (found := held_by_cycles(1000)), "\n".join(found)


@pytest.mark.parametrize("deleted", [False, True], ids=["aborted", "deleted"])
async def test_what_is_let_go_of_is_closed_and_takes_no_more(tmp_path: Path, deleted: bool) -> None:
    before = spools()
    async with spooling(lambda _: DONE, tmp_path) as (store, _):
        writer = await written(store)
        await (store.delete(KEY) if deleted else writer.abort())

        assert before == spools()
        with pytest.raises(BackendUnavailable, match="was let go of"):
            await asyncio.to_thread(writer.write, 0, memoryview(LARGE))
        with pytest.raises(BackendUnavailable, match="was let go of"):
            await writer.finish()
        assert before == spools()


class Held:
    """Holds the first call of a function of `os` until it is released."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.released = threading.Event(), threading.Event()
        self.descriptor = -1
        self.links = -1
        """Of the file behind the descriptor, when the function is called at last."""
        really: Callable[..., int] = getattr(os, name)

        def hold(descriptor: int, *args: object) -> int:
            if not self.began.is_set():
                self.descriptor = descriptor
                self.began.set()
                assert self.released.wait(20)
                self.links = os.fstat(descriptor).st_nlink
            return really(descriptor, *args)

        monkeypatch.setattr(os, name, hold)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.began.wait, 20)


@pytest.mark.parametrize("within", ["pread", "pwrite"])
async def test_a_thread_at_work_never_meets_another_file(
    tmp_path: Path, within: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is closed under it would soon be a file of somebody else, by the same number."""
    before = spools()
    async with spooling(lambda _: DONE, tmp_path) as (store, _):
        writer = await written(store) if within == "pread" else store.create(KEY)
        held = Held(within, monkeypatch)
        if within == "pread":
            using = asyncio.create_task(writer.finish())
            await held.wait()
            using.cancel()
            await asyncio.wait([using], timeout=20)
            assert using.cancelled()
        else:
            writing = asyncio.create_task(
                asyncio.to_thread(writer.write, 0, memoryview(LARGE))  # fails or not, as it comes
            )
            await held.wait()
            await writer.abort()
        others = [await asyncio.to_thread((tmp_path / str(n)).open, "wb") for n in range(20)]
        numbers = [other.fileno() for other in others]
        held.released.set()
        await all_closed(before)
        if within == "pwrite":
            await asyncio.wait([writing])
            writing.exception()
        for other in others:
            await asyncio.to_thread(other.close)

    assert 0 == held.links
    assert held.descriptor not in numbers


async def test_segments_on_their_way_take_hardly_any_memory(tmp_path: Path) -> None:
    leaf, leaves, writers = memoryview(LARGE)[: 1 << 20], 7, 32
    async with spooling(lambda _: DONE, tmp_path) as (store, _):
        waiting = [store.create(f"{KEY}/{n}") for n in range(writers)]
        idle, peak = anonymous_memory(), 0
        for at in range(leaves):
            for writer in waiting:
                await asyncio.to_thread(writer.write, at << 20, leaf)
                peak = max(peak, anonymous_memory())
        for writer in waiting:
            await writer.abort()

    assert peak - idle < 16 << 20


def anonymous_memory() -> int:
    """Return how many bytes of memory this process has that are no file's."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("not tested: memory of segments on their way; to test it: run on Linux")
    lines = status.read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) << 10


async def test_a_disk_that_hangs_while_a_segment_is_hashed_holds_nobody_beyond_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hashed = threading.Event(), asyncio.Event()
    loop, read = asyncio.get_running_loop(), Spool.read

    def hang(spool: Spool, offset: int, size: int) -> bytes:
        goes_on.wait(20)
        loop.call_soon_threadsafe(hashed.set)
        return read(spool, offset, size)

    async with spooling(lambda _: DONE, tmp_path, deadline_s=0.3) as (store, server):
        writer = await written(store)
        monkeypatch.setattr(Spool, "read", hang)
        try:
            async with asyncio.timeout(10):
                with pytest.raises(BackendUnavailable, match="own disk"):
                    await writer.finish()
        finally:
            goes_on.set()
        async with asyncio.timeout(20):
            await hashed.wait()

    assert [] == [request for request in server.received if request.method == "PUT"]


async def test_what_is_late_before_it_is_sent_is_not_sent(tmp_path: Path) -> None:
    async with spooling(lambda _: DONE, tmp_path) as (store, server):
        await store.put(KEY, b"the connection is there")
        client = store._client
        late = Request(method="PUT", key=f"{KEY}0", body=b"x")
        with pytest.raises(BackendUnavailable, match="did not answer within"):
            await client.call(late, until_s=asyncio.get_running_loop().time())

    assert 1 == sum(request.method == "PUT" for request in server.received)
