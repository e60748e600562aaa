"""The IPFS store: payloads in a node that speaks Kubo's RPC.

A blob is the leaves of one segment, as raw blocks, and the file node above them: what `ipfs add`
with our profile makes of it. What is pinned is a directory of our own above that, whose one entry
is called by the blob's key. So each root is one that nobody else has, whoever pins the same bytes:
removing it takes nothing from others, nor from another upload of the same bytes, and the node
itself counts who needs a block.

What is under a key is written down (`Pins`) before the node is asked, which knows nothing of keys.
No head ever comes here: what is removed stays in the node until its collector runs, and with others
for as long as they want.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from storage_gateway.errors import BlobCorrupt, BlobMissing
from urn import (
    CID,
    LEAF_SIZE,
    Codec,
    DAGBuilder,
    Entry,
    car_header,
    car_section,
    encode_directory,
)

from .contract import BlobInfo, Check, Range, check_key
from .kubo import KuboClient, Refused
from .pins import Pin, Pins
from .spool import Spool
from .spooled import SpooledWriter, SpooledWriters

T = TypeVar("T")

MARKER_FRESH_S = 30.0
SENT_AT_ONCE = 256 << 10


class IPFSStore:
    """Blobs in an IPFS node. Methods are those of the contract."""

    def __init__(
        self,
        client: KuboClient,
        pins: Pins,
        *,
        marker: str,
        spool: Path,
        marker_fresh_s: float = MARKER_FRESH_S,
    ) -> None:
        """``marker`` is the key of the blob that shows that the node is the deployment's, ``spool``
        a folder for segments on their way.
        """
        self.name = client.settings.name
        self._client = client
        self._pins = pins
        self._marker = marker
        self._marker_fresh_s = marker_fresh_s
        self._marker_seen_s: float | None = None
        self._writers = SpooledWriters(spool, store=self.name, send=self._send)

    @property
    def names(self) -> tuple[str, ...]:
        """The store itself; see the contract."""
        return (self.name,)

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        await self._client.close()

    def create(self, key: str) -> SpooledWriter:
        """Begin a blob; see the contract."""
        return self._writers.create(key)

    async def put(self, key: str, data: bytes) -> None:
        """Store a small blob; see the contract."""
        writer = self.create(key)
        try:
            await asyncio.to_thread(writer.write, 0, memoryview(data))
            await writer.finish()
        finally:
            await writer.abort()

    async def _send(self, key: str, spool: Spool) -> None:
        check_key(key)
        if key != self._marker:
            await self._check_marker()
        leaves = await asyncio.to_thread(_digests_of, spool)
        blob = _Blob(key, spool, leaves)
        # Before a byte of it leaves the process: what nobody knows of is never removed.
        await self._pins.intend(Pin(key, blob.root, spool.size, leaves))
        await self._client.import_car(blob.root, blob.car)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        check_key(key)
        pin = await self._pins.find(key)
        if pin is None:
            raise await self._missing(key)
        if size == 0 or offset + size > pin.size:
            await self.stat(key)  # what is written down is no proof of anything
            if offset + size > pin.size:
                raise self._corrupt(key, pin.size)
            return b""
        pieces = []
        for at in range(offset // LEAF_SIZE, -(-(offset + size) // LEAF_SIZE)):
            leaf = await self._leaf(pin, at)
            start = at * LEAF_SIZE
            pieces.append(leaf[max(0, offset - start) : offset + size - start])
        data = b"".join(pieces)
        if len(data) != size:
            raise self._corrupt(key, offset + len(data))
        return data

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        runs = await asyncio.gather(*(self.get(r.key, r.offset, r.size) for r in ranges))

        def work() -> list[T]:
            return [check(at, data) for at, data in enumerate(runs)]

        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        check_key(key)
        pin = await self._pins.find(key)
        if pin is None or not await self._client.is_pinned(pin.root):
            raise await self._missing(key)
        return BlobInfo(key, pin.size)

    async def delete(self, key: str) -> None:
        """Let the node forget a blob; see the contract."""
        check_key(key)
        await self._writers.abort(key)
        await self._read_marker()
        pin = await self._pins.find(key)
        if pin is not None:
            await self._client.unpin(pin.root)

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder that the node keeps; see the contract."""
        await self._read_marker()
        async for pin in self._pins.below(prefix):
            if await self._client.is_pinned(pin.root):
                yield BlobInfo(pin.key, pin.size)

    async def _leaf(self, pin: Pin, at: int) -> bytes:
        try:
            return await self._client.block(CID(Codec.RAW, pin.leaves[at]), size_max=LEAF_SIZE)
        except Refused:
            raise await self._missing(pin.key) from None

    async def _missing(self, key: str) -> BlobMissing:
        """Return what to raise for a blob that is not there, once the node is known as ours."""
        await self._check_marker()
        return BlobMissing(f"{key} is missing in store {self.name}")

    async def _check_marker(self) -> None:
        seen_s = self._marker_seen_s
        if seen_s is not None and time.monotonic() - seen_s <= self._marker_fresh_s:
            return
        await self._read_marker()

    async def _read_marker(self) -> None:
        asked_s = time.monotonic()
        pin = await self._pins.find(self._marker)
        if pin is None or not await self._client.is_pinned(pin.root):
            raise self._client.unavailable(
                "lacks the marker of this deployment: it is another node, or was emptied"
            )
        self._marker_seen_s = asked_s

    def _corrupt(self, key: str, size: int) -> BlobCorrupt:
        return BlobCorrupt(f"{key} in store {self.name} ends at byte {size}")


class _Blob:
    """The blocks of a blob: leaves, the node above them, and the root of our own."""

    def __init__(self, key: str, spool: Spool, leaves: tuple[bytes, ...]) -> None:
        self._spool = spool
        self._leaves = leaves
        self._nodes: list[tuple[CID, bytes]] = []
        dag = DAGBuilder(on_node=lambda cid, block: self._nodes.append((cid, block)))
        for at, digest in enumerate(leaves):
            dag.add_leaf(digest, self._size_of(at))
        file = dag.finish_link()
        link, block = encode_directory([Entry(key.replace("/", "."), file.cid, file.tree_size)])
        self._nodes.append((link.cid, block))
        self.root = link.cid

    async def car(self) -> AsyncIterator[bytes]:
        """Yield an archive of all of them."""
        yield car_header([self.root])
        for at, digest in enumerate(self._leaves):
            size = self._size_of(at)
            yield car_section(CID(Codec.RAW, digest), size)
            for offset in range(at * LEAF_SIZE, at * LEAF_SIZE + size, SENT_AT_ONCE):
                end = min(offset + SENT_AT_ONCE, at * LEAF_SIZE + size)
                yield await asyncio.to_thread(_read, self._spool, offset, end - offset)
        for cid, block in self._nodes:
            yield car_section(cid, len(block)) + block

    def _size_of(self, at: int) -> int:
        return min(LEAF_SIZE, self._spool.size - at * LEAF_SIZE)


def _digests_of(spool: Spool) -> tuple[bytes, ...]:
    starts = range(0, max(1, spool.size), LEAF_SIZE)
    return tuple(
        hashlib.sha256(_read(spool, start, min(LEAF_SIZE, spool.size - start))).digest()
        for start in starts
    )


def _read(spool: Spool, offset: int, size: int) -> bytes:
    if spool.memory is not None:
        return bytes(spool.memory[offset : offset + size])
    return spool.read(offset, size)
