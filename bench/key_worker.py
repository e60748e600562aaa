"""One piece of work on keys, in a process of its own: `python -m bench.key_worker WORK FOLDER`.

Prints a JSON object: how much was done, and in how many seconds.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from crypto import X25519Identity, open_head, parse_recipient, rewrap
from storage_gateway.catalog.registry import Holder, add_key
from storage_gateway.catalog.rewrapping import find_stale, list_wrapped
from storage_gateway.catalog.tables import objects
from storage_gateway.catalog.wraps import take_census
from storage_gateway.jobs import Jobs
from storage_gateway.parts import Parts, open_parts
from storage_gateway.records import USER
from storage_gateway.rewrap import Rewrap

from .pass_data import SESSION, config_of

Done = dict[str, float]


async def rewrap_all(parts: Parts) -> Done:
    """Rotate the user's key, and have a job wrap all heads anew; then open some of them."""
    new = await _rotate(parts)
    threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    work = Rewrap(parts.catalog, threads=threads, keyring=parts.keyring)

    async def hold() -> None:
        pass

    jobs = Jobs(
        parts.catalog, instance_id="bench", kinds={"rewrap": work}, hold_lease=hold, jobs_max=1
    )
    began, cpu = time.perf_counter(), time.process_time()
    job = await jobs.start("rewrap", None, 0.0)
    async for row in jobs.watch(job.job_id):
        job = row
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    assert not job.counts["failed"], job
    heads = await parts.catalog.read(_all_heads)
    for head in heads[:: max(1, len(heads) // 100)]:
        open_head(head, [new])
    assert job.counts["done"] == len(heads), job
    return {"done": float(job.counts["done"]), "seconds": seconds, "cpu_s": cpu_s}


async def crypto_alone(parts: Parts) -> Done:
    """Make the same heads, one after the other on this thread, and put them nowhere."""
    await _rotate(parts)
    stale = (await parts.catalog.read(lambda c: list(find_stale(c))))[0]
    page = partial(list_wrapped, wrap_id=stale.wrap.wrap_id, after="", limit=2000)
    identities = parts.keyring.opening()
    wanted = [parse_recipient(party.recipient) for party in stale.wanted]
    manifests = await parts.catalog.read(page)
    began, cpu = time.perf_counter(), time.process_time()
    for manifest in manifests:
        current = [parse_recipient(party.recipient) for party in manifest.wrapped_for]
        context, head = manifest.context(), manifest.head or b""
        rewrap(head, identities, current=current, wanted=wanted, context=context)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return {"done": float(len(manifests)), "seconds": seconds, "cpu_s": cpu_s}


async def census(parts: Parts) -> Done:
    """Count what is wrapped for each set of keys."""
    return await _timed(parts, lambda c: sum(each.heads for each in take_census(c)))


async def count(parts: Parts) -> Done:
    """Have the database count the rows, and nothing else."""
    return await _timed(
        parts, lambda c: int(c.execute(select(func.count()).select_from(objects)).scalar_one())
    )


WORK = {"rewrap": rewrap_all, "crypto": crypto_alone, "census": census, "count": count}


async def _timed(parts: Parts, unit: Callable[[Connection], int]) -> Done:
    await parts.catalog.read(unit)  # from the page cache, both
    began, cpu = time.perf_counter(), time.process_time()
    done = await parts.catalog.read(unit)
    return {
        "done": float(done),
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
    }


async def _rotate(parts: Parts) -> X25519Identity:
    new = X25519Identity.generate()
    holder = Holder(SESSION, USER, None)
    add = partial(
        add_key,
        holder=holder,
        recipient=str(new.recipient()),
        key_class="classic",
        proven=False,
    )
    await parts.catalog.run(add)
    return new


def _all_heads(connection: Connection) -> list[bytes]:
    return list(connection.execute(select(objects.c.head)).scalars())


async def run(name: str, folder: Path) -> dict[str, Any]:
    """Do one piece of work over the catalog of a folder."""
    async with AsyncExitStack() as opened:
        return await WORK[name](await open_parts(config_of(folder), opened))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Path(sys.argv[2])))), flush=True)
