"""Goal: whatever is done with keys, in whatever order: each party has one active version, heads are
for whom their manifests say, a census is a count over manifests, and no key is destroyed while
anything is wrapped for it. Method: a Hypothesis rule machine over the catalog's units, against a
small model; heads are true ones, and opened.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)
from sqlalchemy import ColumnElement, Connection, Table, bindparam, update

from storage_gateway.catalog import registry, rewrapping, wraps
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.tables import objects
from storage_gateway.errors import (
    KeyInUse,
)

from .keys_machine import Machine


def play(tmp_path: Path, *, lives: int) -> None:
    """Play some lives of a deployment's keys; raises what one of them finds."""
    run_state_machine_as_test(
        lambda: Machine(Path(tempfile.mkdtemp(dir=tmp_path))),  # type: ignore[arg-type] # any factory
        # A failure is told as it was found: to explain it would trace what runs.
        settings=settings(max_examples=lives, stateful_step_count=40, phases=[Phase.generate]),
    )


@pytest.mark.both_databases
@pytest.mark.timeout(3600)  # by night
def test_keys_are_as_a_small_model_says(database: str, tmp_path: Path) -> None:
    play(tmp_path, lives=500 if settings().max_examples > 1000 else 15)


_COUNT = wraps._count


def _uploads_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def heads_alone(
        connection: Connection, table: Table, *only: ColumnElement[bool]
    ) -> dict[str, int]:
        return _COUNT(connection, table, *only) if table is objects else {}

    monkeypatch.setattr(wraps, "_count", heads_alone)


def _generation_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    here = objects.c.object_id == bindparam("object_id_is")
    new = ("head", "sealed_size", "wrapped_for", "wrap_id")
    anyhow = (
        update(objects)
        .where(here, bindparam("generation_is") > 0)
        .values(**{name: bindparam(f"new_{name}") for name in new})
        .values(generation=objects.c.generation + 1)
    )
    monkeypatch.setattr(rewrapping, "_REWRAP", Statement(anyhow))


def _keys_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_gateway.catalog.objects.are_current", lambda *_: True)


def _nothing_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrapping, "_current", lambda wrap, *_: iter(wrap.parties))


def _dependents_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "dependents_of", lambda *_: 0)


@pytest.mark.parametrize(
    "plant",
    [
        _uploads_not_counted,
        _generation_not_compared,
        _keys_not_compared,
        _nothing_is_stale,
        _dependents_not_asked_for,
    ],
)
def test_a_planted_bug_is_found(
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plant(monkeypatch)

    with pytest.raises((AssertionError, pytest.fail.Exception, KeyInUse)):
        play(tmp_path, lives=60)
