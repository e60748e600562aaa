"""Goal: what a process began is finished by it alone, or ended by exactly one other, never both.

Method: several workers on one data folder. A lease runs out by SQL, not by waiting; a paused
process is an upload whose body does not go on. What it still tries must then have no effect.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES
from storage_gateway.catalog.objects import Ownership, continue_upload
from storage_gateway.catalog.work import (
    abort_intent,
    bury,
    claim_intent,
    close_grave,
    forget_dead_instances,
    list_graves,
    list_intents,
    renew_instance,
)
from storage_gateway.errors import BackendUnavailable, IntentLost, NotFound, SlotBusy
from storage_gateway.instance import Instance
from storage_gateway.records import Manifest
from tests.gateway import eventually
from tests.workers import PAYLOADS, Folder, Script, Worker, body_of

pytestmark = pytest.mark.both_databases

SEGMENT_PLAINTEXT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
CONTENT = Random(2).randbytes(SEGMENT_PLAINTEXT + 1_000_000)
SMALL = b"small"
LOST = (IntentLost, BackendUnavailable)
"""What a paused upload ends with: its intent is gone, and perhaps the file it was writing."""


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    folder = Folder(tmp_path)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(folder.worker()) for _ in range(3)]


class Paused:
    """An upload that has sent a part of its body, and goes on when told."""

    def __init__(self, worker: Worker, task_id: str, *, sent: int = SEGMENT_PLAINTEXT + 1) -> None:
        self._go_on = asyncio.Event()
        self._sent = sent
        self.reached = asyncio.Event()
        self.task = asyncio.create_task(worker.upload(task_id, self._body()))

    async def _body(self) -> AsyncGenerator[bytes]:
        async for piece in body_of(CONTENT[: self._sent]):
            yield piece
        self.reached.set()
        await self._go_on.wait()
        async for piece in body_of(CONTENT[self._sent :]):
            yield piece

    async def go_on(self) -> Manifest:
        self._go_on.set()
        return await self.task


async def paused(
    worker: Worker, task_id: str = "1", *, sent: int = SEGMENT_PLAINTEXT + 1
) -> Paused:
    upload = Paused(worker, task_id, sent=sent)
    await upload.reached.wait()

    async def began() -> bool:
        return bool(await worker.catalog.read(lambda c: list_intents(c, "", 10)))

    if sent > LEAF_PLAINTEXT_SIZE:
        await eventually(began)
    return upload


async def age_graves(worker: Worker, ms: int = 901_000) -> None:
    """Let the time that graves have waited be longer."""
    await worker.sql("UPDATE graves SET buried_ms = buried_ms - :ms", ms=ms)


async def put_late(worker: Worker) -> str:
    """Do what a write would do that was sent before its payload was given up."""
    (payload_id,) = [
        g.payload_id for g in await worker.catalog.read(lambda c: list_graves(c, "", 9))
    ]
    key = f"{PAYLOADS}{payload_id}/0"
    await worker.store.inner.put(key, b"late")
    return key


# Leases and fences.


async def test_the_living_are_left_alone(workers: list[Worker]) -> None:
    owner, other, _ = workers
    upload = await paused(owner)

    report = await other.recovery.run_once()

    assert 0 == report.uploads_aborted
    manifest = await upload.go_on()
    assert CONTENT == await other.read(manifest)
    assert {} == await other.left()


async def test_the_dead_are_cleared_away_and_cannot_go_on(workers: list[Worker]) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    assert {"intents": 1, "slots": 1, "blobs": 1} == {**await other.left(), "blobs": 1}

    await owner.expire_lease()
    report = await other.recovery.run_once()

    assert 1 == report.uploads_aborted
    assert {} == await other.left()
    with pytest.raises(LOST):
        await upload.go_on()
    await owner.uploads.wait_settled()
    # What it may have written since lies in a grave.
    await other.recovery.run_once()
    assert {} == await other.left()


async def test_a_claimed_upload_cannot_commit_even_with_a_renewed_lease(
    workers: list[Worker],
) -> None:
    owner, other, _ = workers
    upload = await paused(owner, sent=len(CONTENT))
    await owner.expire_lease()
    await other.recovery.run_once()
    await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))

    with pytest.raises(LOST):
        await upload.go_on()

    assert [] == await owner.sql("SELECT * FROM objects")
    assert {} == await owner.left()


async def test_without_a_lease_nothing_is_committed(workers: list[Worker]) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    await owner.expire_lease()

    with pytest.raises(IntentLost):
        await upload.go_on()

    assert [] == await owner.sql("SELECT * FROM objects")
    assert {} == await other.left()


async def test_a_lease_that_was_renewed_in_time_is_as_good(workers: list[Worker]) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    await owner.expire_lease()
    await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))
    await other.recovery.run_once()

    manifest = await upload.go_on()

    assert CONTENT == await other.read(manifest)


async def test_the_slot_of_the_dead_is_free_and_the_dead_does_not_disturb_its_next_holder(
    workers: list[Worker],
) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    with pytest.raises(SlotBusy):
        await other.upload("1", body_of(SMALL))
    await owner.expire_lease()
    await other.recovery.run_once()

    manifest = await other.upload("1", body_of(SMALL))
    with pytest.raises(LOST):
        await upload.go_on()
    await owner.recovery.run_once()

    assert SMALL == await owner.read(manifest)
    assert {} == await other.left()


async def test_of_two_claimers_one_wins(workers: list[Worker]) -> None:
    owner, *others = workers
    upload = await paused(owner)
    await owner.expire_lease()
    (intent,) = await owner.catalog.read(lambda c: list_intents(c, "", 10))

    claims: list[Ownership | None] = await asyncio.gather(
        *(w.catalog.run(lambda c, w=w: claim_intent(c, intent, w.instance_id)) for w in others)  # type: ignore[misc]
    )

    (won,) = [claim for claim in claims if claim is not None]
    (now,) = await owner.catalog.read(lambda c: list_intents(c, "", 10))
    assert (won.instance_id, intent.fence + 1) == (now.instance_id, now.fence)
    with pytest.raises(LOST):
        await upload.go_on()


async def test_what_was_claimed_and_not_cleared_yet_cannot_be_committed_or_cleared_by_another(
    workers: list[Worker],
) -> None:
    owner, other, third = workers
    upload = await paused(owner)
    await owner.expire_lease()
    (intent,) = await other.catalog.read(lambda c: list_intents(c, "", 10))
    await other.catalog.run(lambda c: claim_intent(c, intent, other.instance_id))
    await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))

    with pytest.raises(IntentLost):
        await upload.go_on()
    await owner.recovery.run_once()
    await third.recovery.run_once()

    assert [] == await owner.sql("SELECT * FROM objects")
    (now,) = await other.catalog.read(lambda c: list_intents(c, "", 10))
    assert (other.instance_id, "aborting") == (now.instance_id, now.state)
    await other.recovery.run_once()
    assert {} == await other.left()


@pytest.mark.parametrize("stale", ["fence", "instance", "state"])
async def test_a_stale_ownership_has_no_effect(workers: list[Worker], stale: str) -> None:
    owner = workers[0]
    upload = await paused(owner)
    (intent,) = await owner.catalog.read(lambda c: list_intents(c, "", 10))
    statement = {
        "fence": "UPDATE intents SET fence = fence + 1",
        "instance": "UPDATE intents SET instance_id = 'another'",
        "state": "UPDATE intents SET state = 'aborting'",
    }[stale]
    old = Ownership(intent.payload_id, intent.instance_id, intent.fence)
    await owner.sql(statement)
    before = await owner.sql("SELECT * FROM intents")

    with pytest.raises(IntentLost):
        await owner.catalog.run(
            lambda c: continue_upload(c, old, placed=[], wanted=["local"], index=2)
        )
    if stale != "state":
        assert not await owner.catalog.run(lambda c: abort_intent(c, old))
        await owner.catalog.run(lambda c: bury(c, old))
    assert before == await owner.sql("SELECT * FROM intents")
    with pytest.raises(IntentLost):
        await upload.go_on()
    assert [] == await owner.sql("SELECT * FROM objects")


async def test_two_recovery_passes_at_once_end_every_upload_once(workers: list[Worker]) -> None:
    owner, *others = workers
    uploads = [await paused(owner, f"{i}", sent=LEAF_PLAINTEXT_SIZE + 1) for i in range(8)]

    async def all_began() -> bool:
        return 8 == len(await owner.catalog.read(lambda c: list_intents(c, "", 10)))

    await eventually(all_began)
    await owner.expire_lease()
    await asyncio.gather(*(worker.recovery.run_once() for worker in others))

    assert 8 == len(await owner.catalog.read(lambda c: list_graves(c, "", 10)))
    for upload in uploads:
        with pytest.raises(LOST):
            await upload.go_on()
    await others[0].recovery.run_once()
    assert {} == await owner.left()


async def test_an_upload_and_a_claim_at_the_same_time_are_one_or_the_other(
    workers: list[Worker],
) -> None:
    """The claim begins at each point of the upload in turn, and runs beside it from there."""
    owner, other, _ = workers
    loop = asyncio.get_running_loop()
    whole = Script()
    owner.scripted(whole)
    await owner.upload("whole", body_of(SMALL))
    ends: set[bool] = set()
    for at in [*range(len(whole.points))] * 3:
        claims: list[asyncio.Task[None]] = []

        async def claim() -> None:
            await owner.expire_lease()
            await other.recovery.run_once()

        def begin(claims: list[asyncio.Task[None]] = claims) -> None:
            loop.call_soon_threadsafe(lambda: claims.append(asyncio.create_task(claim())))

        owner.scripted(Script(at, begin))
        (outcome,) = await asyncio.gather(
            owner.upload(f"t{loop.time()}", body_of(SMALL)), return_exceptions=True
        )
        owner.scripted(Script())
        await asyncio.gather(*claims)
        assert isinstance(outcome, (Manifest, *LOST)), whole.points[at]
        if isinstance(outcome, Manifest):
            assert SMALL == await other.read(outcome)
        ends.add(isinstance(outcome, Manifest))
        await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))
        await other.recovery.run_once()
        assert {} == await other.left(), whole.points[at]
    assert {True, False} == ends


# Leases of processes.


async def test_a_process_that_slept_for_hours_works_on(workers: list[Worker]) -> None:
    """A suspended machine: its own recovery pass may forget the lease before it is renewed."""
    owner, other, _ = workers
    await owner.expire_lease()
    await other.catalog.run(forget_dead_instances)
    assert [] == await owner.sql("SELECT * FROM instances WHERE lease_until_ms = 0")

    await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))

    manifest = await owner.upload("1", body_of(SMALL))
    assert SMALL == await other.read(manifest)


async def test_a_dead_instance_is_remembered_while_it_owns_something(
    workers: list[Worker],
) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    await owner.expire_lease()

    await other.catalog.run(forget_dead_instances)

    assert 1 == len(await other.sql("SELECT * FROM instances WHERE lease_until_ms = 0"))
    upload.task.cancel()
    await asyncio.wait([upload.task])


async def test_a_process_that_stopped_leaves_its_work_to_others_at_once(
    workers: list[Worker],
) -> None:
    owner, other, _ = workers
    instance = Instance(owner.catalog, owner.instance_id[::-1], lease_s=3600, renew_s=1000)
    await instance.start()
    upload = await paused(owner)
    await owner.sql("UPDATE intents SET instance_id = :i", i=instance.instance_id)
    assert 0 == (await other.recovery.run_once()).uploads_aborted

    await instance.stop()

    assert 1 == (await other.recovery.run_once()).uploads_aborted
    with pytest.raises(LOST):
        await upload.go_on()


# Graves.


async def given_up(worker: Worker) -> None:
    """Leave one grave behind."""
    upload = await paused(worker)
    upload.task.cancel()
    await asyncio.wait([upload.task])
    await worker.uploads.wait_settled()
    assert 1 == len(await worker.catalog.read(lambda c: list_graves(c, "", 9)))


async def test_a_grave_closes_after_the_horizon_and_not_before(workers: list[Worker]) -> None:
    worker = workers[0]
    await given_up(worker)

    report = await worker.recovery.run_once()
    assert (1, 0) == (report.graves_waiting, report.graves_closed)
    await age_graves(worker, ms=890_000)
    report = await worker.recovery.run_once()
    assert (1, 0) == (report.graves_waiting, report.graves_closed)
    await age_graves(worker)
    report = await worker.recovery.run_once()

    assert (0, 1) == (report.graves_waiting, report.graves_closed)
    assert [] == await worker.sql("SELECT * FROM graves")
    assert [] == await worker.sql("SELECT * FROM segments")


async def test_a_late_write_is_deleted_and_the_wait_starts_anew(workers: list[Worker]) -> None:
    worker = workers[0]
    await given_up(worker)
    await age_graves(worker)
    await put_late(worker)

    report = await worker.recovery.run_once()
    assert (1, 0) == (report.blobs_deleted, report.graves_closed)
    report = await worker.recovery.run_once()
    assert (0, 0, 1) == (report.blobs_deleted, report.graves_closed, report.graves_waiting)
    await age_graves(worker)
    report = await worker.recovery.run_once()

    assert 1 == report.graves_closed
    assert {} == await worker.left()


async def test_a_pass_cannot_close_a_grave_whose_wait_another_pass_started_anew(
    workers: list[Worker],
) -> None:
    slow, quick, _ = workers
    await given_up(slow)
    await age_graves(slow)
    (stale,) = await slow.catalog.read(lambda c: list_graves(c, "", 9))
    await put_late(quick)
    await quick.recovery.run_once()

    await slow.catalog.run(lambda c: close_grave(c, stale, slow.store.names))

    assert 1 == len(await slow.sql("SELECT * FROM graves"))


async def test_a_grave_stays_while_the_store_does_not_answer(
    workers: list[Worker], tmp_path: Path
) -> None:
    worker = workers[0]
    await given_up(worker)
    await age_graves(worker)
    (tmp_path / "store").rename(tmp_path / "away")

    report = await worker.recovery.run_once()

    assert (1, 0) == (report.failures, report.graves_closed)
    (tmp_path / "away").rename(tmp_path / "store")
    assert 1 == (await worker.recovery.run_once()).graves_closed


# Recovery that dies.


async def _recover(worker: Worker, script: Script) -> None:
    worker.scripted(script)
    try:
        await worker.recovery.run_once()
    except BackendUnavailable:
        pass
    finally:
        worker.scripted(Script())


async def test_recovery_may_die_anywhere_and_be_run_again(workers: list[Worker]) -> None:
    owner, dying, next_one = workers

    async def prepare(task_id: str) -> Paused:
        upload = await paused(owner, task_id, sent=LEAF_PLAINTEXT_SIZE + 1)
        await owner.expire_lease()
        return upload

    async def end(upload: Paused) -> None:
        with pytest.raises(LOST):
            await upload.go_on()
        await owner.catalog.run(lambda c: renew_instance(c, owner.instance_id, 3600))
        await next_one.recovery.run_once()
        assert {} == await next_one.left()

    whole = Script()
    upload = await prepare("0")
    await _recover(dying, whole)
    await end(upload)
    assert 8 < len(whole.points)

    for at in range(len(whole.points)):
        dead = asyncio.Event()

        def die(dead: asyncio.Event = dead) -> None:
            dead.set()
            raise BackendUnavailable("for this test")

        upload = await prepare(f"t{at}")
        await _recover(dying, Script(at, die))
        assert dead.is_set(), whole.points[at]
        await dying.expire_lease()  # it is not heard of again
        await next_one.recovery.run_once()
        assert {} == await next_one.left(), whole.points[at]
        await dying.catalog.run(lambda c: renew_instance(c, dying.instance_id, 3600))
        await end(upload)


async def test_an_object_that_was_never_committed_is_not_found(workers: list[Worker]) -> None:
    owner, other, _ = workers
    upload = await paused(owner)
    (object_id,) = (await owner.sql("SELECT object_id FROM intents"))[0]

    with pytest.raises(NotFound):
        await other.reads.manifest(str(object_id), None)
    await upload.go_on()
    assert CONTENT == await other.read(await other.reads.manifest(str(object_id), None))
