"""Goal: whatever goes wrong on an upload's way, nothing of it is left, and its slot works again.

Method: an upload is run once to number the points that it passes (pieces of the body, writes,
syncs, transactions, each before and after it took effect); then once for each of them with a mishap
there. Where a transaction took effect and its answer was lost, the object must be whole.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyrage  # type: ignore[import-untyped]
import pytest

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES, intake_identity
from storage_gateway.errors import (
    BackendUnavailable,
    BodyIncomplete,
    CatalogUnavailable,
    GatewayError,
    SlotTaken,
    StorageFull,
)
from storage_gateway.records import Manifest
from tests.gateway import eventually
from tests.workers import PIECE_SIZE, SESSION, Folder, Script, Worker, body_of

pytestmark = pytest.mark.both_databases

CONTENT = Random(3).randbytes(LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES + 100)
SMALL = b"small"


@pytest.fixture(autouse=True)
def _no_error_is_dropped(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail on what asyncio finds when a future is thrown away with an error nobody looked at."""
    gc.collect()  # what other tests dropped is theirs
    yield
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    assert [] == [record.getMessage() for record in records if record.name == "asyncio"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
async def worker(folder: Folder) -> AsyncIterator[Worker]:
    async with folder.worker() as one:
        yield one


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two ways in, with a body for it."""

    upload: Callable[[Worker, str, AsyncGenerator[bytes]], Awaitable[Manifest]]
    new_body: Callable[[Folder], bytes]


def stock_sealed(folder: Folder) -> bytes:
    """Seal as a stock tool does; under another file key each time, as it must be."""
    intake = intake_identity(folder.router, SESSION).recipient()
    sealed: bytes = pyrage.encrypt(CONTENT, [pyrage.x25519.Recipient.from_str(str(intake))])
    return sealed


WAYS = {
    "plaintext": Way(Worker.upload, lambda _folder: CONTENT),
    "sealed": Way(Worker.upload_sealed, stock_sealed),
}


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs uploads that follow a script."""

    folder: Folder
    worker: Worker
    way: Way

    async def run(self, task_id: str, script: Script) -> Manifest:
        content = await asyncio.to_thread(self.way.new_body, self.folder)
        self.worker.scripted(script)
        body = body_of(content, lambda index: script.reach(f"piece {index}"))
        try:
            async with aclosing(body):
                return await self.way.upload(self.worker, task_id, body)
        finally:
            self.worker.scripted(Script())

    async def points(self) -> list[str]:
        whole = Script()
        manifest = await self.run("whole", whole)
        assert CONTENT == await self.worker.read(manifest)
        return whole.points


@pytest.fixture
def bench(folder: Folder, worker: Worker, way: Way) -> Bench:
    return Bench(folder, worker, way)


async def check_aftermath(worker: Worker, task_id: str, where: str) -> bool:
    """Nothing is left and the slot works; return whether an object was made all the same."""
    await worker.uploads.wait_settled()
    assert {} == await worker.left(), where
    try:
        manifest = await worker.upload(task_id, body_of(SMALL))
    except SlotTaken as taken:
        manifest = await worker.reads.manifest(str(taken.extensions["object_id"]), None)
        assert CONTENT == await worker.read(manifest), where
        return True
    assert SMALL == await worker.read(manifest), where
    return False


def mishap_at(point: str, at: int) -> GatewayError:
    """What can go wrong there; of two kinds the one, then the other."""
    if point.startswith("piece"):
        return BodyIncomplete("for this test")
    if at % 2:
        return StorageFull("for this test")
    kind = CatalogUnavailable if point.startswith("transaction") else BackendUnavailable
    return kind("for this test")


async def test_an_error_at_any_point_leaves_nothing(bench: Bench) -> None:
    points = await bench.points()
    kinds = {point.rstrip("0123456789 ") for point in points}
    assert {"piece", "write begins", "finish begins", "transaction begins"} <= kinds
    made: list[bool] = []
    for at, point in enumerate(points):
        error = mishap_at(point, at)

        def fail(error: GatewayError = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            await bench.run(f"t{at}", Script(at, fail))
        assert error is caught.value, point
        made.append(await check_aftermath(bench.worker, f"t{at}", point))
    # Only where the commit took effect, and that is the last point of all.
    assert [at == len(points) - 1 for at in range(len(points))] == made


async def test_a_cancellation_at_any_point_leaves_nothing(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    points = await bench.points()
    ends: set[bool] = set()
    for at, point in enumerate(points):
        task_id = f"t{at}"
        task: asyncio.Task[Manifest]

        def cancel() -> None:
            loop.call_soon_threadsafe(task.cancel)  # noqa: B023 - called while it is this task

        task = asyncio.create_task(bench.run(task_id, Script(at, cancel)))
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, (Manifest, asyncio.CancelledError)), point
        ends.add(await check_aftermath(bench.worker, task_id, point))
    assert {True, False} == ends


class _WithoutWrites(Script):
    """Of writes there are more or fewer when a body breaks off: threads are at it."""

    def reach(self, point: str) -> None:
        if not point.startswith("write"):
            super().reach(point)


async def test_clearing_away_may_fail_anywhere_and_recovery_does_it(bench: Bench) -> None:
    """The body breaks off; then each step of what follows fails in turn."""
    last_piece = len(CONTENT) // PIECE_SIZE

    def fail() -> None:
        raise BackendUnavailable("for this test")

    async def break_off(task_id: str, fail_at: int) -> Script:
        script = _WithoutWrites(-1, fail)

        def at_piece(index: int) -> None:
            if index == last_piece:
                script.points.clear()
                script.at = fail_at
                raise BodyIncomplete("for this test")

        content = await asyncio.to_thread(bench.way.new_body, bench.folder)
        bench.worker.scripted(script)
        async with aclosing(body_of(content, at_piece)) as body:
            with pytest.raises(BodyIncomplete):
                await bench.way.upload(bench.worker, task_id, body)
        await bench.worker.uploads.wait_settled()
        bench.worker.scripted(Script())
        return script

    steps = (await break_off("whole", -1)).points
    assert {} == await bench.worker.left()
    assert {"transaction begins", "list begins", "delete took effect"} <= set(steps)
    failed = 0
    for at, step in enumerate(steps):
        task_id = f"t{at}"
        await break_off(task_id, at)
        failed += bool(await bench.worker.left())
        await bench.worker.recovery.run_once()
        assert not await check_aftermath(bench.worker, task_id, step)
    assert 5 <= failed  # else nothing was made to fail


async def wait_for(script: Script, point: str, count: int) -> None:
    async def reached() -> bool:
        return count <= sum(p.startswith(point) for p in script.points)

    await eventually(reached, what=f"{count} times {point}")


async def test_nothing_is_deleted_while_a_thread_still_writes_it(bench: Bench) -> None:
    """Else the thread would bring it back."""
    worker, script = bench.worker, Script()
    worker.store.wait_in_write.clear()
    upload = asyncio.create_task(bench.run("1", script))
    await wait_for(script, "write begins", 2)

    upload.cancel()
    done, _ = await asyncio.wait([upload], timeout=0.05)
    assert not done
    assert not [point for point in script.points if point.startswith(("list", "delete"))]

    worker.store.wait_in_write.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert not await check_aftermath(worker, "1", "after the writes")


async def test_an_upload_whose_store_hangs_can_be_given_up(bench: Bench) -> None:
    worker, script = bench.worker, Script()
    worker.store.wait_in_finish.clear()
    upload = asyncio.create_task(bench.run("1", script))
    await wait_for(script, "finish begins", 2)

    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    worker.store.wait_in_finish.set()
    assert not await check_aftermath(worker, "1", "after the syncs")


async def test_a_second_cancellation_does_not_stop_the_clearing_away(bench: Bench) -> None:
    worker, script = bench.worker, Script()
    upload: asyncio.Task[Manifest]
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        loop.call_soon_threadsafe(upload.cancel)

    script.action = cancel
    worker.store.wait_in_finish.clear()
    upload = asyncio.create_task(bench.run("1", script))
    await wait_for(script, "finish begins", 2)
    script.at = len(script.points) + 1  # in the midst of what the first cancellation starts

    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    worker.store.wait_in_finish.set()
    assert not await check_aftermath(worker, "1", "after two cancellations")
