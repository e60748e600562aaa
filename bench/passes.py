"""Passes over all there is: how fast scrub, repair and the rebuild of a catalog are, and what they
hold in memory, as the objects grow in number; and beside them what they cannot do without.

Each value is that of a process of its own over a deployment with two local stores. Scrub reads all
copies in both; `sha256sum` over the same files is what it is compared with. For repair one of the
stores has lost all; it is compared with a loop that copies the same files, and syncs each file and
its folders, as each copy must be durable before it counts. A rebuild finds no catalog, and a
manifest copy of each object in both stores; it is compared with opening the copies of one.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crypto import SEGMENT_SIZE, opened_size

from . import pass_data
from .figures import MIB, Row, Sample
from .machine import NotMeasurable, cores, pinned, require_space
from .plan import Plan

SMALL_SIZE = 4096
LARGE_SIZE = opened_size(SEGMENT_SIZE)
STORED_SIZE = 20_000
"""About what a small object takes on a disk, in both stores and the catalog."""
RATE_RATIO_MIN = 0.8
MEMORY_RATIO_MAX = 1.25
ONCE_FROM = 50_000
"""Objects from which on a pass takes minutes, and is run once."""
TOLD_EVERY = 10_000
SUMMED = "sha256sum"
COPIED = "copy and fsync"
OPENED = "opening the copies"


@dataclass(slots=True)
class _Values:
    """What was measured of a pass over so many objects, run by run."""

    rates: list[float] = field(default_factory=list)
    peer_rates: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    peer_megabytes: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Of the process, for each copy."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One kind of pass."""

    name: str
    prepare: Callable[[Path], None]
    """Makes that there is something to do."""
    peer_name: str
    peer: Callable[[Path], float]
    """Does what the pass cannot do without; returns seconds."""
    unit: str = "copies/s"


def measure(plan: Plan) -> list[Row]:
    """Return rates and peaks of each pass, as the objects grow."""
    found: dict[str, dict[int, _Values]] = {each.name: {} for each in PASSES}
    for count in plan.pass_counts:
        runs = 1 if count >= ONCE_FROM else plan.runs
        for name, values in _measure_all(plan, count, SMALL_SIZE, runs).items():
            found[name][count] = values
    rows = [row for each in PASSES for row in _rows_of(each, found[each.name])]
    if plan.pass_large:
        large = _measure_all(plan, plan.pass_large, LARGE_SIZE, plan.runs)
        of_payloads = [each for each in PASSES if each.name != pass_data.REBUILD]
        rows += [_large_row(each, plan.pass_large, large[each.name]) for each in of_payloads]
    return rows


def _measure_all(plan: Plan, count: int, size: int, runs: int) -> Mapping[str, _Values]:
    """Make a deployment with so many objects, and run each pass over it."""
    require_space(plan.folder, count * max(STORED_SIZE, 3 * size))
    folder = plan.folder / f"passes-{count}"

    def tell(made: int) -> None:
        if made % TOLD_EVERY == 0:
            plan.say(f"passes: {made:,} of {count:,} objects are there")

    asyncio.run(pass_data.fill(folder, count, size, tell))
    found: dict[str, _Values] = {}
    _, core = cores()
    for each in PASSES:
        values = found[each.name] = _Values()
        for _ in range(runs):
            each.prepare(folder)
            with pinned(core):
                ours, peer_s = _run_pass(each.name, folder), each.peer(folder)
            assert ours["copies"] >= count, ours
            values.rates.append(ours["copies"] / ours["seconds"])
            values.peer_rates.append(ours["copies"] / peer_s)
            values.megabytes.append(ours["bytes"] / ours["seconds"] / 1e6)
            values.peer_megabytes.append(ours["bytes"] / peer_s / 1e6)
            values.peaks.append(ours["peak"] / MIB)
            values.cpu_ms.append(1000 * ours["cpu_s"] / ours["copies"])
            plan.say(
                f"{each.name}, {count:,} objects: {values.rates[-1]:,.0f} {each.unit},"
                f" {each.peer_name} {values.peer_rates[-1]:,.0f},"
                f" peak {values.peaks[-1]:.0f} MiB, idle {ours['idle'] / MIB:.0f}"
            )
    shutil.rmtree(folder)
    return found


def _rows_of(each: Pass, by_count: Mapping[int, _Values]) -> list[Row]:
    rows = []
    for count, values in by_count.items():
        cpu, moved = Sample(tuple(values.cpu_ms)), Sample(tuple(values.megabytes))
        rows.append(
            Row(
                f"{each.name}, {count:,} objects of {SMALL_SIZE >> 10} KiB",
                each.unit,
                Sample(tuple(values.rates)),
                each.peer_name,
                Sample(tuple(values.peer_rates)),
                beside=f"{moved.median:.1f} MB/s, {cpu.median:.2f} ms CPU each",
            )
        )
    (first, few), *_, (last, many) = [*by_count.items(), *by_count.items()]
    if first == last:
        return rows
    rates = Sample(tuple(many.rates)), Sample(tuple(few.rates))
    peaks = Sample(tuple(many.peaks)), Sample(tuple(few.peaks))
    what, with_few = f"{last:,} objects", f"with {first:,}"
    return [
        *rows,
        Row(f"{each.name}, rate with {what}", each.unit, rates[0], with_few, rates[1],
            ratio_min=RATE_RATIO_MIN),
        Row(f"{each.name}, peak memory with {what}", "MiB", peaks[0], with_few, peaks[1],
            ratio_max=MEMORY_RATIO_MAX),
    ]  # fmt: skip


def _large_row(each: Pass, count: int, values: _Values) -> Row:
    return Row(
        f"{each.name}, {count:,} objects of {SEGMENT_SIZE / 1e6:.1f} MB",
        "MB/s",
        Sample(tuple(values.megabytes)),
        each.peer_name,
        Sample(tuple(values.peer_megabytes)),
    )


def _run_pass(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.pass_worker", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasurable(f"{name} did not end well: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _sum_all(folder: Path) -> float:
    """Have `sha256sum` read all that scrub reads."""
    places = " ".join(pass_data.STORES)
    began = time.perf_counter()
    command = f"find {places} -type f -name 0 -print0 | xargs -0 sha256sum | wc -l"
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True)
    seconds = time.perf_counter() - began
    assert int(done.stdout) > 0, done
    return seconds


def _copy_all(folder: Path) -> float:
    """Copy all that repair copies, one after the other, each durable before the next one."""
    source, target = folder / pass_data.STORES[0], folder / "copied"
    files = [path for path in source.rglob("0") if path.is_file()]
    began = time.perf_counter()
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True)
        descriptor = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.write(descriptor, path.read_bytes())
        os.fsync(descriptor)
        os.close(descriptor)
        for place in (copy.parent, copy.parent.parent):
            _sync(place)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def _lose(folder: Path) -> None:
    asyncio.run(pass_data.lose_copies(folder))


def _lose_catalog(folder: Path) -> None:
    asyncio.run(pass_data.write_copies(folder))
    pass_data.lose_catalog(folder)
    os.sync()  # a rebuild does so first, and would be measured with what was made here unsynced


def _open_all(folder: Path) -> float:
    return asyncio.run(pass_data.open_copies(folder))


PASSES = (
    Pass("scrub", lambda _folder: None, SUMMED, _sum_all),
    Pass("repair", _lose, COPIED, _copy_all),
    Pass(pass_data.REBUILD, _lose_catalog, OPENED, _open_all, "objects/s"),
)
"""In this order: what repair makes again is whole, and the catalog is taken away at last."""
