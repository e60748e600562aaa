"""Goal: a store that does not answer is not asked again and again to delete and to list, and what
it was not asked for counts neither as deleted nor as seen.

Method: as in test_replica_health; how long a store rests is set by the test, nothing is timed.
"""

import asyncio

import pytest

from storage_gateway.backends import Replicas, health
from storage_gateway.errors import BackendUnavailable
from tests.gateway import eventually

from .several import DELETES_FAIL, KEY, LISTS_FAIL, Stores, written

NEVER = 1e12
FOLDER = "deployment/"


@pytest.fixture
def together(stores: Stores) -> Replicas:
    return stores.together(write_quorum=2)


@pytest.fixture
def rests_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "REST_FACTOR", NEVER)


async def keys_until_error(together: Replicas) -> list[str]:
    """Return what a list tells before it says that it is not whole."""
    told = []
    try:
        async for blob in together.list(FOLDER):
            told.append(blob.key)  # noqa: PERF401 - those before the error
    except BackendUnavailable:
        return told
    pytest.fail("it seems to be whole")


async def deleted_in_vain(together: Replicas, count: int) -> None:
    for number in range(count):
        await written(together, f"{KEY}-{number}")
        with pytest.raises(BackendUnavailable):
            await together.delete(f"{KEY}-{number}")


@pytest.mark.usefixtures("rests_last")
async def test_who_does_not_delete_is_not_asked_to_and_the_others_are(
    stores: Stores, together: Replicas
) -> None:
    stores.one.faults = DELETES_FAIL
    await deleted_in_vain(together, health.FAILURES_MAX + 2)
    stores.one.heal()
    await written(together)

    with pytest.raises(BackendUnavailable, match="store one did not answer lately"):
        await together.delete(KEY)
    assert health.FAILURES_MAX == stores.one.asked["delete"]
    assert [True, False, False] == [stores.file(n).exists() for n in ("one", "two", "three")]
    assert KEY in [blob.key async for blob in together.list(FOLDER)], "that it lists is another"


@pytest.mark.usefixtures("rests_last")
async def test_who_does_not_list_is_not_asked_to_and_no_list_is_whole(
    stores: Stores, together: Replicas
) -> None:
    await written(together)
    stores.one.faults = LISTS_FAIL
    for _ in range(health.FAILURES_MAX):
        assert [KEY] == await keys_until_error(together)
    stores.one.heal()

    assert [KEY] == await keys_until_error(together)
    assert health.FAILURES_MAX == stores.one.asked["list"]
    await together.delete(KEY)
    assert not stores.file("one").exists(), "that it deletes is another matter"


async def test_who_has_rested_is_tried_by_one_at_a_time_and_is_well_again(
    stores: Stores, together: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REST_FACTOR", 0.0)
    stores.one.faults = DELETES_FAIL
    await deleted_in_vain(together, health.FAILURES_MAX)
    stores.one.heal()
    stores.one.hang("delete")
    before = stores.one.asked["delete"]
    tried = [asyncio.create_task(together.delete(f"{KEY}-{n}")) for n in range(3)]

    done, left = await asyncio.wait(tried, return_when=asyncio.FIRST_COMPLETED)
    while len(left) > 1:
        more, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert 1 == stores.one.asked["delete"] - before
    assert {BackendUnavailable} == {type(task.exception()) for task in done}

    stores.one.go_on.set()
    (probe,) = left
    await probe
    assert together.members[0].deletes.is_closed


async def test_a_probe_that_is_broken_off_ends(
    stores: Stores, together: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REST_FACTOR", 0.0)
    stores.one.faults = DELETES_FAIL
    await deleted_in_vain(together, health.FAILURES_MAX)
    stores.one.heal()
    stores.one.hang("delete")
    before = stores.one.asked["delete"]
    probe = asyncio.create_task(together.delete(KEY))

    async def is_asked() -> bool:
        return stores.one.asked["delete"] > before

    await eventually(is_asked, what="the probe")
    probe.cancel()
    await asyncio.wait([probe])
    stores.one.go_on.set()

    await together.delete(KEY)
    assert together.members[0].deletes.is_closed


def test_who_refuses_at_once_may_be_asked_at_once() -> None:
    """Only how long an answer took keeps others waiting."""
    breaker = health.Breaker()
    for _ in range(health.FAILURES_MAX):
        breaker.fail(100.0, probe=False, rest_s=health.rest_after(0.0))

    assert not breaker.is_closed
    assert breaker.wants_probe(100.0)
    assert breaker.enter(100.0)
    breaker.fail(160.0, probe=True, rest_s=health.rest_after(60.0))
    assert not breaker.wants_probe(160.0 + 120.0), "who deletes and lists waits for neither"
    assert breaker.wants_probe(160.0 + 180.0)


@pytest.mark.parametrize("operation", ["delete", "list"])
async def test_who_hung_for_hours_is_asked_again_before_as_many_have_passed(
    stores: Stores, together: Replicas, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A disk that is there again must not wait for three times as long as it was away."""
    loop, hung_s, skipped_s = asyncio.get_running_loop(), 7200.0, 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + skipped_s)

    async def hang(*_: str) -> None:
        nonlocal skipped_s
        skipped_s += hung_s
        raise BackendUnavailable("it hung")

    async def ask() -> None:
        member = together.members[0]
        await (member.delete(KEY) if operation == "delete" else member.list(FOLDER))

    with monkeypatch.context() as hanging:
        hanging.setattr(stores.one, "before", hang)
        for _ in range(health.FAILURES_MAX):
            with pytest.raises(BackendUnavailable, match="it hung"):
                await ask()
    with pytest.raises(BackendUnavailable, match="did not answer lately"):
        await ask()

    skipped_s += health.LONG_REST_S_MAX
    await ask()
