"""``serve``: run a gateway until SIGTERM or SIGINT, then drain."""

import argparse
import asyncio
import logging
import os
import sys

from storage_gateway.config import Config, ConfigError, load_config, warnings_of
from storage_gateway.errors import GatewayError

from .output import EXIT_FAILED, EXIT_OK, EXIT_USAGE, give_up_stdout
from .process import (
    fit_descriptors,
    prepare_process,
    require_descriptors,
    settle_objects,
    stop_on_signals,
)

logger = logging.getLogger(__name__)

SETTINGS = (
    "data_dir",
    "catalog_url",
    "host",
    "port",
    "workers",
    "admin_port",
    "behind_proxy",
    "tls_certificate",
    "tls_key",
    "log_level",
    "enable_stress",
    "serve_ipfs",
)


def serve(options: argparse.Namespace) -> int:
    """Run until told to stop: one gateway in this process, or several workers below it."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    try:
        config = load_config(file=options.config, environment=os.environ, options=settings)
    except ConfigError as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_USAGE
    prepare_process(config.log_level)
    for why in warnings_of(config):
        logger.warning("look at this setting", extra={"why": why})
    try:
        require_descriptors()
        if config.workers > 1:
            from .supervisor import supervise

            return asyncio.run(supervise(config, file=options.config, options=settings))
        asyncio.run(_serve(fit_descriptors(config)))
    except (ConfigError, GatewayError) as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _serve(config: Config) -> None:
    # Imported here: the parent of workers needs none of it.
    from storage_gateway.app import Gateway

    stop = stop_on_signals()
    gateway = Gateway(config)
    await gateway.start()
    settle_objects()
    print(gateway.url)
    give_up_stdout()  # a server goes on when nobody reads that line
    await stop.wait()
    await gateway.stop()
