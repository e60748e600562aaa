"""Proxies before one server, each with a slow link: `python -m bench.slow_link PORT COUNT MIB`.

Each has 20 ms of latency each way and carries so many MiB a second. The first line on stdout are
their ports.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from storage_gateway.stress.tcp_faults import ProxyFault
from storage_gateway.stress.tcp_proxy import tcp_proxy

from .figures import MIB

LATENCY_S = 0.02


async def serve(port: int, count: int, mib_per_s: int) -> None:
    """Run until killed."""
    slow = ProxyFault(latency_s=LATENCY_S, link_bytes_per_s=mib_per_s * MIB)
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(tcp_proxy(port, seed=seed)) for seed in range(count)
        ]
        for proxy in proxies:
            await proxy.inject(slow)
        print(*(proxy.port for proxy in proxies), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
