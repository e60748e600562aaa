"""Goal: whatever is claimed, held, given up, erased and swept, by clocks that run, leap and go
back: what is held or claimed stays, what is due goes, what is erased never comes back, and a leap
takes no more than its share.

Method: a Hypothesis rule machine over the catalog's units and the sweep, against a small model that
knows nothing of `retention`.
"""

import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Connection, update

from retention import Action, Claims, Clock, Reason, Verdict, verdict_on
from storage_gateway.catalog import erasing, holding, sweeping
from storage_gateway.catalog.claims import IS_HELD, IS_PROMISED
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.tables import objects

from .retention_machine import Machine

Patch = pytest.MonkeyPatch


def play(tmp_path: Path, *, lives: int) -> None:
    """Play some lives of a deployment; raises what one of them finds."""
    run_state_machine_as_test(
        lambda: Machine(Path(tempfile.mkdtemp(dir=tmp_path))),  # type: ignore[arg-type] # any factory
        # A failure is told as it was found: to explain it would trace what runs.
        settings=settings(
            max_examples=lives,
            stateful_step_count=40,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
        ),
    )


@pytest.mark.both_databases
@pytest.mark.timeout(3600)  # by night
def test_what_is_kept_and_what_goes_is_as_a_small_model_says(database: str, tmp_path: Path) -> None:
    play(tmp_path, lives=500 if settings().max_examples > 1000 else 15)


def _holds_of_sessions_keep_nothing(patch: Patch) -> None:
    is_held = objects.c.holds > 0
    unheld = erasing._ERASE_UNHELD.where(~IS_PROMISED)
    conditions = [each for each in unheld._where_criteria if str(each) != str(~IS_HELD)]
    assert len(conditions) < len(unheld._where_criteria)
    anyhow = update(objects).where(*conditions, ~is_held).values(state="erasing", head=None)
    patch.setattr(erasing, "_ERASE", Statement(anyhow))


def _promises_keep_nothing(patch: Patch) -> None:
    patch.setattr(erasing, "_ERASE", Statement(erasing._ERASE_UNHELD))


def _leases_count_for_nothing(patch: Patch) -> None:
    patch.setattr(Claims, "expires_ms", property(lambda claims: claims.keep_until_ms))


def _a_leap_takes_all(patch: Patch) -> None:
    patch.setattr(
        "storage_gateway.sweep.may_go", lambda _ripe, *, clock, **_: clock is not Clock.BEHIND
    )


def _every_clock_is_believed(patch: Patch) -> None:
    patch.setattr("storage_gateway.sweep.judge_clock", lambda _now, **_: Clock.STEADY)


def _a_clock_that_went_back_lets_things_expire(patch: Patch) -> None:
    patch.setattr("storage_gateway.sweep.may_go", lambda _ripe, **_: True)


def _there_is_no_grace(patch: Patch) -> None:
    def hasty(connection: Connection, planned: Collection[sweeping.Planned], at_ms: int) -> int:
        return sweeping.expire(connection, [replace(each, grace_s=0) for each in planned], at_ms)

    patch.setattr("storage_gateway.sweep.expire", hasty)


def _nothing_is_revived(patch: Patch) -> None:
    def stays(claims: Claims, now_ms: int) -> Verdict:
        found = verdict_on(claims, now_ms)
        return Verdict(Action.KEEP, Reason.GRACE) if found.action is Action.REVIVE else found

    patch.setattr(sweeping, "verdict_on", stays)


def _a_hold_is_released_twice(patch: Patch) -> None:
    statement = holding._RELEASE

    class Released:
        changed = 1

        def run(self, connection: Connection, parameters: dict[str, Any]) -> "Released":
            statement.run(connection, parameters)
            return self

    patch.setattr(holding, "_RELEASE", Released())


@pytest.mark.parametrize(
    "plant",
    [
        _holds_of_sessions_keep_nothing,
        _promises_keep_nothing,
        _leases_count_for_nothing,
        _a_leap_takes_all,
        _every_clock_is_believed,
        _a_clock_that_went_back_lets_things_expire,
        _there_is_no_grace,
        _nothing_is_revived,
        _a_hold_is_released_twice,
    ],
)
def test_a_planted_bug_is_found(
    database: str, tmp_path: Path, monkeypatch: Patch, plant: Callable[[Patch], None]
) -> None:
    plant(monkeypatch)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        play(tmp_path, lives=60)
