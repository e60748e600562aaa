"""One pass over a deployment, in a process of its own: `python -m bench.pass_worker PASS FOLDER`.

Prints a JSON object: what was done, how long it took, and the process's peak memory before and
afterwards.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from storage_gateway.app import Gateway

from .pass_data import config_of

Counts = tuple[int, int, bool]
"""Copies that were looked at or made, their bytes, and whether that was all there is."""


async def _scrub(gateway: Gateway) -> Counts:
    report = await gateway.upkeep.scrub.run_once()
    assert not report.bad, report
    assert not report.unread, report
    return report.right, report.bytes_read, report.ended


async def _repair(gateway: Gateway) -> Counts:
    report = await gateway.upkeep.repair.run_once()
    assert not report.failed + report.lost + report.waiting + report.found, report
    return report.made, report.bytes_copied, report.ended


PASSES: dict[str, Callable[[Gateway], Awaitable[Counts]]] = {"scrub": _scrub, "repair": _repair}


async def run(name: str, folder: Path) -> dict[str, Any]:
    """Run a pass again and again until it came to the end of all there is."""
    gateway = Gateway(config_of(folder))
    await gateway.start()
    try:
        idle = peak_memory()
        copies, size, ended = 0, 0, False
        began, cpu = time.perf_counter(), time.process_time()
        while not ended:
            more, more_bytes, ended = await PASSES[name](gateway)
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
    finally:
        await gateway.stop()


def peak_memory() -> int:
    """Return the highest resident size of this process so far, VmHWM, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc tells no VmHWM")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Path(sys.argv[2])))), flush=True)
