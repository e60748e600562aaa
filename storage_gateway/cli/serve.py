"""``serve``: run a gateway until SIGTERM or SIGINT, then drain."""

import argparse
import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys

import msgspec

from storage_gateway.app import Gateway
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.errors import GatewayError
from storage_gateway.logs import configure_logs

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, give_up_stdout

logger = logging.getLogger(__name__)

DESCRIPTORS_OWN = 256
"""Open files that are not connections."""
PR_SET_DUMPABLE = 4
MIB = 1 << 20
# Names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8

SETTINGS = (
    "data_dir",
    "host",
    "port",
    "behind_proxy",
    "tls_certificate",
    "tls_key",
    "log_level",
)


def serve(options: argparse.Namespace) -> int:
    """Run until told to stop."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    try:
        config = load_config(file=options.config, environment=os.environ, options=settings)
    except ConfigError as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_USAGE
    configure_logs(config.log_level)
    # A core dump would hold file keys and plaintext.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _forbid_looking_in()
    _keep_freed_memory()
    os.umask(0o077)
    try:
        asyncio.run(_serve(_fit_descriptors(config)))
    except (ConfigError, GatewayError) as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _fit_descriptors(config: Config) -> Config:
    """Keep connections from using up the descriptors that the catalog and the store need."""
    wanted = config.connections_max + DESCRIPTORS_OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed == wanted:
        return config
    connections = max(1, allowed - DESCRIPTORS_OWN)
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


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(config)
    await gateway.start()
    print(gateway.url)
    give_up_stdout()  # a server goes on when nobody reads that line
    await stop.wait()
    await gateway.stop()
