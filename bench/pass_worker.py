"""One pass over a deployment, in a process of its own: `python -m bench.pass_worker PASS FOLDER`.

Prints a JSON object: what was done, how long it took, and the process's peak memory before and
afterwards.
"""

import argparse
import asyncio
import io
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from storage_gateway.cli.rebuild import rebuild as catalog_rebuild
from storage_gateway.config import Config
from storage_gateway.erase import Erasure
from storage_gateway.parts import Parts, open_parts
from storage_gateway.settle import Settler
from storage_gateway.upkeep import Upkeep, make_upkeep

from .pass_data import REBUILD, STORES, config_of

Counts = tuple[int, int, bool]
"""Copies that were looked at or made, their bytes, and whether that was all there is."""


async def _scrub(upkeep: Upkeep) -> Counts:
    report = await upkeep.scrub.run_once()
    assert not report.bad, report
    assert not report.unread, report
    return report.right, report.bytes_read, report.ended


async def _repair(upkeep: Upkeep) -> Counts:
    report = await upkeep.repair.run_once()
    assert not report.failed + report.lost + report.waiting + report.found, report
    return report.made, report.bytes_copied, report.ended


PASSES: dict[str, Callable[[Upkeep], Awaitable[Counts]]] = {"scrub": _scrub, "repair": _repair}


def rebuild(folder: Path) -> dict[str, Any]:
    """Run ``catalog rebuild`` over a deployment whose catalog is gone, as an operator would."""
    config = config_of(folder)
    os.environ["GATEWAY_BACKENDS"] = json.dumps(
        [{"kind": "local", "name": b.name, "path": str(folder / b.name)} for b in config.stores]
    )
    given = {"data_dir": config.data_dir, "json": True, "quiet": True}
    nothing = dict.fromkeys(
        ("catalog_url", "config", "recovery_identity", "deployment", "accept_refused")
    )
    options, said = argparse.Namespace(**given, **nothing), io.StringIO()
    idle = peak_memory()
    began, cpu = time.perf_counter(), time.process_time()
    with redirect_stdout(said):
        status = catalog_rebuild(options)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_memory()  # before anything is counted: that takes memory, too
    report = json.loads(said.getvalue())
    assert status == 0, report
    return {
        "copies": report["objects"],
        "bytes": sum(path.stat().st_size for path in folder.glob(f"{STORES[0]}/*/*/manifests/*/*")),
        "seconds": seconds,
        "cpu_s": cpu_s,
        "idle": idle,
        "peak": peak,
    }


async def run(name: str, folder: Path) -> dict[str, Any]:
    """Run a pass again and again until it came to the end of all there is."""
    async with AsyncExitStack() as opened:
        # No gateway: what else it does by itself would be at work meanwhile.
        upkeep = _upkeep_of(config_of(folder), await open_parts(config_of(folder), opened))
        idle = peak_memory()
        copies, size, ended = 0, 0, False
        began, cpu = time.perf_counter(), time.process_time()
        while not ended:
            more, more_bytes, ended = await PASSES[name](upkeep)
            copies, size = copies + more, size + more_bytes
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        return {
            "copies": copies,
            "bytes": size,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "idle": idle,
            "peak": peak_memory(),
        }


def _upkeep_of(config: Config, parts: Parts) -> Upkeep:
    settler = Settler(parts.catalog, parts.store, instance_id="bench", payloads=parts.payloads)
    threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1))

    async def hold() -> None:
        pass

    return make_upkeep(
        config,
        parts,
        settler,
        erase_expired=Erasure(catalog=parts.catalog, settler=settler).erase_expired,
        threads=threads,
        check_room=lambda _wanted: None,
        hold_lease=hold,
    )


def peak_memory() -> int:
    """Return the highest resident size of this process so far, VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc tells no VmHWM")


if __name__ == "__main__":
    name, place = sys.argv[1], Path(sys.argv[2])
    done = rebuild(place) if name == REBUILD else asyncio.run(run(name, place))
    print(json.dumps(done), flush=True)
