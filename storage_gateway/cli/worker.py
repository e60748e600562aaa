"""A worker of ``serve --workers N``: a gateway that gets its connections from the parent process.

Started by `supervisor` as a program of its own, with its configuration on stdin. It ends when it is
told to, or when the parent is gone.
"""

import asyncio
import sys
from collections.abc import Sequence

from storage_gateway.app import Gateway, Handed
from storage_gateway.config import Config, ConfigError, decode_config
from storage_gateway.errors import GatewayError
from storage_gateway.line import WorkerEnd, worker_end

from .output import EXIT_FAILED, EXIT_OK
from .process import fit_descriptors, prepare_process, stop_on_signals


def work(arguments: Sequence[str]) -> int:
    """Run; the arguments are the worker's number, its two descriptors and the base URL."""
    number, down, reports = map(int, arguments[:3])
    config = decode_config(sys.stdin.buffer.read())
    prepare_process(config.log_level, number)
    try:
        asyncio.run(_serve(fit_descriptors(config), worker_end(down, reports), arguments[3]))
    except (ConfigError, GatewayError) as error:
        print(f"storage-gateway serve: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _serve(config: Config, line: WorkerEnd, url: str) -> None:
    stop = stop_on_signals()
    gateway = Gateway(config, handed=Handed(line=line, url=url, on_end=stop.set))
    await gateway.start()
    await stop.wait()
    await gateway.stop()


if __name__ == "__main__":
    sys.exit(work(sys.argv[1:]))
