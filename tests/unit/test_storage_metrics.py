"""Goal: metrics tell what can be told, and what cannot be told takes nothing else along."""

import logging
from collections.abc import Iterator

import pytest

from storage_gateway.backends.metered import Operation
from storage_gateway.metrics import PREFIX, Metrics


def lines_of(metrics: Metrics) -> list[str]:
    """Return the samples, in the order of the text."""
    lines = metrics.text().decode().splitlines()
    return [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]


def broken() -> Iterator[tuple[tuple[str, ...], float]]:
    yield ("first",), 1.0
    raise RuntimeError("it cannot be told")


def test_one_that_cannot_be_told_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.gauge("before", "", (), lambda: [((), 1.0)])
    metrics.gauge("broken", "", ("label",), broken)
    metrics.counter("broken_too", "", ("label",), broken)
    metrics.counter("after", "", (), lambda: [((), 2.0)])
    with caplog.at_level(logging.ERROR):
        told = lines_of(metrics)

    assert {"before 1.0", "after_total 2.0"} <= set(told)
    assert [] == [line for line in told if "broken" in line], "half of it would be wrong"
    logged = [(r.getMessage(), r.__dict__["metric"]) for r in caplog.records]
    assert [("metric not told", f"{PREFIX}{name}") for name in ("broken", "broken_too")] == logged


def test_an_operation_is_counted_by_its_labels_with_its_time_and_bytes() -> None:
    metrics = Metrics()
    metrics.observe_store(Operation("disk", "put", 0.3, "ok", sent=5))
    metrics.observe_store(Operation("disk", "read", 0.5, "blob_missing"))
    metrics.observe_store(Operation("disk", "read", 7.0, "ok", received=3))
    told = lines_of(metrics)

    name = "store_operation_seconds"
    for operation, outcome, seconds in (
        ("put", "ok", 0.3),
        ("read", "blob_missing", 0.5),
        ("read", "ok", 7.0),
    ):
        labels = f'operation="{operation}",outcome="{outcome}",store="disk"'
        assert f"{name}_count{{{labels}}} 1.0" in told
        assert f"{name}_sum{{{labels}}} {seconds}" in told
    moved = [line for line in told if line.startswith("store_bytes_total")]
    assert [
        'store_bytes_total{direction="received",store="disk"} 3.0',
        'store_bytes_total{direction="sent",store="disk"} 5.0',
    ] == sorted(moved)
