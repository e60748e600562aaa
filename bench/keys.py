"""Keys: how fast heads are wrapped anew after a rotation, and how long a census takes.

A job of one process wraps all heads anew on SQLite, each opened again before it takes the place of
the old one; the limit beside it is the same calls of `crypto.rewrap` on one thread, which put
nothing anywhere. A census is held against `SELECT count(*)` over the same objects.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import key_data
from .figures import Row, Sample
from .machine import NotMeasurable, require_space
from .plan import Plan

STORED_SIZE = 4000
"""About what an object takes in the catalog, with its log."""
CENSUS_BASE = 500
ALONE = "crypto.rewrap alone, one thread"
COUNTED = "SELECT count(*)"


def measure(plan: Plan) -> list[Row]:
    """Return the rates of rewraps and of a census."""
    require_space(plan.folder, max(plan.rewrap_count, plan.census_count) * STORED_SIZE)
    return [_measure_rewrap(plan, plan.rewrap_count), _measure_census(plan, plan.census_count)]


def _measure_rewrap(plan: Plan, count: int) -> Row:
    folder = plan.folder / "keys"
    asyncio.run(key_data.fill(folder, count))
    ours: list[float] = []
    alone: list[float] = []
    cpu_ms: list[float] = []
    for _ in range(1 if count >= 100_000 else plan.runs):
        bound, done = _run("crypto", folder), _run("rewrap", folder)
        assert done["done"] == count, done
        ours.append(done["done"] / done["seconds"])
        alone.append(bound["done"] / bound["seconds"])
        cpu_ms.append(1000 * done["cpu_s"] / done["done"])
        plan.say(f"rewrap, {count:,} heads: {ours[-1]:,.0f} heads/s, {ALONE} {alone[-1]:,.0f}")
    shutil.rmtree(folder)
    return Row(
        f"rewrap, {count:,} heads, 3 recipients",
        "heads/s",
        Sample(tuple(ours)),
        ALONE,
        Sample(tuple(alone)),
        beside=f"{Sample(tuple(cpu_ms)).median:.2f} ms CPU each",
    )


def _measure_census(plan: Plan, count: int) -> Row:
    folder = plan.folder / "census"
    asyncio.run(key_data.fill(folder, min(count, CENSUS_BASE)))
    asyncio.run(key_data.multiply(folder, count))
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(plan.runs):
        for name, rates in (("census", ours), ("count", peer)):
            done = _run(name, folder)
            assert done["done"] == count, done
            rates.append(done["done"] / done["seconds"])
        plan.say(
            f"census, {count:,} objects: {count / ours[-1]:.3f} s, {COUNTED} {count / peer[-1]:.3f}"
        )
    shutil.rmtree(folder)
    seconds = count / Sample(tuple(ours)).median
    return Row(
        f"census, {count:,} objects",
        "rows/s",
        Sample(tuple(ours)),
        COUNTED,
        Sample(tuple(peer)),
        beside=f"{seconds:.3f} s",
    )


def _run(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.key_worker", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMeasurable(f"{name} did not end well: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
