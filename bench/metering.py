"""What it costs an upload of 4 KiB to be counted: `python -m bench.metering`.

Uploads: two gateways in one process, each over a folder of its own; of the second one nothing is
counted. Uploads go to both in turn, and the CPU time of the process is read before and after: that
of the load generator is in it, the same for both sides.

Alone: what is counted for one upload, an operation of a store and a request, and the same operation
uncounted, over a store that does nothing. Of the first this is what noise hides on a busy machine.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Self, cast

from storage_gateway.app import Gateway
from storage_gateway.backends import KeyedStore
from storage_gateway.backends.metered import MeteredStore
from storage_gateway.cli.process import settle_objects
from storage_gateway.config import load_config
from storage_gateway.custody import OPERATOR_TOKEN_FILE
from storage_gateway.metrics import Metrics
from storage_gateway.parts import open_parts

from .figures import Sample, in_microseconds, interleave
from .servers import GatewayServer, session_token
from .small import AT_ONCE, SIZE, Requests, upload_to

METERED, SILENT = "metered", "not metered"
RUNS = 25
COUNT = 20 * AT_ONCE
REQUESTS = b"storage_gateway_request_seconds_count{"


class _Silent(Metrics):
    """Counts no request."""

    def observe_request(self, *_: object) -> None:
        """Do nothing."""


class _Here(GatewayServer):
    """A gateway in this process."""

    def cpu_s(self) -> float:
        """Return the CPU seconds of this process; those of /proc are hundredths."""
        return time.process_time()


async def measure_uploads(folder: Path, runs: int, count: int) -> dict[str, Sample]:
    """Return for both sides, run by run, the CPU seconds of an upload."""
    async with AsyncExitStack() as opened:
        gateways = {
            side: await opened.enter_async_context(_served(folder / side, metered=side == METERED))
            for side in (METERED, SILENT)
        }
        settle_objects()
        sides = {
            side: Requests(server, upload_to(server), AT_ONCE, count)
            for side, (_, server) in gateways.items()
        }

        work = {side: partial(_cpu_s, each) for side, each in sides.items()}
        samples = await asyncio.to_thread(interleave, work, runs, warm_up=True)
        for side, (gateway, _) in gateways.items():
            (member,) = gateway.parts.members
            counted = isinstance(member.store, MeteredStore), REQUESTS in gateway.metrics.text()
            assert (side == METERED,) * 2 == counted, "the sides are not what they are called"
        return samples


def _cpu_s(requests: Requests) -> float:
    requests.measure()
    return requests.cpu_s[-1] / len(requests.answers)


@asynccontextmanager
async def _served(data_dir: Path, *, metered: bool) -> AsyncIterator[tuple[Gateway, GatewayServer]]:
    options = {"data_dir": data_dir, "port": 0}
    config = load_config(file=None, environment={}, options=options)
    async with AsyncExitStack() as opened:
        gateway = Gateway(config, None if metered else await open_parts(config, opened))
        if not metered:
            gateway.metrics = _Silent()
        await gateway.start()
        opened.push_async_callback(gateway.stop)
        operator = (data_dir / OPERATOR_TOKEN_FILE).read_text(encoding="ascii").strip()
        token = await asyncio.to_thread(session_token, gateway.url, operator, data_dir)
        yield gateway, _Here(gateway.url, 0, operator, token)


class _Nothing:
    """Stands for a store, and for a blob on its way to it."""

    name = "nothing"
    held = 0

    def create(self, _key: str) -> Self:
        return self

    def write(self, offset: int, data: memoryview) -> None:
        pass

    async def finish(self) -> tuple[str, ...]:
        return ()


async def measure_alone(runs: int, count: int) -> dict[str, Sample]:
    """Return for both sides, run by run, the CPU seconds of what belongs to one upload."""
    metrics, silent = Metrics(), _Silent()
    bare = cast("KeyedStore", _Nothing())
    stores = {METERED: (MeteredStore(bare, metrics.observe_store), metrics), SILENT: (bare, silent)}
    data = memoryview(bytes(SIZE))
    values: dict[str, list[float]] = {side: [] for side in stores}
    for _ in range(runs):
        for side, (store, counting) in stores.items():
            began = time.thread_time()
            for _ in range(count):
                writer = store.create("key")
                writer.write(0, data)
                await writer.finish()
                counting.observe_request("POST", "/v1/a/{path}", "201", 0.01)
            values[side].append((time.thread_time() - began) / count)
    return {side: Sample(tuple(found)) for side, found in values.items()}


def shown(what: str, samples: dict[str, Sample]) -> str:
    """Return the medians, and that of the differences between runs that followed each other."""
    metered, silent = (in_microseconds(samples[side]) for side in (METERED, SILENT))
    pairs = [a - b for a, b in zip(metered.values, silent.values, strict=True)]
    low, middle, high = statistics.quantiles(pairs * 2, n=4)  # twice: one run is enough
    return (
        f"{what}, CPU: {METERED} {metered.median:.1f} us, {SILENT} {silent.median:.1f} us;"
        f" difference of pairs: median {middle:.1f} us, half of them {low:.1f} to {high:.1f}"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.metering", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="of each side (%(default)s)")
    parser.add_argument("--count", type=int, default=COUNT, help="uploads in each (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="storage-gateway-bench-") as scratch:
        uploads = asyncio.run(measure_uploads(Path(scratch), options.runs, options.count))
    print(shown(f"upload of {SIZE} bytes, {AT_ONCE} at once", uploads))
    print(shown("alone", asyncio.run(measure_alone(options.runs, options.count))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
