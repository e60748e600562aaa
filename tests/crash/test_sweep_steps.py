"""Goal: a process may die between any two transactions of a sweep: nothing that is claimed expires
or is erased, nothing is half done, and the next sweeps do all that is due.

Method: a sweep whose catalog does nothing more from its n-th transaction on, before or after that
took effect; for each n until a sweep comes to its end. Another process then goes on.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from storage_gateway import passes
from storage_gateway import sweep as sweeping
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.passes import LEASE_S
from storage_gateway.sweep import SweepReport
from tests.crash.test_key_steps import Death
from tests.http.sweep_world import EXPECTED, GRACE_MS, Rows, World, make_a_mix, sweep_of, world_of

pytestmark = pytest.mark.both_databases(by_day=False)

STEPS_MAX = 100
DEATHS_MIN = 15
DONE = {"expire": 4, "erase": 3, "revive": 4}


def action_of(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return what was done to an object, in words; fail where it is nothing whole."""
    if after["state"] != "committed":
        assert (None, None) == (after["head"], after["wrap_id"])
        return "erase"
    if before == after:
        return "keep"
    is_expired = after["expired_ms"] is not None
    marks = {name: after[name] for name in ("expired_ms", "erase_after_ms")}
    assert {**before, **marks} == after
    if is_expired:
        assert marks["erase_after_ms"] == marks["expired_ms"] + GRACE_MS
    else:
        assert marks["erase_after_ms"] is None
    return "expire" if is_expired else "revive"


def judge(mix: dict[str, list[str]], before: Rows, after: Rows, *, is_whole: bool) -> None:
    """Fail where anything was done that is not due; where all must be done, where it is not."""
    for kind, object_ids in mix.items():
        wanted, _ = EXPECTED.get(kind, ("keep", ""))
        for object_id in object_ids:
            done = action_of(dict(before[object_id]), dict(after[object_id]))
            assert done in ({wanted} if is_whole else {wanted, "keep"}), kind


async def lived_through(world: World, death: Death) -> None:
    """Let a sweep die."""
    death.stop(world.catalog)
    with suppress(CatalogUnavailable):
        await sweep_of(world.gateway, world.catalog, world.clocks).run_once()
    del world.catalog.run


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
async def test_dying_at_any_transaction_of_a_sweep_erases_nothing_that_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_effect: bool
) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 4)
    monkeypatch.setattr(sweeping, "TOGETHER", 1)
    monkeypatch.setattr(passes, "KEPT_EVERY_S", -1.0)
    async with world_of(tmp_path) as world:
        for at in range(1, STEPS_MAX):
            mix = await make_a_mix(world, f"held.{at}")
            before, swept_ms = await world.rows(), await world.swept()
            death = Death(at, takes_effect=takes_effect)
            await lived_through(world, death)
            died = await world.rows()
            judge(mix, before, died, is_whole=False)
            if await world.swept() != swept_ms:
                judge(mix, before, died, is_whole=True)

            world.pass_by(LEASE_S * 1000 + 1)
            other = sweep_of(world.gateway, world.catalog, world.clocks)
            reports = [SweepReport()]
            while not reports[-1].ended:
                reports.append(await other.run_once())
            judge(mix, before, await world.rows(), is_whole=True)
            assert not any(report.braked + report.failed for report in reports)
            if not death.is_dead:
                break
            await world.clear()
        else:
            pytest.fail("the sweep did not come to its end")
    assert at - 1 >= DEATHS_MIN
