"""Goal: a payload reaches the store in the promised order and within the promised memory.

Method: real uploads into a store that can be held. Order is read off the points that an upload
passes and off the catalog file at the moment of each; memory is what was taken from the body and
has not been written yet.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crypto import (
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEGMENT_LEAVES,
    SealedHead,
    new_head,
    opened_size,
    sealed_size,
)
from storage_gateway import write
from storage_gateway.catalog.objects import begin_upload
from storage_gateway.errors import IntentLost
from storage_gateway.placing import LEAVES_IN_FLIGHT_MAX, SEGMENTS_UNPLACED_MAX
from tests.gateway import eventually
from tests.workers import PAYLOADS, Folder, Script, Worker
from urn import cid_of

SEGMENT_PLAINTEXT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
PIECE = bytes(64) * 4096
TURNS = 200
"""Turns of the event loop that would show an upload which does not stop where it must."""


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with Folder(tmp_path).worker() as one:
        yield one


class Body:
    """Zeros, and a count of how many were taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    async def pieces(self) -> AsyncGenerator[bytes]:
        while self.taken < self.size:
            piece = PIECE[: self.size - self.taken]
            self.taken += len(piece)
            yield piece


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def reached(script: Script, point: str, count: int) -> None:
    async def enough() -> bool:
        return count <= sum(p.startswith(point) for p in script.points)

    await eventually(enough, what=f"{count} times {point}")
    await turns()


