"""What every process of `serve` does to itself before it holds a secret: log, limits, memory."""

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import sys

import msgspec

from storage_gateway.config import Config, ConfigError
from storage_gateway.logs import configure_logs

logger = logging.getLogger(__name__)

DESCRIPTORS_OWN = 256
"""Open files of the catalog, the log, the listener and the folders that are being synced."""
DESCRIPTORS_MIN = 64
"""What a gateway with one connection gets along with."""
DESCRIPTORS_EACH = 3
"""Of a connection: its socket, and the two segments of its upload that are not placed yet."""
PR_SET_DUMPABLE = 4
COLLECT_AFTER = 10_000
"""New objects between two collections of the youngest; Python's own 700 is a request or two."""
MIB = 1 << 20
# Names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8


def prepare_process(log_level: str, worker: int | None = None) -> None:
    """Set up the log and close the process to others; ``worker`` is its number if it is one."""
    configure_logs(log_level, worker)
    # A core dump would hold file keys and plaintext.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _forbid_looking_in()
    _keep_freed_memory()
    os.umask(0o077)


def require_descriptors() -> None:
    """Refuse a limit on open files with which a process would fail somewhere at its start.

    Raises:
        ConfigError: it is that low.

    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_MIN:
        raise ConfigError(
            f"the limit on open files is {hard}, a gateway needs {DESCRIPTORS_MIN} at least, and"
            f" {DESCRIPTORS_EACH} more for each connection: raise it (ulimit -n)"
        )


def fit_descriptors(config: Config) -> Config:
    """Keep connections from using up the descriptors that the catalog and the store need."""
    wanted = config.connections_max * DESCRIPTORS_EACH + DESCRIPTORS_OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed == wanted:
        return config
    connections = max(1, (allowed - DESCRIPTORS_OWN) // DESCRIPTORS_EACH)
    logger.warning(
        "fewer connections than configured: the limit on open files is low (ulimit -n)",
        extra={"open_files": hard, "connections_max": connections},
    )
    return msgspec.structs.replace(config, connections_max=connections)


def _forbid_looking_in() -> None:
    """Keep other processes of this user out of memory, environment and core dumps (Linux).

    The limit above does not hold where the kernel pipes dumps to a program, see core(5).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _keep_freed_memory() -> None:
    """Have the C library keep freed buffers for the next leaf instead of giving them back.

    glibc maps a buffer of that size anew each time, and the kernel then zeroes it page by page: 6
    to 12 % of the CPU time of a transfer. One arena, because with one for each thread every worker
    would keep a stock of its own. Other C libraries have no such call. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (M_ARENA_MAX, 1),
        (M_MMAP_THRESHOLD, 32 * MIB),
        (M_TRIM_THRESHOLD, 64 * MIB),
        (M_TOP_PAD, 4 * MIB),
    ):
        mallopt(parameter, value)


def settle_objects() -> None:
    """Have the collector leave alone what is there once a gateway serves, and run more seldom.

    What is made at start stays to the end, and requests leave hardly a cycle behind: going through
    all of it again and again was one in twenty of the CPU time of small uploads.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def stop_on_signals() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
