"""Goal: some of the stores, with a quorum of their own, are as good as all of them; what is learnt
of a store is known to everybody who uses it, and no other one is asked.

Method: as in test_replicas, with views over two of three stores; what a store was asked is counted.
"""

import asyncio

import pytest

from storage_gateway.backends import health
from storage_gateway.backends import replicas as replicas_module
from storage_gateway.errors import BackendUnavailable, BlobMissing

from .several import (
    CONTENT,
    FINISHES_FAIL,
    KEY,
    READS_FAIL,
    WRITES_FAIL,
    Stores,
    fetched,
    written,
)

TWO = ("two", "three")


@pytest.fixture(autouse=True)
def _slow_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in test_replica_health."""
    for name in ("RESTED_S", "RESTED_S_MAX", "HEDGE_S", "ALIKE_S"):
        monkeypatch.setattr(health, name, 1000.0)


async def test_only_those_that_are_wanted_get_it(stores: Stores) -> None:
    view = stores.together(write_quorum=3).among(TWO, write_quorum=2)

    assert TWO == view.names
    assert sorted(TWO) == list(await written(view))
    assert [False, True, True] == [stores.file(n).exists() for n in ("one", *TWO)]


async def test_its_quorum_is_its_own(stores: Stores) -> None:
    stores.two.faults = WRITES_FAIL
    together = stores.together(write_quorum=2)

    assert ("three",) == await written(together.among(TWO, write_quorum=1))
    with pytest.raises(BackendUnavailable, match=r"2 stores .* out of reach: two\Z"):
        await written(together.among(TWO, write_quorum=2), "other")
    assert ("one", "three") == await written(together, "another")


@pytest.mark.parametrize(
    ("names", "write_quorum", "domains"),
    [((), 1, "abc"), (TWO, 0, "abc"), (TWO, 3, "abc"), (TWO, 2, "abb"), (("four",), 1, "abc")],
)
async def test_a_quorum_that_cannot_be_is_refused(
    stores: Stores, names: tuple[str, ...], write_quorum: int, domains: str
) -> None:
    together = stores.together(write_quorum=1, domains=domains)

    with pytest.raises(ValueError, match="failure domains"):
        together.among(names, write_quorum=write_quorum)


async def test_a_read_asks_nobody_else(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is anything said of a store that never had it."""
    caplog.set_level("INFO")
    together = stores.together(write_quorum=1)
    view = together.among(TWO, write_quorum=2)
    await written(view)

    for _ in range(60):  # beyond the one that goes first to who was measured longest ago
        assert CONTENT == await fetched(view)
    assert CONTENT == await view.get(KEY, 0, len(CONTENT))
    assert len(CONTENT) == (await view.stat(KEY)).size

    assert 0 == stores.one.asked["read"] + stores.one.asked["stat"]
    assert ([], []) == (stores.bad, caplog.records)


async def test_one_of_its_own_that_is_bad_is_told_of(stores: Stores) -> None:
    view = stores.together(write_quorum=1).among(TWO, write_quorum=2)
    await written(view)
    await asyncio.to_thread(stores.file("two").unlink)

    assert CONTENT == await fetched(view)
    assert [(KEY, "two", "BlobMissing")] == stores.bad
    await asyncio.to_thread(stores.file("three").unlink)
    with pytest.raises(BlobMissing):
        await fetched(view)


async def test_a_store_that_failed_one_is_left_alone_by_all(stores: Stores) -> None:
    together = stores.together(write_quorum=1)
    view = together.among(TWO, write_quorum=1)
    stores.two.faults = FINISHES_FAIL
    for number in range(health.FAILURES_MAX):
        assert ("three",) == await written(view, f"{KEY}-{number}")
    stores.two.heal()

    assert ("one", "three") == await written(together)
    stores.two.faults = READS_FAIL
    stores.three.faults = READS_FAIL
    for _ in range(health.FAILURES_MAX):
        with pytest.raises(BackendUnavailable):
            await fetched(view)
    asked = stores.two.asked["read"]
    assert CONTENT == await fetched(together)
    assert asked == stores.two.asked["read"]


async def test_who_lags_behind_one_lags_behind_for_all(stores: Stores) -> None:
    stores.two.go_on.clear()
    together = stores.together(write_quorum=1)
    view = together.among(TWO, write_quorum=1)
    for number in range(replicas_module.LAGGING_MAX):
        assert ("three",) == await written(view, f"{KEY}-{number}")

    assert ("one", "three") == await written(together)
    stores.two.go_on.set()
    await together.wait_late()
    assert 0 == together.members[1].lagging
    assert ("one", "three", "two") == await written(together, "other")


async def test_closing_the_whole_gives_up_what_lags_behind_a_part(stores: Stores) -> None:
    stores.two.go_on.clear()
    together = stores.together(write_quorum=1)
    await written(together.among(TWO, write_quorum=1))

    await together.close()

    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_hedges_are_a_tenth_of_the_reads_of_all(stores: Stores) -> None:
    together = stores.together(write_quorum=1)
    view = together.among(TWO, write_quorum=1)
    while together.reads.hedges.spend():
        pass

    assert not view.reads.hedges.spend()
