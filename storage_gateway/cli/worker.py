"""A worker of ``serve --workers N``: a gateway that gets its connections from the parent process.

Started by `supervisor` as a program of its own, told on stdin what the command was given. It ends
when it is told to, or when the parent is gone.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from storage_gateway.app import Gateway, Handed
from storage_gateway.config import Config, ConfigError, load_config
from storage_gateway.errors import GatewayError
from storage_gateway.line import AGAIN, worker_end

from .output import EXIT_FAILED, EXIT_OK
from .process import fit_descriptors, prepare_process, settle_objects, stop_on_signals


def work(arguments: Sequence[str]) -> int:
    """Run; the arguments are the worker's number, the two descriptors of its line, and `AGAIN` if
    it is in the place of one that served.
    """
    number, down, reports = map(int, arguments[:3])
    told = json.load(sys.stdin.buffer)
    file = told["file"] and Path(told["file"])
    try:
        config = load_config(file=file, environment=os.environ, options=told["options"])
        prepare_process(config.log_level, number)
        handed = Handed(
            line=worker_end(down, reports),
            url=told["url"],
            number=number - 1,
            replaces=AGAIN in arguments[3:],
        )
        asyncio.run(_serve(fit_descriptors(config), handed))
    except (ConfigError, GatewayError) as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _serve(config: Config, handed: Handed) -> None:
    stop = stop_on_signals()
    gateway = Gateway(config, handed=replace(handed, on_end=stop.set))
    await gateway.start()
    settle_objects()
    await stop.wait()
    await gateway.stop()


if __name__ == "__main__":
    sys.exit(work(sys.argv[1:]))
