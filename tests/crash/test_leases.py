"""Goal: a process without a lease writes nothing; what a paused one still writes late is cleared
away, however late; and clocks that jump neither lose work nor leave it to nobody.

Method: a lease over a catalog that refuses renewals; workers on one data folder whose writes are
held in the store until recovery is long done; a catalog whose clock is a year ahead.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from crypto import LEAF_PLAINTEXT_SIZE
from storage_gateway.catalog import Catalog, Unit
from storage_gateway.catalog.tables import instances
from storage_gateway.catalog.work import list_graves, list_intents, start_instance
from storage_gateway.errors import BackendUnavailable, CatalogUnavailable, IntentLost, StaleParties
from storage_gateway.instance import Instance
from storage_gateway.records import Manifest
from tests.databases import databases
from tests.gateway import eventually
from tests.workers import Folder, Script, ScriptedCatalog, T, Worker, body_of

YEAR_MS = 365 * 86_400_000
HORIZON_MS = 901_000
LEASE_S = 1.0
"""As short as a busy machine allows: a renewal that comes later than this loses it."""
CONTENT = bytes(3 * LEAF_PLAINTEXT_SIZE)


pytestmark = pytest.mark.both_databases


class Refusing(ScriptedCatalog):
    """A catalog that refuses writes when told to."""

    error: Exception | None = None

    async def run(self, unit: Unit[T]) -> T:
        if self.error is not None:
            raise self.error
        return await super().run(unit)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Refusing]:
    inner = await asyncio.to_thread(databases.open, tmp_path)
    catalog = Refusing(inner)
    yield catalog
    catalog.error = None
    await asyncio.to_thread(catalog.close)


@pytest.fixture
async def instance(catalog: Refusing) -> AsyncIterator[Instance]:
    instance = Instance(catalog, "a" * 32, lease_s=LEASE_S, renew_s=0.05)
    await instance.start()
    yield instance
    catalog.error = None
    await instance.stop()


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    folder = Folder(tmp_path)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(folder.worker()) for _ in range(2)]


# The lease, as the process itself knows it.


async def test_a_lease_that_is_renewed_holds(catalog: Refusing) -> None:
    """It never lapses: each renewal comes in time and moves its end, here and in the catalog."""
    instance = Instance(catalog, "b" * 32, lease_s=60, renew_s=0.02)
    await instance.start()
    ends = [(instance._held_until, await _lease_until(catalog, instance))]

    async def moved() -> bool:
        assert instance._is_held()
        now = (instance._held_until, await _lease_until(catalog, instance))
        return now[0] > ends[-1][0] and now[1] > ends[-1][1]

    for _ in range(3):
        await eventually(moved, what="a renewal")
        ends.append((instance._held_until, await _lease_until(catalog, instance)))
    await instance.stop()

    assert [] == await catalog.read(lambda c: list(c.execute(select(instances))))


async def _lease_until(catalog: Refusing, instance: Instance) -> int:
    mine = instances.c.instance_id == instance.instance_id
    query = select(instances.c.lease_until_ms).where(mine)
    return await catalog.read(lambda c: int(c.execute(query).scalar_one()))


@pytest.mark.parametrize("error", [CatalogUnavailable("for this test"), RuntimeError("a bug")])
async def test_without_a_renewal_a_lease_ends_and_whoever_asks_waits_for_the_next(
    catalog: Refusing, instance: Instance, error: Exception
) -> None:
    catalog.error = error
    await eventually(lambda: _not(instance._is_held()), what="the end of the lease")
    asking = [asyncio.create_task(instance.hold()) for _ in range(3)]
    done, _ = await asyncio.wait(asking, timeout=0.1)
    assert not done

    catalog.error = None

    await asyncio.gather(*asking)


async def test_a_lease_that_cannot_be_renewed_is_lost(
    catalog: Refusing, instance: Instance
) -> None:
    catalog.error = CatalogUnavailable("for this test")
    await eventually(lambda: _not(instance._is_held()), what="the end of the lease")

    with pytest.raises(IntentLost):
        await instance.hold()


async def _not(value: bool) -> bool:
    return not value


async def test_an_upload_writes_nothing_without_a_lease(workers: list[Worker]) -> None:
    worker, script, leased = workers[0], Script(), asyncio.Event()
    asked = 0

    async def hold() -> None:
        nonlocal asked
        asked += 1
        await leased.wait()

    worker.uploads._hold_lease = hold
    worker.scripted(script)
    upload = asyncio.create_task(worker.upload("1", body_of(CONTENT)))
    await eventually(lambda: _not(asked == 0), what="the question for the lease")
    assert [] == script.points
    leased.set()

    await upload

    assert 3 <= asked


# Writes that come late.


@pytest.mark.parametrize("aged_ms", [HORIZON_MS, HORIZON_MS - 10_000])
async def test_what_is_written_after_or_before_the_grave_was_closed_is_cleared_away(
    workers: list[Worker], aged_ms: int
) -> None:
    """As when a process is paused for longer than the horizon, a write in its hands."""
    owner, other = workers
    upload = await _buried_while_writing(owner, other, aged_ms)

    owner.store.wait_in_write.set()
    with pytest.raises((IntentLost, BackendUnavailable)):
        await upload

    assert {} == await other.left()
    # And what was on its way to the store even now is waited for.
    (grave,) = await other.catalog.read(lambda c: list_graves(c, "", 10))
    assert "aborted" == grave.reason
    assert 1 == (await other.recovery.run_once()).graves_waiting
    await other.sql("UPDATE graves SET buried_ms = buried_ms - :ms", ms=HORIZON_MS)
    assert 1 == (await other.recovery.run_once()).graves_closed


async def _buried_while_writing(
    owner: Worker, other: Worker, aged_ms: int
) -> "asyncio.Task[Manifest]":
    """Return an upload with its writes in hand, whose grave is so old, and closed if it may be."""
    owner.store.wait_in_write.clear()
    upload = asyncio.create_task(owner.upload("1", body_of(CONTENT)))

    async def began() -> bool:
        return bool(await other.catalog.read(lambda c: list_intents(c, "", 10)))

    await eventually(began)
    await owner.expire_lease()
    await other.recovery.run_once()
    await other.sql("UPDATE graves SET buried_ms = buried_ms - :ms", ms=aged_ms)
    closed = (await other.recovery.run_once()).graves_closed
    assert closed == (aged_ms == HORIZON_MS)
    return upload


def _refuse() -> None:
    raise CatalogUnavailable("for this test")


@pytest.mark.parametrize("at_stop", [False, True])
@pytest.mark.parametrize(
    "failing",
    [1, 3, 4],  # asking for the intent, burying again, the answer to that
)
async def test_what_was_written_late_is_buried_when_the_catalog_answers_again(
    workers: list[Worker], failing: int, at_stop: bool
) -> None:
    owner, other = workers
    upload = await _buried_while_writing(owner, other, HORIZON_MS)
    owner.catalog.script = Script(failing, _refuse)
    owner.store.wait_in_write.set()
    with pytest.raises(IntentLost):
        await upload
    assert ["blobs"] == list(await other.left())
    assert "transaction begins" == owner.catalog.script.points[1]

    if at_stop:
        await owner.uploads.wait_settled()
    else:
        assert 0 == (await owner.recovery.run_once()).failures

    assert {} == await other.left()
    (grave,) = await other.catalog.read(lambda c: list_graves(c, "", 10))
    assert "aborted" == grave.reason
    await owner.uploads.wait_settled()
    assert [grave] == await other.catalog.read(lambda c: list_graves(c, "", 10))


class _Down(Script):
    """Refuses every transaction."""

    def reach(self, point: str) -> None:
        super().reach(point)
        _refuse()


async def test_what_a_catalog_that_is_down_keeps_from_being_buried_is_kept(
    workers: list[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    """It holds up neither a stop nor the rest of a pass, however often it is tried."""
    owner, other = workers
    upload = await _buried_while_writing(owner, other, HORIZON_MS)
    owner.catalog.script = _Down()
    owner.store.wait_in_write.set()
    with pytest.raises(CatalogUnavailable):
        await upload
    asked = len(owner.catalog.script.points)

    await owner.uploads.wait_settled()
    await owner.uploads.wait_settled()

    assert asked + 2 == len(owner.catalog.script.points)
    assert 2 == caplog.messages.count("late writes not buried")
    assert ["blobs"] == list(await other.left())
    owner.catalog.script = Script()
    await owner.recovery.run_once()
    assert {} == await other.left()


async def test_a_commit_whose_answer_was_lost_is_not_buried(workers: list[Worker]) -> None:
    owner, other = workers
    whole = Script()
    owner.scripted(whole)
    await owner.upload("whole", body_of(b"small"))
    last = len(whole.points) - 1
    assert "transaction took effect" == whole.points[last]

    def lose() -> None:
        raise CatalogUnavailable("the answer was lost")

    owner.scripted(Script(last, lose))
    with pytest.raises(CatalogUnavailable):
        await owner.upload("1", body_of(b"small"))

    assert [] == await other.sql("SELECT * FROM graves")
    ids = [str(row[0]) for row in await other.sql("SELECT object_id FROM objects")]
    assert [b"small"] * 2 == [await other.read(await other.reads.manifest(i, None)) for i in ids]


# Clocks that jump.


async def test_a_process_that_died_under_a_clock_that_was_ahead_is_cleared_away(
    tmp_path: Path, workers: list[Worker]
) -> None:
    """Its lease would last for a year, and its uploads would hold their slots for as long."""
    owner, other = workers
    ahead: Catalog = await asyncio.to_thread(
        partial(databases.open, tmp_path, clock=lambda ms: ms + YEAR_MS)
    )
    await ahead.run(lambda c: start_instance(c, "dead", 15))
    await asyncio.to_thread(ahead.close)
    upload = asyncio.create_task(_begun(owner))
    await asyncio.wait([upload])
    await other.sql("UPDATE intents SET instance_id = 'dead'")

    await other.recovery.run_once()
    hour_ms = 3_600_000
    await other.sql("UPDATE instances SET lease_until_ms = lease_until_ms - :ms", ms=hour_ms + 1)
    report = await other.recovery.run_once()

    assert 1 == report.uploads_aborted
    assert {} == await other.left()


async def _begun(worker: Worker) -> None:
    """Leave an intent behind, as a process that dies does."""

    async def settle(*_args: object, **_options: object) -> None:
        pass

    def die() -> None:
        raise BackendUnavailable("for this test")

    worker.settler.settle_upload = settle  # type: ignore[method-assign]
    worker.scripted(Script(2, die))
    with pytest.raises(BackendUnavailable):
        await worker.upload("1", body_of(b"small"))
    worker.scripted(Script())


async def test_a_grave_from_a_clock_that_was_ahead_waits_from_now(workers: list[Worker]) -> None:
    worker = workers[0]
    manifest = await worker.upload("1", body_of(b"small"))
    await worker.sql(
        "INSERT INTO graves (payload_id, object_id, reason, buried_ms)"
        " VALUES ('p', :o, 'aborted', :ms)",
        o=manifest.object_id,
        ms=1 << 50,
    )

    assert 1 == (await worker.recovery.run_once()).graves_waiting
    await worker.sql("UPDATE graves SET buried_ms = buried_ms - :ms", ms=HORIZON_MS)
    assert 1 == (await worker.recovery.run_once()).graves_closed


async def test_a_living_process_outlasts_a_clock_that_is_set_back(workers: list[Worker]) -> None:
    owner, other = workers
    await owner.sql("UPDATE instances SET lease_until_ms = lease_until_ms + :ms", ms=YEAR_MS)
    await other.recovery.run_once()

    manifest = await owner.upload("1", body_of(b"small"))

    assert b"small" == await other.read(manifest)


# Keys that change.


async def test_what_was_sealed_for_a_key_that_was_retired_is_not_committed(
    workers: list[Worker],
) -> None:
    owner, other = workers
    # The router's, for whom nothing could be wrapped anew: of other parties' it would be.
    await other.sql("UPDATE key_versions SET state = 'retiring' WHERE role = 'router'")

    with pytest.raises(StaleParties):
        await owner.upload("1", body_of(b"small"))

    assert [] == await other.sql("SELECT * FROM objects")
    assert {} == await other.left()
    await other.sql("UPDATE key_versions SET state = 'active'")
    assert isinstance(await owner.upload("1", body_of(b"small")), Manifest)
