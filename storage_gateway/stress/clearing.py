"""Clearing a run away: its processes, blobs, files, schema, and its objects in the serving catalog.

Every step is idempotent, and finds all it needs by the run's id alone: whoever recovers a dead
process's run does the same.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage_gateway.backends import LocalStore
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.pins import NoPins
from storage_gateway.catalog import Catalog, Unit
from storage_gateway.catalog.objects import list_objects
from storage_gateway.catalog.stress_remains import (
    drop_control_session,
    drop_outdated_run,
    find_remains,
)
from storage_gateway.catalog.stress_runs import RunRow, control_session, revoke_tokens_of
from storage_gateway.config import Config, IPFSBackend
from storage_gateway.erase import Erasure
from storage_gateway.markers import marker_key
from storage_gateway.parts import stress_namespace
from storage_gateway.pins import PinsOf, pins_in
from storage_gateway.records import Manifest, ObjectState
from storage_gateway.stores import open_stores

from .catalogs import drop_schema, find_run_catalog
from .run_stores import horizon_of, run_backends
from .world import STRESS_FOLDER, run_folder

logger = logging.getLogger(__name__)

PAGE = 200


@dataclass(slots=True)
class Cleared:
    """What was found and removed."""

    blobs: int = 0
    control_objects: int = 0
    processes: int = 0


async def clear_run(
    config: Config, catalog: Catalog, erasure: Erasure, deployment_id: str, run: RunRow
) -> Cleared:
    """Remove everything of a run.

    Raises:
        GatewayError, OSError: something could not be removed now; do it again later.

    """
    cleared = Cleared()
    for pid, started in run.children:
        cleared.processes += await asyncio.to_thread(end_process, pid, started)
    prefix = f"{deployment_id}/{stress_namespace(run.run_id)}/"
    async with AsyncExitStack() as opened:
        marker = marker_key(deployment_id)
        pins_of = await _pins_of_run(config, catalog, run.run_id, opened)
        for store in await open_stores(config, marker, opened, pins_of):
            # Else an unmounted disk would be taken for one that is clean.
            await store.stat(marker)
            found = [blob.key async for blob in store.list(prefix)]
            for key in found:
                await store.delete(key)
            cleared.blobs += len(found)
            if isinstance(store, IPFSStore):
                sent = [pin.key async for pin in pins_of(store.name).below(prefix)]
                await _unpin_late(config, store, run, set(sent) - set(found))
            if isinstance(store, LocalStore):
                await store.drop_folders(prefix)
    await asyncio.to_thread(_remove_files, config, run.run_id)
    await drop_schema(catalog, run.run_id)
    cleared.control_objects = await _erase_all(catalog, erasure, control_session(run.run_id))
    await catalog.run(lambda c: revoke_tokens_of(c, control_session(run.run_id)))
    return cleared


async def _unpin_late(config: Config, node: IPFSStore, run: RunRow, keys: Collection[str]) -> None:
    """Remove what was sent and is not there: of a process that was killed it may come yet."""
    if keys and run.children:
        await asyncio.sleep(horizon_of(run_backends(config.stores, config.data_dir, 1)))
    for key in keys:
        await node.delete(key)


async def _pins_of_run(
    config: Config, serving: Catalog, run_id: str, opened: AsyncExitStack
) -> PinsOf:
    """Return where the run wrote down what it sent to nodes: a node has no names to ask for."""
    if any(isinstance(backend, IPFSBackend) for backend in config.backends):
        folder = run_folder(config, run_id)
        of_run = await asyncio.to_thread(find_run_catalog, config, serving, folder, run_id)
        if of_run is not None:
            opened.push_async_callback(asyncio.to_thread, of_run.close)
            return pins_in(of_run)
    return lambda _name: NoPins()


async def drop_remains(catalog: Catalog) -> None:
    """Drop what ended runs left in the serving catalog, as far as that may go by now.

    Raises:
        CatalogUnavailable: not now; do it again later.

    """
    remains = await catalog.read(find_remains)
    for run_id in remains.sessions:
        if await catalog.run(partial(drop_control_session, run_id=run_id)):
            logger.info("control session dropped", extra={"run_id": run_id})
    for run_id in remains.rows:
        await catalog.run(partial(drop_outdated_run, run_id=run_id))


async def _erase_all(catalog: Catalog, erasure: Erasure, session_id: str) -> int:
    erased = 0
    after: tuple[str, int] | None = None
    while True:
        page = await catalog.read(_page_of(session_id, after))
        if not page:
            return erased
        for manifest in page:
            if manifest.state is ObjectState.COMMITTED:
                await erasure.erase(manifest.object_id)
                erased += 1
        after = (session_id, page[-1].sequence)


def _page_of(session_id: str, after: tuple[str, int] | None) -> Unit[list[Manifest]]:
    return lambda c: list_objects(c, session_id, after=after, limit=PAGE)


def _remove_files(config: Config, run_id: str) -> None:
    folder = run_folder(config, run_id)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # there is another run's
        (config.data_dir / STRESS_FOLDER).rmdir()


def start_time(pid: int) -> int:
    """Return when a process was started, in the kernel's ticks since boot; 0 when that is not told
    (no Linux), or there is no such process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name, in brackets, may hold spaces and brackets. Source: proc(5), field 22.
    return int(stat.rpartition(")")[2].split()[19])


def end_process(pid: int, started: int) -> bool:
    """Kill a run's process if it is still the one that was started; True if it was."""
    if not started or start_time(pid) != started:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
