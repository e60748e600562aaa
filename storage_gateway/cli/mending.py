"""``check --repair``: what a check found bad is marked, and repair is run to its end.

Safe beside running gateways. A copy is marked as reads mark it, and only where it counts as placed;
copies are made under the lease of the pass, of which one process has a turn at a time, and nothing
counts as placed before it was read back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

from storage_gateway.backends import Member, Replicas
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.work import is_anybody_alive
from storage_gateway.config import Config
from storage_gateway.errors import BackendUnavailable, BlobMissing
from storage_gateway.markers import marker_key
from storage_gateway.parts import payloads_prefix
from storage_gateway.pins import pins_in
from storage_gateway.records import Wanted
from storage_gateway.repair import Repair, RepairReport
from storage_gateway.room import require_room
from storage_gateway.stores import join_stores, members_of, open_stores

SECONDS = 1.0
"""How long one pass lasts: so often a person is told."""
BUSY_S = 2.0
ROUNDS_MAX = 4


@dataclass(slots=True)
class Mended:
    """What became of the copies that were to be made."""

    made: int = 0
    found: int = 0
    """They are right, and nothing was to be made."""
    bytes_copied: int = 0
    left: int = 0
    """Could not be made; the log says why."""


async def mend(
    config: Config, catalog: Catalog, deployment_id: str, on_copies: Callable[[int], None]
) -> Mended:
    """Make every copy that can be; ``on_copies`` is told how many were dealt with.

    Raises:
        CatalogUnavailable
        ConfigError: a file that a setting names cannot be used.

    """
    marker = marker_key(deployment_id)
    async with AsyncExitStack() as opened:
        members = members_of(config, await open_stores(config, marker, opened, pins_in(catalog)))
        for member in members:
            member.ready = await _is_ours(member, marker)
        joined = join_stores(config, members, opened)
        threads = ThreadPoolExecutor(2, thread_name_prefix="mend")
        opened.push_async_callback(asyncio.to_thread, threads.shutdown)
        # What a process that is gone did not bring to a store does not come by itself any more.
        settled_s = None if await catalog.read(is_anybody_alive) else 0.0
        repair = Repair(
            catalog=catalog,
            store=joined if isinstance(joined, Replicas) and len(members) > 1 else None,
            threads=threads,
            payloads=payloads_prefix(deployment_id),
            spool=config.data_dir,
            check_room=lambda store: require_room(config, Wanted((store,), 1)),
            settled_s=settled_s,
        )
        return await run_to_end(repair, on_copies)


async def run_to_end(repair: Repair, on_copies: Callable[[int], None]) -> Mended:
    """Run rounds until one makes nothing: the first may have begun where another process stopped,
    behind what was to be made.

    Raises:
        CatalogUnavailable

    """
    mended = Mended()
    for number in range(ROUNDS_MAX):
        made = await _run_round(repair, mended, on_copies, at_once=number == 0)
        if number and not made:
            break
    return mended


async def _run_round(
    repair: Repair, mended: Mended, on_copies: Callable[[int], None], *, at_once: bool
) -> int:
    """Return how many copies are there that were not before."""
    nothing, made = RepairReport(), 0
    mended.left = 0
    while True:
        report = await repair.run_once(within_s=SECONDS, at_once=at_once)
        if report == nothing:
            await asyncio.sleep(BUSY_S)  # another process has its turn
            continue
        made += report.made + report.found
        mended.made += report.made
        mended.found += report.found
        mended.bytes_copied += report.bytes_copied
        mended.left += report.lost + report.failed + report.waiting
        on_copies(report.made + report.found + report.lost + report.failed)
        if report.ended:
            return made


async def _is_ours(member: Member, marker: str) -> bool:
    """Tell whether a store answers and is this deployment's: into no other one is written."""
    try:
        await member.store.stat(marker)
    except (BlobMissing, BackendUnavailable):
        return False
    return True
