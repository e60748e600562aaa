"""One sweep, or what it is compared with, in a process of its own: `python -m bench.sweep_worker
WORK FOLDER`.

Prints a JSON object: rows, seconds, and the process's peak memory before and afterwards.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from storage_gateway.catalog import Catalog
from storage_gateway.parts import open_parts
from storage_gateway.records import Manifest
from storage_gateway.sweep import Sweep, SweepReport

from .pass_data import config_of
from .pass_worker import peak_memory

ALL = 10**12
# Nothing but what is due, or has expired, is in the catalog; times are far in the past or future.
_DUE = """UPDATE objects SET keep_until_ms = sequence, expires_ms = sequence, expired_ms = NULL,
    erase_after_ms = NULL, holds = sequence % 2"""
_KEPT = """UPDATE objects SET expires_ms = 1, expired_ms = 1,
    erase_after_ms = 100000000000000 + sequence"""
_EXPIRE = """UPDATE objects SET expired_ms = 10000000000000, erase_after_ms = 10000003600000
    WHERE state = 'committed' AND expired_ms IS NULL AND expires_ms <= 10000000000000
    AND holds = 0"""
_COUNT = """SELECT count(*) FROM objects WHERE state = 'committed' AND expired_ms IS NOT NULL
    AND NOT (expires_ms IS NULL OR expires_ms > 10000000000000
    OR (erase_after_ms <= 10000000000000 AND holds = 0))"""


async def prepare(folder: Path, name: str) -> None:
    """Have all rows be due and half of them held; or for ``keep``: expired, and to be kept."""
    statement = _KEPT if name in ("keep", "count") else _DUE
    async with AsyncExitStack() as opened:
        catalog = (await open_parts(config_of(folder), opened)).catalog
        await catalog.run(lambda c: c.execute(text(statement)).rowcount)


async def sweep(catalog: Catalog) -> SweepReport:
    """Sweep to the end of a round."""

    async def erase(_object_id: str) -> Manifest | None:
        raise AssertionError("nothing is to be erased")

    sweeping = Sweep(
        catalog=catalog, erase_expired=erase, share=0.01, leap_s=600.0, interval_s=60.0
    )
    done = SweepReport()
    while not done.ended:
        report = await sweeping.run_once(confirm=ALL)
        done.looked += report.looked
        done.expired += report.expired
        done.ended = report.ended
    return done


async def expire(catalog: Catalog) -> int:
    """Have what is due expire; return how much did."""
    return (await sweep(catalog)).expired


async def keep(catalog: Catalog) -> int:
    """Go through what has expired, and is to be kept; return how much that is."""
    done = await sweep(catalog)
    assert not done.expired, done
    return await count(catalog)


async def bare(catalog: Catalog) -> int:
    """Make the change that a sweep makes, in one statement."""
    return await catalog.run(lambda c: c.execute(text(_EXPIRE)).rowcount)


async def count(catalog: Catalog) -> int:
    """Count what a sweep would go through."""

    def unit(connection: Connection) -> int:
        return int(connection.execute(text(_COUNT)).scalar_one())

    return await catalog.read(unit)


WORK: dict[str, Callable[[Catalog], Awaitable[int]]] = {
    "expire": expire,
    "bare": bare,
    "keep": keep,
    "count": count,
}


async def run(name: str, folder: Path) -> dict[str, Any]:
    """Do one piece of work over the catalog of a folder."""
    async with AsyncExitStack() as opened:
        catalog = (await open_parts(config_of(folder), opened)).catalog
        idle = peak_memory()
        began, cpu = time.perf_counter(), time.process_time()
        rows = await WORK[name](catalog)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        return {
            "rows": rows,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "idle": idle,
            "peak": peak_memory(),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Path(sys.argv[2])))), flush=True)
