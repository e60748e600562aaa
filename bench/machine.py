"""The machine that is measured on: its cores, its free disk, one line that says what it is."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .figures import MIB

PACKAGES = ("aiohttp", "cryptography", "pyrage")


class NotMeasurable(Exception):
    """This machine cannot be measured on; the text says what it lacks."""


def cores() -> tuple[int, int]:
    """Return the core of the load generator and that of the server.

    They are the same where this process may use one core only; the figures say so then.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread, and processes that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def require_space(folder: Path, size: int) -> None:
    """Raise NotMeasurable unless the disk under `folder` has `size` bytes to spare, twice over."""
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise NotMeasurable(
            f"{folder} has {free // MIB:,} MiB free and {2 * size // MIB:,} are wanted: "
            "free some, or let TMPDIR name a folder on a larger disk"
        )


def describe() -> str:
    """Return processor, cores, memory, kernel and versions in one line."""
    load_core, server_core = cores()
    pinning = (
        f"load on core {load_core}, server on core {server_core}"
        if load_core != server_core
        else "one core for both sides"
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{_processor()}, {os.cpu_count()} cores ({pinning}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, {versions}; "
        f"load average at the start {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
