"""Goal: the figures of sweeps are of true rows; a sweep takes no more memory over many of them.
Method: a catalog of a few rows is made, swept and looked at; by night one of a million.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bench import key_data, sweep_worker
from bench.figures import MIB
from bench.pass_data import config_of
from bench.sweep import MEMORY_MIB_MAX, _run
from storage_gateway.catalog.tables import objects
from storage_gateway.parts import open_parts

MILLION = 10**6


async def counted(folder: Path) -> tuple[int, int]:
    """Return how many rows have expired, and how many have not."""
    expired = select(func.count()).where(objects.c.expired_ms.is_not(None))
    living = select(func.count()).where(objects.c.expired_ms.is_(None))
    async with AsyncExitStack() as opened:
        catalog = (await open_parts(config_of(folder), opened)).catalog
        return await catalog.read(
            lambda c: (c.execute(expired).scalar_one(), c.execute(living).scalar_one())
        )


async def test_what_sweeps_go_through_is_true(tmp_path: Path) -> None:
    await key_data.fill(tmp_path, 2)
    await key_data.multiply(tmp_path, 7)
    found = {}
    for name in sweep_worker.WORK:
        await sweep_worker.prepare(tmp_path, name)
        before = await counted(tmp_path)
        done = await sweep_worker.run(name, tmp_path)
        found[name] = (before, done["rows"], await counted(tmp_path))

    assert {
        "expire": ((0, 7), 3, (3, 4)),
        "bare": ((0, 7), 3, (3, 4)),
        "keep": ((7, 0), 7, (7, 0)),
        "count": ((7, 0), 7, (7, 0)),
    } == found


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_a_sweep_over_a_million_rows_takes_no_more_memory(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    await key_data.fill(tmp_path, 500)
    await key_data.multiply(tmp_path, MILLION)
    for name in ("expire", "keep"):
        await sweep_worker.prepare(tmp_path, name)
        done = await asyncio.to_thread(_run, name, tmp_path)
        more = (done["peak"] - done["idle"]) / MIB
        rate = done["rows"] / done["seconds"]
        measured(f"sweep, {MILLION:,} rows, {name}: {rate:,.0f} rows/s, {more:.1f} MiB more")
        assert more < MEMORY_MIB_MAX
        assert (MILLION // 2 if name == "expire" else MILLION) == done["rows"]
