"""Payloads in an IPFS node: our import and read against the node's own `add` and `cat`.

All ask the tests' own node, js-ipfs, which has one core; who asks has the other one. `add` and
`cat` are asked by plain requests of the same HTTP client, with our profile, pinned: what they make
is the same blocks. Ours are `IPFSStore`'s, by segments, two at once, as uploads have it.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp
import pytest

from crypto import LEAF_SIZE, SEGMENT_SIZE
from storage_gateway.backends import Range
from storage_gateway.backends.contract import MARKER_CONTENT
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient, KuboSettings
from tests.contract.ipfs import PinsInMemory
from tests.interop.node_modules import node_home
from tests.servers.ipfs import SCRIPTS, IpfsNode, ipfs_node
from urn import cid_of

from .figures import Row, Sample, interleave, rate_of
from .machine import cores, pinned, require_space
from .plan import Plan

RATIO_MIN = 0.8
AT_ONCE = 2
LEAVES_IN_RUN = 4
PIECE = 1 << 20
PROFILE = {
    "cid-version": "1",
    "cid-base": "base32",
    "raw-leaves": "true",
    "chunker": f"size-{LEAF_SIZE}",
    "pin": "true",
}
MARKER = "bench/marker"


@dataclass(slots=True)
class _Sides:
    """What is measured, each on an event loop of its own."""

    node: IpfsNode
    size: int
    plan: Plan
    stored: bytes = b""

    def imported(self) -> float:
        """Import through the store; return seconds."""
        data = self._fresh()
        return self._timed(lambda store: _put_all(store, data))

    def added(self) -> float:
        """Have the node add the same amount; return seconds."""
        data = self._fresh()

        async def add(_: IPFSStore) -> None:
            async with aiohttp.ClientSession() as session:
                form = aiohttp.FormData()
                form.add_field("file", _pieces(data), filename="payload")
                async with session.post(f"{self.node.api}/add", params=PROFILE, data=form) as said:
                    answer = await said.text()
                    assert str(cid_of(data)) in answer, answer

        return self._timed(add)

    def prepare_reads(self) -> None:
        """Store what both sides read."""
        self.stored = self._fresh()
        self._timed(lambda store: _put_all(store, self.stored))

    def read(self) -> float:
        """Read through the store, each leaf checked; return seconds."""
        return self._timed(lambda store: _read_all(store, self.stored))

    def cat(self) -> float:
        """Have the node put it together; return seconds."""

        async def cat(_: IPFSStore) -> None:
            size = 0
            # Its file is that of the whole: ours are those of segments.
            for start in range(0, len(self.stored), SEGMENT_SIZE):
                cid = cid_of(self.stored[start : start + SEGMENT_SIZE])
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(f"{self.node.api}/cat", params={"arg": str(cid)}) as said,
                ):
                    async for piece in said.content.iter_any():
                        size += len(piece)
            assert size == len(self.stored), size

        return self._timed(cat)

    def _fresh(self) -> bytes:
        """Return bytes that the node has never seen, once it has forgotten all others."""
        self.node.clear()
        return os.urandom(self.size)

    def _timed(self, work: Callable[[IPFSStore], Awaitable[None]]) -> float:
        async def run() -> float:
            api = self.node.api.removesuffix("/api/v0")
            settings = KuboSettings(name="node", api=api, deadline_s=600.0, idle_s=600.0)
            pins = PinsInMemory()
            store = IPFSStore(KuboClient(settings), pins, marker=MARKER, spool=self.plan.folder)
            try:
                await store.put(MARKER, MARKER_CONTENT)
                began = time.perf_counter()
                await work(store)
                return time.perf_counter() - began
            finally:
                await store.close()

        return asyncio.run(run())


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


async def _put_all(store: IPFSStore, data: bytes) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def put(start: int) -> None:
        async with places:
            writer = store.create(f"bench/{start // SEGMENT_SIZE}")
            segment = memoryview(data)[start : start + SEGMENT_SIZE]
            for at in range(0, len(segment), LEAF_SIZE):
                await asyncio.to_thread(writer.write, at, segment[at : at + LEAF_SIZE])
            await writer.finish()

    await asyncio.gather(*(put(start) for start in range(0, len(data), SEGMENT_SIZE)))


async def _read_all(store: IPFSStore, data: bytes) -> None:
    """Ask for the leaves in runs, the next one while one is checked, as downloads have it."""
    ranges = [
        Range(
            "bench/0",
            start % SEGMENT_SIZE,
            size,
            hashlib.sha256(data[start : start + size]).digest(),
        )
        for start in range(0, len(data), LEAF_SIZE)
        for size in [min(LEAF_SIZE, len(data) - start)]
    ]

    def check(_: int, leaf: bytes) -> int:
        hashlib.sha256(leaf).digest()
        return len(leaf)

    with ThreadPoolExecutor(2) as threads:
        runs = [ranges[at : at + LEAVES_IN_RUN] for at in range(0, len(ranges), LEAVES_IN_RUN)]
        ahead: list[asyncio.Task[list[int]]] = []
        size = 0
        for run in runs:
            ahead.append(asyncio.create_task(store.fetch(run, check, threads)))
            if len(ahead) > 1:
                size += sum(await ahead.pop(0))
        size += sum([sum(await task) for task in ahead])
    assert size == len(data), size


def has_node() -> bool:
    """Tell whether the node can be run here; the first time it is installed."""
    try:
        node_home(SCRIPTS)
    except (pytest.skip.Exception, pytest.fail.Exception):
        return False
    return True


def measure(plan: Plan) -> list[Row]:
    """Return the rates of imports and reads, and the node's own."""
    if not has_node():
        plan.notes.append("an IPFS node: NOT MEASURED, it needs Node.js 20 with npm")
        return []
    size = plan.transfer_size // 4
    require_space(plan.folder, 2 * size)
    load_core, server_core = cores()
    with pinned(server_core), ipfs_node() as node, pinned(load_core):
        sides = _Sides(node, size, plan)
        add, cat = ("node's add", sides.added), ("node's cat", sides.cat)
        rows = [_row(plan, f"IPFS import {size >> 20} MiB", size, sides.imported, add)]
        sides.prepare_reads()
        rows.append(_row(plan, f"IPFS read {size >> 20} MiB", size, sides.read, cat))
    return rows


def _row(
    plan: Plan,
    name: str,
    size: int,
    ours: Callable[[], float],
    peer: tuple[str, Callable[[], float]],
) -> Row:
    peer_name, theirs = peer
    walls = interleave(
        {"gateway": ours, peer_name: theirs},
        plan.runs,
        lambda side, s: plan.say(f"{name}: {side} {size / 1e6 / s:,.0f} MB/s"),
        warm_up=plan.judged,
    )
    rates: dict[str, Sample] = {side: rate_of(wall, size / 1e6) for side, wall in walls.items()}
    return Row(name, "MB/s", rates["gateway"], peer_name, rates[peer_name], ratio_min=RATIO_MIN)
