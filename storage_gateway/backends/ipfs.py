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
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from storage_gateway.errors import BlobCorrupt, BlobMissing, StorageFull
from urn import CID, LEAF_SIZE, CIDError, Codec, LeafError

from .contract import MARKER_CONTENT, BlobInfo, Check, Range, check_key
from .ipfs_blob import ROOT_SIZE_MAX, Tree, read_root, reading, reading_spool, tree_of
from .kubo import KuboClient, Refused, Storage
from .node_probe import NodeReport, look, probe
from .pins import Pin, Pins
from .spool import Spool
from .spooled import SpooledWriter, SpooledWriters

T = TypeVar("T")

MARKER_FRESH_S = 30.0
ROOTS_AT_ONCE = 1000
STORAGE_FRESH_S = 30.0
"""How long it is believed what a node stores: what is sent to it since is added."""


@dataclass(slots=True)
class Strays:
    """A part of what a node keeps."""

    known: list[str]
    """The keys of what is written down."""
    pins: list[Pin] = field(default_factory=list)
    """What is not."""


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
        self.settings = client.settings
        self._client = client
        self._pins = pins
        # Its root follows from its key: of all that a catalog lost, it shows the node all the same.
        self._marker = tree_of(marker, reading(MARKER_CONTENT), len(MARKER_CONTENT)).pin
        self.storage: Storage | None = None
        """What the node said last of what it stores."""
        self._storage_asked_s = 0.0
        self._sent_since = 0
        self._asking_storage = asyncio.Lock()
        self._marker_fresh_s = marker_fresh_s
        self._marker_seen_s: float | None = None
        self._writers = SpooledWriters(spool, store=self.name, send=self._send)

    @property
    def names(self) -> tuple[str, ...]:
        """The store itself; see the contract."""
        return (self.name,)

    def answered_within(self, seconds: float) -> bool:
        """Tell whether anything that was asked of it was answered in the last ``seconds``."""
        return time.monotonic() - self._client.answered_s <= seconds

    @property
    def is_full(self) -> bool:
        """Whether the node was nearly full a moment ago; asks nothing, from any thread."""
        return time.monotonic() - self._storage_asked_s <= STORAGE_FRESH_S and self._fills(0)

    async def close(self) -> None:
        """Close all connections; what is under way is broken off."""
        await self._client.close()

    async def identify(self) -> str:
        """Return the node's own id, which no other node has.

        Raises:
            BackendUnavailable

        """
        return (await self._client.identify())[0]

    async def probe(self, deployment_id: str, *, everything: bool = True) -> NodeReport:
        """Find out what the node can do, also without a marker; see `node_probe`."""
        return await probe(self._client, deployment_id=deployment_id, everything=everything)

    async def look(self, deployment_id: str) -> NodeReport:  # noqa: ARG002 - as all that are probed
        """Ask what may have changed since it was probed; see `node_probe`."""
        return await look(self._client)

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
        async with self._in_time():
            await self._send_whole(key, spool)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Have several calls last no longer than one may: nothing comes later than that."""
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                yield
        except TimeoutError:
            raise self._client.unavailable("did not answer in time") from None

    async def _send_whole(self, key: str, spool: Spool) -> None:
        check_key(key)
        if key != self._marker.key:
            await self._check_marker()
        await self.require_room(spool.size)
        read = reading_spool(spool)
        tree = await asyncio.to_thread(tree_of, key, read, spool.size)
        # Before a byte of it leaves the process: what nobody knows of is never removed.
        if key != self._marker.key:
            await self._pins.intend(tree.pin)
        elif tree.pin != self._marker:
            raise ValueError(f"not what a marker holds: {key}")
        self._sent_since += spool.size
        await self._client.import_car(tree.pin.root, lambda: tree.car(read))

    async def complete(self, key: str, leaves: tuple[bytes, ...], size: int) -> None:
        """Pin what is above leaves that are here, as one file; ``size`` is that of all in bytes.

        Whoever asks makes sure that they are: a node may look for one elsewhere until the deadline.

        Raises:
            BackendUnavailable: also where a leaf is not here.
            BlobCorrupt: these are not the leaves of a file.

        """
        check_key(key)
        try:
            tree = await asyncio.to_thread(Tree, key, leaves, size)
        except LeafError as error:
            raise BlobCorrupt(f"the leaves of {key} do not add up to a file") from error
        async with self._in_time():
            await self._check_marker()
            # Bytes are under the keys of segments alone: under this one there are none to be read.
            await self._pins.intend(replace(tree.pin, size=0, leaves=()))
            await self._client.import_car(tree.pin.root, tree.car_of_nodes)

    async def require_room(self, size: int = 0) -> None:
        """Refuse so many bytes more if the node is nearly full.

        Raises:
            StorageFull, BackendUnavailable

        """
        async with self._asking_storage:  # once for all who find it out of date
            now_s = time.monotonic()
            if self.storage is None or now_s - self._storage_asked_s > STORAGE_FRESH_S:
                self.storage = await self._client.storage()
                self._storage_asked_s, self._sent_since = now_s, 0
        if self._fills(size):
            raise StorageFull(
                f"store {self.name} stores more than {self.settings.fill_max:.0%} of what it is set"
                " to store at most"
            )

    def _fills(self, size: int) -> bool:
        storage = self.storage
        if storage is None or storage.limit is None:
            return False
        return storage.used + self._sent_since + size > self.settings.fill_max * storage.limit

    async def get(self, key: str, offset: int, size: int) -> bytes:
        """Return a range; see the contract."""
        check_key(key)
        pin = await self._find(key)
        if pin is None:
            raise await self._missing(key)
        if size == 0 or offset + size > pin.size:
            await self.stat(key)  # what is written down is no proof of anything
            if offset + size > pin.size:
                raise self._corrupt(key, pin.size)
            return b""
        pieces = []
        for at in range(offset // LEAF_SIZE, -(-(offset + size) // LEAF_SIZE)):
            leaf = await self._leaf(key, pin.leaves[at])
            start = at * LEAF_SIZE
            pieces.append(leaf[max(0, offset - start) : offset + size - start])
        data = b"".join(pieces)
        if len(data) != size:
            raise self._corrupt(key, offset + len(data))
        return data

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        """Return what is made of ranges; see the contract."""
        asked = [asyncio.create_task(self._run(one)) for one in ranges]
        try:
            runs = [await task for task in asked]
        finally:
            # Nobody waits for the others any more: they hold memory that was counted for this.
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            del asked

        def work() -> list[T]:
            return [check(at, data) for at, data in enumerate(runs)]

        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def _run(self, run: Range) -> bytes:
        if run.digest is None:
            return await self.get(run.key, run.offset, run.size)
        # Its name is all that is needed, whatever the catalog says, or does not say any more.
        check_key(run.key)
        leaf = await self._leaf(run.key, run.digest)
        if len(leaf) != run.size:
            raise self._corrupt(run.key, run.offset + len(leaf))
        return leaf

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known of a blob; see the contract."""
        check_key(key)
        if key == self._marker.key:
            await self._read_marker()
            return BlobInfo(key, self._marker.size)
        pin = await self._find(key)
        if pin is None or not await self._client.is_pinned(pin.root):
            raise await self._missing(key)
        return BlobInfo(key, pin.size)

    async def delete(self, key: str) -> None:
        """Let the node forget a blob; see the contract."""
        check_key(key)
        await self._writers.abort(key)
        await self._read_marker()
        pin = await self._find(key)
        if pin is not None:
            await self._client.unpin(pin.root)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs of a folder that the node keeps; see the contract."""
        await self._read_marker()
        async for pin in self._pins.below(prefix):
            if pin.key > after and await self._client.is_pinned(pin.root):
                yield BlobInfo(pin.key, pin.size)

    async def strays(self, prefix: str) -> AsyncGenerator[Strays]:
        """Yield what the node keeps below a folder and nobody has written down, as its roots tell,
        which are gone through in no order, many at once.

        Raises:
            BackendUnavailable

        """
        await self._read_marker()
        async with aclosing(self._client.roots()) as pinned:
            while roots := [root async for root in _first(pinned, ROOTS_AT_ONCE)]:
                # After the node has told them: what it is sent is written down before.
                known = await self._pins.known(roots)
                found = Strays([key for key in known.values() if key.startswith(prefix)])
                for root in roots:
                    if root not in known and (stray := await self._stray(root, prefix)):
                        found.pins.append(stray)
                yield found

    async def _stray(self, text: str, prefix: str) -> Pin | None:
        try:
            root = CID.parse(text)
        except CIDError:
            return None
        if root.codec is not Codec.DAG_PB:
            return None
        block = await self._client.small_block(root, size_max=ROOT_SIZE_MAX)
        blob = None if block is None else read_root(block)
        if block is None or blob is None or not blob.key.startswith(prefix):
            return None
        if hashlib.sha256(block).digest() != root.digest:
            return None  # spoilt: it may have been anybody's
        return Pin(blob.key, root, blob.size, ())

    async def drop(self, stray: Pin) -> None:
        """Let the node forget what nobody has written down.

        Raises:
            BackendUnavailable

        """
        await self._read_marker()
        await self._client.unpin(stray.root)

    async def _find(self, key: str) -> Pin | None:
        return self._marker if key == self._marker.key else await self._pins.find(key)

    async def _leaf(self, key: str, digest: bytes) -> bytes:
        try:
            return await self._client.block(CID(Codec.RAW, digest), size_max=LEAF_SIZE)
        except Refused:
            raise await self._missing(key) from None

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
        if not await self._client.is_pinned(self._marker.root):
            self._marker_seen_s = None
            raise self._client.unavailable(
                "lacks the marker of this deployment: it is another node, or was emptied"
            )
        self._marker_seen_s = asked_s

    def _corrupt(self, key: str, size: int) -> BlobCorrupt:
        return BlobCorrupt(f"{key} in store {self.name} ends at byte {size}")


async def _first(items: AsyncIterator[T], count: int) -> AsyncIterator[T]:
    """Yield so many items, and leave the others."""
    for _ in range(count):
        try:
            yield await anext(items)
        except StopAsyncIteration:
            return
