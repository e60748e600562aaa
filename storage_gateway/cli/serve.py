"""``serve``: run a gateway until SIGTERM or SIGINT, then drain."""

import argparse
import asyncio
import os
import resource
import signal
import sys

from storage_gateway.app import Gateway
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.errors import GatewayError
from storage_gateway.logs import configure_logs

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE

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
    os.umask(0o077)
    try:
        asyncio.run(_serve(config))
    except (ConfigError, GatewayError) as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(config)
    await gateway.start()
    print(gateway.url, flush=True)
    await stop.wait()
    await gateway.stop()
