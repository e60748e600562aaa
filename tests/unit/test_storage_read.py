"""Goal: a reader gets verified bytes, or is told the truth, whatever happens to the object.

Method: objects of several segments in a real store and catalog; a read is stopped between two
pieces and the object is erased, damaged or taken away under it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from crypto import LEAF_PLAINTEXT_SIZE, LEAF_SIZE, SEGMENT_LEAVES, open_file
from storage_gateway import read
from storage_gateway.catalog.work import list_graves
from storage_gateway.erase import Erasure
from storage_gateway.errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    Erased,
    GatewayError,
    NotFound,
)
from storage_gateway.read import LEAVES_IN_RUN, RUNS_AHEAD, Reads
from storage_gateway.records import Manifest, ObjectState
from tests.workers import PAYLOADS, Folder, Script, Worker, body_of

LEAVES = 2 * SEGMENT_LEAVES + 1
CONTENT = Random(8).randbytes(LEAF_PLAINTEXT_SIZE * (LEAVES - 1) + 100)
LEAVES_READ = (1 + RUNS_AHEAD) * LEAVES_IN_RUN
"""Leaves that were read, at most, when the first of them comes out."""

Form = Callable[[Reads, str], AsyncGenerator[bytes | bytearray]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
async def worker(folder: Folder) -> AsyncIterator[Worker]:
    async with folder.worker() as one:
        yield one


@pytest.fixture(params=["sealed", "plaintext"])
def form(request: pytest.FixtureRequest) -> Form:
    return {"sealed": Reads.sealed, "plaintext": Reads.plaintext}[request.param]


async def upload(worker: Worker) -> Manifest:
    return await worker.upload("1", body_of(CONTENT))


async def erase(worker: Worker, manifest: Manifest) -> None:
    erasure = Erasure(catalog=worker.catalog, settler=worker.settler)
    erasing = await erasure.erase(manifest.object_id)
    assert ObjectState.ERASING is erasing.state


def stored(folder: Folder, manifest: Manifest, segment: int) -> Path:
    return folder.path / "store" / PAYLOADS / manifest.payload_id / str(segment)


@pytest.fixture(params=[1, 2, read.SEGMENTS_IN_PAGE])
def in_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Segments of which the catalog is asked at a time; the object has three."""
    monkeypatch.setattr(read, "SEGMENTS_IN_PAGE", request.param)
    return int(request.param)


@pytest.mark.usefixtures("in_page")
async def test_both_forms_give_the_content(worker: Worker, folder: Folder) -> None:
    manifest = await upload(worker)

    sealed = b"".join([bytes(piece) async for piece in worker.reads.sealed(manifest.object_id)])

    assert manifest.sealed_size == len(sealed)
    assert CONTENT == open_file(sealed, [folder.user])
    assert CONTENT == await worker.read(manifest)


@pytest.mark.usefixtures("in_page")
@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM segments WHERE segment = 2",
        "DELETE FROM segments WHERE segment = 1",
        "UPDATE segments SET leaf_tags = substr(leaf_tags, 1, 16) WHERE segment = 1",
        "UPDATE segments SET size = size - 1 WHERE segment = 2",
        "UPDATE segments SET size = 0, leaf_tags = x'' WHERE segment = 2",
    ],
)
async def test_segments_that_do_not_add_up_never_end_cleanly(
    worker: Worker, form: Form, damage: str
) -> None:
    manifest = await upload(worker)
    await worker.sql(damage)

    with pytest.raises(BlobCorrupt, match="add up"):
        async for _ in form(worker.reads, manifest.object_id):
            pass


async def _read_until_error(
    worker: Worker, manifest: Manifest, form: Form, mishap: Callable[[], object]
) -> tuple[int, GatewayError]:
    """Read one piece, let the mishap happen, read on; return the bytes that came, and the error."""
    size = 0
    async with aclosing(form(worker.reads, manifest.object_id)) as pieces:
        size += len(await anext(pieces))
        await asyncio.to_thread(mishap)
        try:
            async for piece in pieces:
                size += len(piece)
        except GatewayError as error:
            return size, error
    pytest.fail("the read came to a clean end")


async def test_a_damaged_segment_is_named_however_little_is_read_at_a_time(
    worker: Worker, folder: Folder, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "LEAVES_IN_RUN", 3)  # less memory does the same
    manifest = await upload(worker)

    _, error = await _read_until_error(
        worker, manifest, form, lambda: stored(folder, manifest, 1).unlink()
    )

    assert isinstance(error, BlobMissing)
    assert 1 == error.extensions["segment"]


