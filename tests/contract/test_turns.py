"""Goal: a turn at a pass is one process's at a time; who gives up asking for one keeps none.

Method: turns at a pass that does nothing, in every database.
"""

import asyncio
from typing import TypeVar

import pytest

from storage_gateway.catalog import Catalog, Unit
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.passes import run_passes, turn_at

pytestmark = pytest.mark.both_databases

T = TypeVar("T")


async def test_a_turn_is_one_s_at_a_time(catalog: Catalog) -> None:
    async with turn_at(catalog, "pass") as first, turn_at(catalog, "pass") as second:
        assert first is not None
        assert second is None
    async with turn_at(catalog, "pass") as third:
        assert third is not None


async def test_who_is_cancelled_while_asking_keeps_no_turn(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_run = catalog.run

    async def cancelled(unit: Unit[T]) -> T:
        monkeypatch.undo()
        await true_run(unit)  # what was begun is run to its end
        raise asyncio.CancelledError

    monkeypatch.setattr(catalog, "run", cancelled)
    with pytest.raises(asyncio.CancelledError):
        async with turn_at(catalog, "pass"):
            pytest.fail("it was cancelled before")

    async with turn_at(catalog, "pass") as turn:
        assert turn is not None


async def test_who_is_cancelled_while_the_catalog_is_away_is_cancelled(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else passes would go on for ever after they were stopped, and the process with them."""

    async def away(_unit: Unit[T]) -> T:
        raise CatalogUnavailable("for this test")

    async def run_once() -> None:
        async with turn_at(catalog, "pass") as turn:
            assert turn is not None
            monkeypatch.setattr(catalog, "run", away)
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()
    passes = asyncio.create_task(run_passes("pass", run_once, 0.0))
    await entered.wait()
    passes.cancel()
    await asyncio.wait([passes], timeout=20)

    assert passes.cancelled()
