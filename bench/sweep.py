"""Sweeps: how fast what is due expires, how fast what is to be kept is gone through, and what
memory either takes, as the rows grow in number.

Each value is that of a process of its own over a catalog on SQLite. First all of the rows are due,
and half of them are held: the other half expires. Then all have expired, and none is to be erased.
Beside the first stands one bare UPDATE that makes the same change at once, beside the second a
SELECT that counts rows by the same conditions.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import key_data, sweep_worker
from .figures import MIB, Row, Sample
from .machine import NotMeasurable, require_space
from .plan import Plan

STORED_SIZE = 4000
"""About what an object takes in the catalog, with its log."""
BASE = 500
ONCE_FROM = 500_000
"""Rows from which on one run is made."""
MEMORY_MIB_MAX = 32.0
"""What a sweep may take beside what the process had, however many rows there are."""
BARE = "one bare UPDATE"
COUNTED = "SELECT count(*)"


def measure(plan: Plan) -> list[Row]:
    """Return the rates of sweeps, and what memory they take."""
    count = plan.sweep_count
    require_space(plan.folder, count * STORED_SIZE)
    folder = plan.folder / "sweep"
    asyncio.run(key_data.fill(folder, min(count, BASE)))
    asyncio.run(key_data.multiply(folder, count))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sweep_worker.WORK}
    for _ in range(1 if count >= ONCE_FROM else plan.runs):
        for name, runs in found.items():
            asyncio.run(sweep_worker.prepare(folder, name))
            runs.append(_run(name, folder))
            rate, more = _rate(runs[-1]), (runs[-1]["peak"] - runs[-1]["idle"]) / MIB
            plan.say(f"sweep, {count:,} rows, {name}: {rate:,.0f} rows/s, {more:.1f} MiB more")
    shutil.rmtree(folder)
    rows = []
    for ours, peer, what, peer_name in (
        ("expire", "bare", "expire, half of them held", BARE),
        ("keep", "count", "all expired and to be kept", COUNTED),
    ):
        more = Sample(tuple((run["peak"] - run["idle"]) / MIB for run in found[ours]))
        rows.append(
            Row(
                f"sweep, {count:,} rows: {what}",
                "rows/s",
                Sample(tuple(map(_rate, found[ours]))),
                peer_name,
                Sample(tuple(map(_rate, found[peer]))),
            )
        )
        rows.append(
            Row(f"sweep, {count:,} rows: {what}, memory", "MiB", more, ours_max=MEMORY_MIB_MAX)
        )
    return rows


def _rate(done: dict[str, Any]) -> float:
    return float(done["rows"] / done["seconds"])


def _run(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.sweep_worker", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasurable(f"{name} did not end well: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
