"""Goal: a store that fails or hangs costs the others nothing: it is left alone until it is well
again, and nobody waits for it who could be served by another one.

Method: as in test_replicas; what a store was asked is counted. Rests and patience are made as short
or as long as a test needs; nothing is timed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage_gateway.backends import Range, Replicas, health, replica_reads
from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.errors import BackendUnavailable
from tests.gateway import eventually

from .several import (
    CONTENT,
    FINISHES_FAIL,
    KEY,
    READS_FAIL,
    WRITES_FAIL,
    HungStore,
    Stores,
    fetched,
    is_content,
    spoil,
    written,
)

IN_A_MOMENT = 0.01
NEVER = 1000.0


@pytest.fixture(autouse=True)
def _slow_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause of the machine ends a rest, begins a hedge or changes a rank: tests do."""
    monkeypatch.setattr(health, "RESTED_S", NEVER)
    monkeypatch.setattr(health, "RESTED_S_MAX", NEVER)
    monkeypatch.setattr(health, "HEDGE_S", NEVER)
    monkeypatch.setattr(health, "ALIKE_S", NEVER)


@pytest.fixture
def rests_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "RESTED_S", 0.0)
    monkeypatch.setattr(health, "RESTED_S_MAX", 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HEDGE_S", IN_A_MOMENT)
    monkeypatch.setattr(health, "HEDGE_MAX_S", IN_A_MOMENT)


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ALIKE_S", IN_A_MOMENT / 2)


async def three_times_read(together: Replicas, store: HungStore) -> None:
    """Let a store fail until it is left alone."""
    store.faults = READS_FAIL
    for _ in range(health.FAILURES_MAX):
        await fetched(together)


async def three_times_written(
    together: Replicas, store: HungStore, faults: StoreFaults = FINISHES_FAIL
) -> None:
    store.faults = faults
    for number in range(health.FAILURES_MAX):
        await written(together, f"{KEY}-{number}")


async def asked_of(store: HungStore, operation: str, doing: Awaitable[object]) -> int:
    """Return how often a store was asked meanwhile."""
    before = store.asked[operation]
    await doing
    return store.asked[operation] - before


async def test_who_fails_in_a_row_is_not_read_from_for_a_while(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await three_times_read(together, stores.one)
    stores.one.heal()

    assert health.FAILURES_MAX == stores.one.asked["read"]
    assert 0 == await asked_of(stores.one, "read", fetched(together))
    assert together.members[0].writes.is_closed, "that it writes is another matter"


async def test_a_failure_now_and_then_is_none_in_a_row(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    for _ in range(health.FAILURES_MAX):
        stores.one.faults = READS_FAIL
        await fetched(together)
        stores.one.heal()
        await fetched(together)

    assert 2 * health.FAILURES_MAX == stores.one.asked["read"]


async def test_who_is_left_alone_is_asked_where_no_other_can_serve(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await three_times_read(together, stores.one)
    stores.one.heal()
    stores.two.faults = stores.three.faults = READS_FAIL

    assert CONTENT == await fetched(together)
    stores.two.heal()
    stores.three.heal()
    assert 1 == await asked_of(stores.one, "read", fetched(together)), "it has answered"


@pytest.mark.usefixtures("rests_are_over")
async def test_who_has_rested_is_tried_by_one_read_at_a_time(
    stores: Stores, impatient: None
) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await three_times_read(together, stores.one)
    stores.one.heal()
    stores.one.hang("read")
    before = stores.one.asked["read"]

    assert [CONTENT] * 5 == await asyncio.gather(*(fetched(together) for _ in range(5)))
    assert 1 == stores.one.asked["read"] - before
    assert 1 == await asked_of(stores.one, "read", fetched(together)), "cut short, tried again"

    stores.one.go_on.set()
    await fetched(together)
    assert together.members[0].reads.is_closed


@pytest.mark.usefixtures("rests_are_over")
async def test_nobody_tries_a_store_who_could_not_go_on_without_it(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    await three_times_read(together, stores.one)
    while together.reads.hedges.spend():
        pass

    assert 0 == await asked_of(stores.one, "read", fetched(together))


@pytest.mark.parametrize("faults", [WRITES_FAIL, FINISHES_FAIL], ids=["write", "finish"])
async def test_who_fails_in_a_row_is_not_written_to_for_a_while(
    stores: Stores, faults: StoreFaults
) -> None:
    together = stores.together(write_quorum=2)
    await three_times_written(together, stores.two, faults)
    stores.two.heal()

    assert ("one", "three") == await written(together)
    await together.get(KEY, 0, 1)
    assert together.members[1].reads.is_closed, "that it reads is another matter"


async def test_who_is_left_alone_is_written_to_where_the_quorum_needs_it(stores: Stores) -> None:
    together = stores.together(write_quorum=2)
    await three_times_written(together, stores.two)
    stores.three.faults = FINISHES_FAIL
    for number in range(health.FAILURES_MAX):
        with pytest.raises(BackendUnavailable):
            await written(together, f"{KEY}-failed-{number}")
    stores.two.heal()

    assert ("one", "two") == await written(together)


async def test_a_late_failure_counts_too(stores: Stores) -> None:
    stores.three.faults = FINISHES_FAIL
    stores.three.hang("finish")
    together = stores.together(write_quorum=2)
    for number in range(health.FAILURES_MAX):
        await written(together, f"{KEY}-{number}")
    stores.three.go_on.set()
    await together.wait_late()

    assert not together.members[2].writes.is_closed


@pytest.mark.usefixtures("rests_are_over")
async def test_who_has_rested_is_tried_by_one_write_at_a_time(stores: Stores) -> None:
    together = stores.together(write_quorum=2)
    await three_times_written(together, stores.two)
    stores.two.heal()
    given_up, beside = (together.create(f"{KEY}-{n}-tried") for n in (1, 2))

    assert ("one", "three") == await beside.finish()
    await given_up.abort()
    assert ("one", "three", "two") == await written(together)
    assert together.members[1].writes.is_closed


@pytest.mark.usefixtures("impatient", "ranked")
async def test_who_takes_long_is_asked_after_the_others(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    await fetched(together)

    assert 0 == await asked_of(stores.one, "read", fetched(together))


async def test_who_is_not_the_best_is_measured_and_may_become_it_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = 3
    monkeypatch.setattr(replica_reads, "MEASURED_EVERY", every)
    # A read that takes long on a busy machine is neither asked twice nor ranked by it.
    monkeypatch.setattr(health, "HEDGE_MIN_S", NEVER)
    monkeypatch.setattr(health, "HEDGE_MAX_S", NEVER)
    together = stores.together(write_quorum=3)
    await written(together)
    together.members[0].latency.observe(10 * NEVER, 0.0)

    asked: list[int] = []
    while every - 1 not in asked and len(asked) < 100:
        # One of them goes to who was measured longest ago, the others to the best.
        asked.append(await asked_of(stores.one, "read", times(every, together)))
    assert every - 1 == asked[-1], "it is never the best again"
    assert {0, 1} == set(asked[:-1]), "it was measured in its turn"


async def times(count: int, together: Replicas) -> None:
    for _ in range(count):
        await fetched(together)


async def the_stat(together: Replicas) -> bytes:
    return b"" if (await together.stat(KEY)).size == len(CONTENT) else b"another size"


@pytest.mark.parametrize(
    ("read", "operation", "found"),
    [
        (fetched, "read", CONTENT),
        (lambda together: together.get(KEY, 0, 7), "read", CONTENT[:7]),
        (the_stat, "stat", b""),
    ],
    ids=["fetch", "get", "stat"],
)
@pytest.mark.usefixtures("impatient")
async def test_who_hangs_is_not_waited_for_and_has_not_failed(
    stores: Stores,
    read: Callable[[Replicas], Awaitable[bytes]],
    operation: str,
    found: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica_reads, "MEASURED_EVERY", 1)
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang(operation)

    answers = [await read(together) for _ in range(3 * health.FAILURES_MAX)]

    assert [found] * len(answers) == answers
    assert stores.one.asked[operation] >= health.FAILURES_MAX
    assert together.members[0].reads.is_closed
    assert [] == stores.bad
    await together.close()
    assert {asyncio.current_task()} == asyncio.all_tasks()


@pytest.mark.usefixtures("impatient")
async def test_several_ranges_are_not_waited_for_either(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    half = len(CONTENT) // 2
    ranges = [Range(KEY, 0, half), Range(KEY, half, len(CONTENT) - half)]
    with ThreadPoolExecutor(1) as threads:
        found = await together.fetch(ranges, lambda _, data: data, threads)

    assert CONTENT == b"".join(found)
    assert 2 == stores.two.asked["read"]


async def test_who_is_silent_is_asked_once_for_several_ranges(stores: Stores) -> None:
    """Each question may last as long as a timeout."""
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.faults = READS_FAIL
    await asyncio.to_thread(spoil, stores.file("two"))
    ranges = [Range(KEY, 0, len(CONTENT))] * 2
    with ThreadPoolExecutor(1) as threads:
        found = await together.fetch(ranges, is_content, threads)

    assert [CONTENT] * 2 == found
    assert 1 == stores.one.asked["read"]
    assert [(KEY, "two", "BlobCorrupt")] * 2 == stores.bad


@pytest.mark.usefixtures("impatient")
async def test_where_the_second_is_bad_the_third_is_asked(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    await asyncio.to_thread(spoil, stores.file("two"))

    assert CONTENT == await fetched(together, is_content)
    assert [(KEY, "two", "BlobCorrupt")] == stores.bad


@pytest.mark.usefixtures("impatient")
async def test_where_the_second_fails_the_first_is_waited_for(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    stores.two.faults = stores.three.faults = READS_FAIL
    reading = asyncio.create_task(fetched(together))

    async def others_were_asked() -> bool:
        return stores.two.asked["read"] > 0 and stores.three.asked["read"] > 0

    await eventually(others_were_asked, what="the question to the others")
    stores.one.go_on.set()

    assert CONTENT == await reading


@pytest.mark.usefixtures("impatient")
async def test_only_a_share_of_reads_is_asked_twice(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    saved = int(replica_reads.HEDGES_SAVED_MAX)
    reading = [asyncio.create_task(together.get(KEY, 0, 1)) for _ in range(3 * saved)]

    async def hedged() -> bool:
        return sum(task.done() for task in reading) >= saved

    await eventually(hedged, what="the answers to those that were asked twice")
    stores.one.go_on.set()
    await asyncio.gather(*reading)

    assert saved == stores.two.asked["read"]
    assert [saved, 0, 0] == [member.hedged for member in together.members]


async def test_a_read_that_is_given_up_leaves_nothing_at_work(stores: Stores) -> None:
    together = stores.together(write_quorum=3)
    await written(together)
    stores.one.hang("read")
    reading = asyncio.create_task(together.get(KEY, 0, 1))

    async def asked() -> bool:
        return stores.one.asked["read"] > 0

    await eventually(asked, what="the question")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await together.close()

    assert {asyncio.current_task()} == asyncio.all_tasks()
