"""Goal: a clock that leaps lets no more go than a share without an operator's word, one that is set
back nothing at all, and what it had let go before comes back.

Method: a real gateway with rows as commits leave them; sweeps by hand, over a catalog whose clock
the test sets, and a clock beside it that nobody sets.
"""

from typing import Any

import pytest

from storage_gateway import sweep as sweeping
from storage_gateway.catalog.passes import find_pass
from storage_gateway.catalog.sweeping import Phase
from storage_gateway.sweep import NAME
from tests.http.sweep_world import (
    DAY_MS,
    GRACE_MS,
    HOUR_MS,
    YEAR_MS,
    World,
    erased_of,
    expired_of,
    sweep_of,
    world,
)

__all__ = ["world"]

pytestmark = pytest.mark.both_databases(by_day=False)
ON_BOTH = pytest.mark.both_databases()


@ON_BOTH
async def test_a_clock_that_leaps_lets_no_more_go_than_the_share(world: World) -> None:
    """Of 400 that live a hundred may go, never fewer; with one more none does."""
    due = await world.make(100, ends_in_ms=YEAR_MS)
    await world.make(299)
    world.leap(2 * YEAR_MS)

    (extra,) = await world.make(ends_in_ms=-DAY_MS)
    braked = await world.sweep.run_once()
    swept_ms = await world.swept()
    untouched = expired_of(await world.rows())
    await world.set(extra, holds=1)
    allowed = await world.sweep.run_once()

    assert (0, 101, True, True) == (
        braked.expired,
        braked.braked,
        braked.clock_leapt,
        braked.ended,
    )
    assert set() == untouched
    assert swept_ms is not None
    assert swept_ms < await world.now() - YEAR_MS, "what was braked was not swept"
    assert (100, 0, True) == (allowed.expired, allowed.braked, allowed.clock_leapt)
    assert set(due) == expired_of(await world.rows())
    assert await world.now() - HOUR_MS < (await world.swept() or 0)


async def test_a_brake_holds_until_the_operator_gives_a_number(world: World) -> None:
    due = await world.make(7, ends_in_ms=YEAR_MS)
    world.leap(2 * YEAR_MS)

    reports = [await world.sweep.run_once() for _ in range(3)]
    too_few = await world.sweep.run_once(confirm=6)
    world.pass_by(HOUR_MS)
    later = await world.sweep.run_once()
    enough = await world.sweep.run_once(confirm=7)

    assert [(0, 7)] * 3 == [(report.expired, report.braked) for report in reports]
    assert (0, 7) == (too_few.expired, too_few.braked)
    assert (0, 7) == (later.expired, later.braked), "nobody has seen the leap, whatever came after"
    assert (7, 0) == (enough.expired, enough.braked)
    assert set(due) == expired_of(await world.rows())


async def test_a_leap_erases_no_more_than_it_expires(world: World) -> None:
    await world.make(7, ends_in_ms=-HOUR_MS)
    await world.sweep.run_once()
    world.leap(YEAR_MS)

    braked = await world.sweep.run_once()

    assert (0, 7) == (braked.erased, braked.braked)
    assert set() == erased_of(await world.rows())


async def test_time_that_the_process_saw_pass_needs_no_word(world: World) -> None:
    due = await world.make(7, ends_in_ms=30 * DAY_MS)
    world.pass_by(31 * DAY_MS)

    report = await world.sweep.run_once()

    assert (7, 0, False) == (report.expired, report.braked, report.clock_leapt)
    assert set(due) == expired_of(await world.rows())


async def test_a_process_that_began_after_a_gap_attests_nothing(world: World) -> None:
    await world.make(7, ends_in_ms=DAY_MS)
    world.pass_by(2 * DAY_MS)
    other = sweep_of(world.gateway, world.catalog, world.clocks)

    reports = [await other.run_once()]
    world.pass_by(HOUR_MS)
    reports.append(await other.run_once())
    seen = await world.sweep.run_once()

    assert [(0, 7)] * 2 == [(report.expired, report.braked) for report in reports]
    assert 7 == seen.expired, "who saw the gap attests it"


async def test_a_leap_that_was_mended_is_attested_by_who_saw_the_time_before(world: World) -> None:
    await world.make(7, ends_in_ms=HOUR_MS)
    world.leap(YEAR_MS)
    braked = await world.sweep.run_once()
    world.pass_by(2 * HOUR_MS)
    world.leap(-YEAR_MS)

    mended = await world.sweep.run_once()

    assert (7, True) == (braked.braked, braked.clock_leapt)
    assert (7, False) == (mended.expired, mended.clock_leapt)


async def test_a_clock_that_was_set_back_lets_nothing_go_and_sweeps_go_on(world: World) -> None:
    now = await world.now()
    over: dict[str, Any] = {"expired_ms": now - 9 * GRACE_MS, "erase_after_ms": now - 8 * GRACE_MS}
    await world.make(3, ends_in_ms=-2 * YEAR_MS)
    await world.make(3, ends_in_ms=-2 * YEAR_MS, **over)
    world.leap(-HOUR_MS)

    behind = await world.sweep.run_once(confirm=100)
    swept_ms = await world.swept()
    nothing = await world.rows()
    after = await world.sweep.run_once()

    assert (0, 0, True) == (behind.expired, behind.erased, behind.clock_behind)
    assert (3, set()) == (len(expired_of(nothing)), erased_of(nothing))
    assert swept_ms is not None
    assert abs(swept_ms - (now - HOUR_MS)) < HOUR_MS / 2
    assert (3, 3, False) == (after.expired, after.erased, after.clock_behind)


async def test_what_expired_by_a_clock_that_was_ahead_is_revived(world: World) -> None:
    due = await world.make(5, ends_in_ms=DAY_MS)
    await world.make(20)
    world.leap(YEAR_MS)
    ahead = await world.sweep.run_once()
    gone = expired_of(await world.rows())
    world.leap(-YEAR_MS)

    back = await world.sweep.run_once()

    assert (5, set(due)) == (ahead.expired, gone)
    assert (5, 0, True) == (back.revived, back.erased, back.clock_behind)
    rows = await world.rows()
    assert set() == expired_of(rows)
    assert {(None, None)} == {(rows[i]["expired_ms"], rows[i]["erase_after_ms"]) for i in due}


async def test_what_a_brake_kept_from_going_is_begun_again_once_it_may(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that was braked in its beginning is not taken for one that did all."""
    monkeypatch.setattr(sweeping, "PAGE", 3)
    now = await world.now()
    in_grace: dict[str, Any] = {"expired_ms": now, "erase_after_ms": now + 9 * YEAR_MS}
    await world.make(6, ends_in_ms=-HOUR_MS, **in_grace)
    due = await world.make(9, ends_in_ms=YEAR_MS)
    world.leap(2 * YEAR_MS)

    cut = await world.sweep.run_once(limit=3)
    kept = await world.catalog.read(lambda c: find_pass(c, NAME))
    report = await world.sweep.run_once(confirm=9)

    assert (9, False) == (cut.braked, cut.ended)
    assert kept is not None
    assert f"~{Phase.EXPIRED.value}~" in kept.position
    assert (9, True) == (report.expired, report.ended)
    assert set(due) <= expired_of(await world.rows())