async def check_stored(worker: Worker, upload: "asyncio.Task[object]", size: int) -> None:
    await upload
    (row,) = await worker.sql("SELECT cid, size, payload_size, payload_id, object_id FROM objects")
    cid, found_size, payload_size, payload_id, object_id = row
    assert (size, sealed_size(size)) == (found_size, payload_size)
    payload = b"".join(
        [
            await worker.store.get(blob.key, 0, blob.size)
            for index in range(-(-sealed_size(size) // (LEAF_SIZE * SEGMENT_LEAVES)))
            for blob in [await worker.store.stat(f"{PAYLOADS}{payload_id}/{index}")]
        ]
    )
    assert str(cid_of(payload)) == cid
    digest = hashlib.sha256()
    async for piece in worker.reads.plaintext(str(object_id)):
        digest.update(piece)
    assert hashlib.sha256(bytes(size)).hexdigest() == digest.hexdigest()


async def test_reading_pauses_while_segments_lack_their_placement(worker: Worker) -> None:
    script, body = Script(), Body(5 * SEGMENT_PLAINTEXT + 1)
    worker.scripted(script)
    worker.store.wait_in_finish.clear()

    upload: asyncio.Task[object] = asyncio.create_task(worker.upload("1", body.pieces()))
    await reached(script, "finish begins", SEGMENTS_UNPLACED_MAX)
    rows = await worker.sql("SELECT segment FROM segments")
    taken = body.taken
    await turns()

    assert taken == body.taken
    # One leaf is cut already, another may be held back, and a piece went beyond it.
    assert taken <= SEGMENTS_UNPLACED_MAX * SEGMENT_PLAINTEXT + LEAF_PLAINTEXT_SIZE + 2 * len(PIECE)
    assert SEGMENTS_UNPLACED_MAX == len(rows)

    worker.store.wait_in_finish.set()
    await check_stored(worker, upload, body.size)


async def test_no_more_than_a_few_leaves_are_in_memory(worker: Worker) -> None:
    script, body = Script(), Body(3 * SEGMENT_PLAINTEXT)
    worker.scripted(script)
    worker.store.wait_in_write.clear()

    upload: asyncio.Task[object] = asyncio.create_task(worker.upload("1", body.pieces()))
    await reached(script, "write begins", 2)  # as many as there are threads
    taken = body.taken
    await turns()

    assert taken == body.taken
    in_flight = LEAVES_IN_FLIGHT_MAX * LEAF_PLAINTEXT_SIZE
    assert in_flight <= taken <= in_flight + LEAF_PLAINTEXT_SIZE + 2 * len(PIECE)

    worker.store.wait_in_write.set()
    await check_stored(worker, upload, body.size)


class Watching(Script):
    """Looks into the catalog, as another process would, whenever something is written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.rows: list[tuple[str, tuple[int, ...]]] = []

    def reach(self, point: str) -> None:
        super().reach(point)
        if point.startswith("write begins"):
            connection = sqlite3.connect(self._path)
            segment = point.rpartition(" ")[2]
            query = (
                "SELECT (SELECT count(*) FROM intents), (SELECT count(*) FROM slots),"
                " (SELECT count(*) FROM segments WHERE segment = ?),"
                " (SELECT count(*) FROM objects)"
            )
            found = connection.execute(query, (segment,)).fetchone()
            connection.close()
            self.rows.append((segment, found))


async def test_intent_slot_and_segment_are_recorded_before_a_byte_leaves(
    worker: Worker, tmp_path: Path
) -> None:
    script = Watching(tmp_path / "catalog.sqlite3")
    worker.scripted(script)
    body = Body(2 * SEGMENT_PLAINTEXT + 1)

    await worker.upload("1", body.pieces())

    assert {"0", "1", "2"} == {segment for segment, _ in script.rows}
    assert 2 * SEGMENT_LEAVES + 1 == len(script.rows)
    assert {(1, 1, 1, 0)} == {found for _, found in script.rows}


async def test_the_commit_comes_after_everything_is_durable(worker: Worker) -> None:
    script = Script()
    worker.scripted(script)

    await worker.upload("1", Body(2 * SEGMENT_PLAINTEXT + 1).pieces())

    commit = len(script.points) - 2
    durable = [i for i, p in enumerate(script.points) if p.startswith("finish took effect")]
    assert ["transaction begins", "transaction took effect"] == script.points[commit:]
    assert 3 == len(durable)
    assert all(at < commit for at in durable)


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        LEAF_PLAINTEXT_SIZE,
        LEAF_PLAINTEXT_SIZE + 1,
        SEGMENT_PLAINTEXT - 1,
        SEGMENT_PLAINTEXT,
        SEGMENT_PLAINTEXT + 1,
    ],
)
async def test_borders(worker: Worker, size: int) -> None:
    upload: asyncio.Task[object] = asyncio.create_task(worker.upload("1", Body(size).pieces()))

    await check_stored(worker, upload, size)

    rows = await worker.sql("SELECT segment, size, length(leaf_digests) FROM segments")
    sizes = [int(str(row[1])) for row in sorted(rows, key=str)]
    assert sealed_size(size) == sum(sizes)
    assert size == opened_size(sum(sizes))
    assert [-(-s // LEAF_SIZE) * 32 for s in sizes] == [row[2] for row in sorted(rows, key=str)]
    assert len(rows) == len(await worker.sql("SELECT * FROM placements WHERE state = 'placed'"))


async def test_a_small_body_that_waited_longer_than_the_lease_is_not_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script()
    worker.scripted(script)

    async def hold_lease() -> None:
        if script.points:  # the intent was begun since
            raise IntentLost

    monkeypatch.setattr(worker.uploads, "_hold_lease", hold_lease)
    with pytest.raises(IntentLost):
        await worker.upload("1", Body(9).pieces())

    assert [] == [point for point in script.points if point.startswith(("write", "finish"))]


async def test_small_bodies_are_sealed_after_their_intents_each_in_a_round_of_its_own(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, intents = 0, 0
    sealed_in: list[int] = []
    sealed_before_intents: list[int] = []
    ended = asyncio.Event()

    async def count_rounds() -> None:
        nonlocal rounds
        while not ended.is_set():
            rounds += 1
            await asyncio.sleep(0)

    def counted_begin(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - handed on
        nonlocal intents
        begin_upload(*arguments, **named)
        intents += 1

    def counted_head(*arguments: Any, **named: Any) -> SealedHead:  # noqa: ANN401 - handed on
        if len(sealed_in) >= intents:
            sealed_before_intents.append(len(sealed_in))
        sealed_in.append(rounds)
        return new_head(*arguments, **named)

    monkeypatch.setattr(write, "begin_upload", counted_begin)
    monkeypatch.setattr(write, "new_head", counted_head)
    counting = asyncio.create_task(count_rounds())
    await asyncio.gather(*(worker.upload(str(n), Body(9).pieces()) for n in range(16)))
    ended.set()
    await counting

    assert [] == sealed_before_intents
    assert 16 == len(set(sealed_in)), sealed_in