async def test_what_is_erased_under_a_reader_is_erased_and_not_missing(
    worker: Worker, folder: Folder, form: Form
) -> None:
    manifest = await upload(worker)
    loop = asyncio.get_running_loop()

    def erase_now() -> None:
        asyncio.run_coroutine_threadsafe(erase(worker, manifest), loop).result(20)

    size, error = await _read_until_error(worker, manifest, form, erase_now)

    assert isinstance(error, Erased)
    assert size < manifest.size
    with pytest.raises(Erased):
        await anext(form(worker.reads, manifest.object_id))


async def test_a_blob_that_is_gone_is_missing(worker: Worker, folder: Folder, form: Form) -> None:
    manifest = await upload(worker)
    path = stored(folder, manifest, 1)

    _, error = await _read_until_error(worker, manifest, form, path.unlink)

    assert isinstance(error, BlobMissing)


@pytest.mark.parametrize("leaf", [LEAVES_READ, LEAVES_READ + 2, LEAVES - 1])
async def test_no_byte_of_a_damaged_leaf_comes_out(
    worker: Worker, folder: Folder, form: Form, leaf: int
) -> None:
    manifest = await upload(worker)
    segment, position = divmod(leaf, SEGMENT_LEAVES)
    path = stored(folder, manifest, segment)
    unit = LEAF_SIZE if form is Reads.sealed else LEAF_PLAINTEXT_SIZE
    head = manifest.sealed_size - manifest.payload_size if form is Reads.sealed else 0

    def flip() -> None:
        content = bytearray(path.read_bytes())
        content[min((position + 1) * LEAF_SIZE, len(content)) - 1] ^= 1
        path.write_bytes(content)

    size, error = await _read_until_error(worker, manifest, form, flip)

    assert isinstance(error, BlobCorrupt)
    assert head + leaf // LEAVES_IN_RUN * LEAVES_IN_RUN * unit == size


async def test_a_store_that_vanishes_is_unavailable(
    worker: Worker, folder: Folder, form: Form
) -> None:
    manifest = await upload(worker)
    store = folder.path / "store"

    _, error = await _read_until_error(
        worker, manifest, form, lambda: store.rename(folder.path / "away")
    )

    assert isinstance(error, BackendUnavailable)


async def test_a_reader_that_leaves_stops_what_was_fetched_ahead(
    worker: Worker, form: Form
) -> None:
    manifest = await upload(worker)
    before = len(asyncio.all_tasks())

    async with aclosing(form(worker.reads, manifest.object_id)) as pieces:
        await anext(pieces)
        assert before + RUNS_AHEAD >= len(asyncio.all_tasks())

    assert before == len(asyncio.all_tasks())


async def test_what_never_was_is_not_found(worker: Worker, form: Form) -> None:
    with pytest.raises(NotFound):
        await anext(form(worker.reads, "a" * 32))


# Erasing, to its end.


async def test_an_erased_object_is_erased_once_its_payload_is_gone_and_pages_are_clean(
    worker: Worker, folder: Folder
) -> None:
    manifest = await upload(worker)
    needle = manifest.head or b""
    await erase(worker, manifest)

    assert not stored(folder, manifest, 0).parent.exists()
    await worker.recovery.run_once()
    assert ObjectState.ERASING is (await worker.reads.manifest(manifest.object_id, None)).state
    await worker.sql("UPDATE graves SET buried_ms = buried_ms - 901000")
    await worker.recovery.run_once()

    assert ObjectState.ERASED is (await worker.reads.manifest(manifest.object_id, None)).state
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert [] == [path.name for path in files if needle[200:300] in path.read_bytes()]


async def test_erasing_again_is_the_same(worker: Worker) -> None:
    manifest = await upload(worker)

    for _ in range(2):
        await erase(worker, manifest)

    assert 1 == len(await worker.catalog.read(lambda c: list_graves(c, "", 9)))


async def test_pages_are_cleaned_once_in_a_pass_and_only_while_nobody_reads_them(
    worker: Worker,
) -> None:
    for number in range(3):
        await erase(worker, await worker.upload(f"t{number}", body_of(b"content")))
    await worker.sql("UPDATE graves SET buried_ms = buried_ms - 901000")
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: object) -> None:
        list_graves(connection, "", 9)  # type: ignore[arg-type]
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(20)

    reader = asyncio.create_task(worker.catalog.read(hold))
    await entered.wait()
    await worker.sql("UPDATE graves SET buried_ms = buried_ms - 1")  # the log grows past the reader
    script = Script()
    worker.scripted(script)
    report = await worker.recovery.run_once()
    leave.set()
    await reader

    assert (0, 3) == (report.graves_closed, report.graves_waiting)
    assert 1 == script.points.count("pages are cleaned")
    assert 3 == (await worker.recovery.run_once()).graves_closed
