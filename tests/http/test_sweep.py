"""Goal: what nobody claims any more expires, and is erased when its grace is over, and nothing else
is; a dry run shows exactly that; whatever clocks, holds, leases and other processes do meanwhile.

Method: a real gateway with rows as commits, leases and holds leave them; sweeps by hand, over a
catalog whose clock the test sets.
"""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from retention import Action
from storage_gateway import sweep as sweeping
from storage_gateway.catalog.high_water import set_behind
from storage_gateway.catalog.passes import find_pass, take_pass
from storage_gateway.catalog.sweeping import _ENDS, Phase, Place, Planned, plan_page
from storage_gateway.errors import CatalogBehind, NotFound
from storage_gateway.sweep import NAME, SweepReport
from tests.gateway import eventually
from tests.http.raw import exchange, request
from tests.http.scraping import samples, value
from tests.http.sweep_world import (
    DAY_MS,
    EXPECTED,
    GRACE_MS,
    HOUR_MS,
    LEAP_S,
    VERDICTS,
    YEAR_MS,
    World,
    erased_of,
    expired_of,
    make_a_mix,
    run_by_hand,
    shown,
    world,
    world_of,
)

__all__ = ["world"]

pytestmark = pytest.mark.both_databases(by_day=False)
ON_BOTH = pytest.mark.both_databases()

LEAP_MS = int(LEAP_S * 1000)
NO_MARKS: dict[str, Any] = {}


@ON_BOTH
async def test_a_dry_run_shows_exactly_what_the_run_then_does(world: World) -> None:
    mix = await make_a_mix(world)
    before = await world.rows()

    whole = await shown(world)
    page = await shown(world, "?limit=2")
    pages = list(page["verdicts"])
    while page["next"] is not None:
        page = await shown(world, f"?limit=2&cursor={page['next']}")
        assert len(page["verdicts"]) <= 2
        pages += page["verdicts"]
    unchanged = await world.rows()
    report = await run_by_hand(world)
    after = await world.rows()

    verdicts = {each["urn"].rpartition(":")[2]: each for each in whole["verdicts"]}
    assert whole["verdicts"] == pages
    assert before == unchanged, "a dry run changes nothing"
    assert verdicts == {
        object_id: verdicts[object_id] | {"action": action, "reason": reason}
        for kind, (action, reason) in EXPECTED.items()
        for object_id in mix[kind]
    }
    assert {"expire": 4, "erase": 3, "revive": 4} == whole["due"]
    assert ("steady", True, False, 0) == tuple(
        whole[name] for name in ("clock", "goes", "behind", "braked")
    )
    by_action: dict[str, set[str]] = {action.value: set() for action in Action}
    for object_id, each in verdicts.items():
        by_action[each["action"]].add(object_id)
    assert (4, 3, 4) == tuple(report[what] for what in ("expired", "erased", "revived"))
    assert report["ended"]
    touched = by_action["expire"] | by_action["erase"] | by_action["revive"]
    assert {i: row for i, row in before.items() if i not in touched} == {
        i: row for i, row in after.items() if i not in touched
    }
    for object_id in by_action["expire"]:
        now = after[object_id]["expired_ms"]
        assert now is not None
        marks = {"expired_ms": now, "erase_after_ms": now + GRACE_MS}
        assert {**before[object_id], **marks} == after[object_id]
    for object_id in by_action["revive"]:
        none = {"expired_ms": None, "erase_after_ms": None}
        assert {**before[object_id], **none} == after[object_id]
    assert by_action["erase"] == erased_of(after)
    assert all(after[object_id]["head"] is None for object_id in by_action["erase"])


@ON_BOTH
async def test_what_a_run_did_it_does_not_do_again(world: World) -> None:
    await make_a_mix(world)
    await run_by_hand(world)
    before = await world.rows()

    again = await run_by_hand(world)
    left = await shown(world)

    assert (0, 0, 0) == tuple(again[what] for what in ("expired", "erased", "revived"))
    assert before == await world.rows()
    assert {"keep"} == {each["action"] for each in left["verdicts"]}
    assert {"expire": 0, "erase": 0, "revive": 0} == left["due"]


async def test_a_real_run_looks_at_what_something_is_to_be_done_about(
    world: World, seed: int
) -> None:
    """Pages of a real run are those of a dry run without what is to be left as it is."""
    chance = random.Random(seed)
    now = await world.now()
    for _ in range(150):
        ends = chance.choice([None, -DAY_MS, -HOUR_MS, HOUR_MS])
        marks: dict[str, Any] = chance.choice(
            [
                {},
                {"expired_ms": now - DAY_MS, "erase_after_ms": now - HOUR_MS},
                {"expired_ms": now, "erase_after_ms": now + HOUR_MS},
            ]
        )
        holds = chance.choice([0, 0, 1])
        await world.make(ends_in_ms=ends, holds=holds, **marks)

    async def walked(*, with_kept: bool, limit: int) -> list[Planned]:
        place: Place | None = Place()
        found = list[Planned]()
        while place is not None:
            plan = partial(plan_page, place=place, at_ms=now, limit=limit, with_kept=with_kept)
            page = await world.catalog.read(plan)
            found += page.planned
            place = page.next
        return found

    everything = await walked(with_kept=True, limit=7)
    to_do = [each for each in everything if each.verdict.action is not Action.KEEP]
    assert len(everything) > len(to_do) > 0
    assert to_do == await walked(with_kept=False, limit=7)
    assert everything == await walked(with_kept=True, limit=1000)


async def test_an_object_expires_is_kept_for_its_grace_and_erased(world: World) -> None:
    (object_id,) = await world.make(ends_in_ms=LEAP_MS)
    early = await world.sweep.run_once()
    world.pass_by(LEAP_MS + 1)
    expired = await world.sweep.run_once()
    marked = (await world.rows())[object_id]
    world.pass_by(GRACE_MS - HOUR_MS)
    in_grace = await world.sweep.run_once()
    still = (await world.rows())[object_id]
    world.pass_by(HOUR_MS + 1)
    erased = await world.sweep.run_once()

    assert (0, 0) == (early.expired, early.erased)
    assert (1, 0) == (expired.expired, expired.erased)
    assert (0, 0) == (in_grace.expired, in_grace.erased)
    assert marked == still
    assert (0, 1) == (erased.expired, erased.erased)
    assert {object_id} == erased_of(await world.rows())


async def test_a_round_goes_on_where_the_turn_before_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 3)
    now = await world.now()
    due = await world.make(10, ends_in_ms=-HOUR_MS)
    over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
    erasable = await world.make(10, ends_in_ms=-DAY_MS, **over)
    swept_ms = await world.swept()

    reports = list[SweepReport]()
    while not reports or not reports[-1].ended:
        reports.append(await world.sweep.run_once(limit=6))
        if not reports[-1].ended:
            assert swept_ms == await world.swept()
            world.pass_by(60_000)

    assert len(reports) >= 3
    assert (10, 10) == (sum(r.expired for r in reports), sum(r.erased for r in reports))
    assert all(report.expired <= 6 for report in reports)
    rows = await world.rows()
    assert (set(due), set(erasable)) == (expired_of(rows), erased_of(rows))
    assert swept_ms is not None
    assert swept_ms < (await world.swept() or 0) < now + 60_000, "up to when the round began"


async def test_a_round_of_many_turns_waits_for_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 3)
    monkeypatch.setattr(world.sweep, "run_once", partial(world.sweep.run_once, 3))
    due = await world.make(10, ends_in_ms=-HOUR_MS)
    world.pass_by(61_000)

    await world.sweep._run_round()

    assert set(due) == expired_of(await world.rows())
    assert world.sweep.newest is not None
    assert world.sweep.newest.ended


Meanwhile = Callable[[World, str], Awaitable[None]]


async def lease_renewed(world: World, object_id: str) -> None:
    await world.set(object_id, expires_ms=await world.now() + YEAR_MS)


async def held(world: World, object_id: str) -> None:
    await world.set(object_id, holds=1)


async def session_held(world: World, _object_id: str) -> None:
    await world.hold_session("101")


@ON_BOTH
@pytest.mark.parametrize("meanwhile", [lease_renewed, held, session_held])
@pytest.mark.parametrize("is_expired", [False, True], ids=["expire", "erase"])
async def test_what_is_claimed_after_it_was_judged_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile, is_expired: bool
) -> None:
    now = await world.now()
    over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
    (object_id,) = await world.make(ends_in_ms=-DAY_MS, **(over if is_expired else NO_MARKS))
    plan = world.sweep._plan

    async def planning(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        page = await plan(*arguments, **named)
        if page.planned:
            await meanwhile(world, object_id)
        return page

    monkeypatch.setattr(world.sweep, "_plan", planning)
    report = await world.sweep.run_once()

    row = (await world.rows())[object_id]
    assert (0, 0, 1) == (report.expired, report.erased, report.changed)
    assert ("committed", is_expired) == (row["state"], row["expired_ms"] is not None)


async def test_a_catalog_that_is_behind_sweeps_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 1)
    now = await world.now()
    await world.make(4, ends_in_ms=-HOUR_MS)
    await world.sweep.run_once(1)
    begun = await world.catalog.read(lambda c: find_pass(c, NAME))
    await world.make(2, ends_in_ms=HOUR_MS, expired_ms=now, erase_after_ms=now + GRACE_MS)
    await world.catalog.run(set_behind)
    before = await world.rows()

    report = await world.sweep.run_once(confirm=1000)
    dry = await shown(world)
    left = await world.catalog.read(lambda c: find_pass(c, NAME))

    assert begun is not None
    assert left is not None
    assert ("", True) == (left.position, bool(begun.position)), "what a rebuild brings is seen"
    assert (True, True, 0, 0) == (report.behind, report.ended, report.expired, report.revived)
    assert before == await world.rows()
    assert (True, False) == (dry["behind"], dry["goes"])


async def test_a_catalog_that_is_found_to_be_behind_sweeps_nothing(world: World) -> None:
    """Before anything goes the stores are asked, as they have seen what the catalog has not."""
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        raise CatalogBehind("behind")

    world.sweep._check_current = check
    idle = await world.sweep.run_once()
    await world.make(3, ends_in_ms=-HOUR_MS)
    before = await world.rows()
    report = await world.sweep.run_once()

    assert (False, True, 1) == (idle.behind, report.behind, asked)
    assert before == await world.rows()


async def test_an_object_that_cannot_be_erased_keeps_no_other_one(world: World) -> None:
    now = await world.now()
    over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
    bad, *others = await world.make(4, ends_in_ms=-DAY_MS, **over)
    erase, swept_ms = world.sweep._erase_expired, await world.swept()

    async def erasing(object_id: str) -> Any:  # noqa: ANN401
        if object_id == bad:
            raise NotFound("planted")
        return await erase(object_id)

    world.sweep._erase_expired = erasing
    report = await world.sweep.run_once()
    world.sweep._erase_expired = erase
    failed_at_ms = await world.swept()
    again = await world.sweep.run_once()

    assert (3, 1) == (report.erased, report.failed)
    assert swept_ms == failed_at_ms, "not all that was due was done"
    assert (1, 0) == (again.erased, again.failed)
    assert {bad, *others} == erased_of(await world.rows())


async def test_one_process_at_a_time_sweeps(world: World) -> None:
    await world.make(1, ends_in_ms=-HOUR_MS)
    await world.catalog.run(lambda c: take_pass(c, NAME, "another", 60.0))

    assert SweepReport() == await world.sweep.run_once()


async def test_a_round_that_has_just_ended_is_not_made_again(world: World) -> None:
    await world.make(1, ends_in_ms=-HOUR_MS)

    soon = await world.sweep.run_once(pause_s=60.0)
    world.pass_by(61_000)
    later = await world.sweep.run_once(pause_s=60.0)

    assert (0, False) == (soon.expired, soon.ended)
    assert 1 == later.expired


async def test_the_gateway_sweeps_by_itself(tmp_path: Path) -> None:
    async with world_of(tmp_path, sweep_interval_s=0.1) as world:
        (object_id,) = await world.make(ends_in_ms=100)

        async def is_expired() -> bool:
            return object_id in expired_of(await world.rows())

        await eventually(is_expired, what="the end of an object's lifetime")


async def test_metrics_of_the_sweep(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        now = await world.now()
        over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
        await world.make(2, ends_in_ms=-HOUR_MS)
        await world.make(1, ends_in_ms=-DAY_MS, **over)
        await run_by_hand(world)
        done = world.gateway.gateway.metrics.text().decode()
        await world.leap_behind(YEAR_MS)
        await world.make(9, ends_in_ms=-HOUR_MS)
        braked = await run_by_hand(world)
        told = world.gateway.gateway.metrics.text().decode()

    assert {"expired": 2, "erased": 1, "revived": 0} == {
        labels["what"]: count for labels, count in samples(done, "swept_total")
    }
    assert {"expire": 0, "erase": 0} == {
        labels["action"]: count for labels, count in samples(done, "sweep_due")
    }
    assert 0 == value(done, "sweep_due_oldest_seconds")
    assert value(done, "sweep_round_ended_timestamp_seconds") > 0
    assert 9 == braked["braked"] == value(told, "sweep_newest", what="braked")
    assert 1 == value(told, "sweep_newest", what="clock_leapt")
    assert 9 == value(told, "sweep_due", action="expire")
    assert 3600 <= value(told, "sweep_due_oldest_seconds") < 4000


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?limit=0", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=x", "limit"),
        ("?cursor=", "cursor"),
        ("?cursor=due~1", "cursor"),
        ("?cursor=due~x~", "cursor"),
        ("?cursor=other~1~a", "cursor"),
        ("?cursor=due~1~a%27", "cursor"),
        ("?cursor=due~99999999999999999999~a", "cursor"),
    ],
)
async def test_a_page_that_is_none_is_refused(world: World, query: str, field: str) -> None:
    token = world.gateway.operator_token
    answer = await exchange(world.gateway.address, request("GET", VERDICTS + query, token))

    assert field == answer.problem(422, "invalid_field")["field"]


@ON_BOTH
async def test_pages_are_read_by_their_indexes(world: World) -> None:
    """Else a sweep over a million objects reads a million rows to find that nothing is due."""
    await world.make(2000)

    def plans(connection: Connection) -> list[str]:
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE objects"))
        found = []
        for phase, index in (("due", "objects_to_expire"), ("expired", "objects_expired")):
            asked = _sql_of(connection, phase)
            prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
            rows = connection.exec_driver_sql(prefix + asked).all()
            told = " ".join(str(row) for row in rows)
            found.append(index if index in told else told)
        return found

    assert ["objects_to_expire", "objects_expired"] == await world.catalog.run(plans)


def _sql_of(connection: Connection, phase: str) -> str:
    element: Any = _ENDS[Phase(phase)]._element
    given = {"after_ms": -1, "after_id": "", "skipped": 999}
    given |= {"now_ms": 10**13} if phase == "due" else {}
    bound = element.params(**given)
    return str(bound.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
