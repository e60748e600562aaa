"""Finding out what an IPFS node can do of what the store stands on, by doing it."""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from storage_gateway.errors import BackendUnavailable
from urn import CID, LEAF_SIZE, Codec

from .ipfs_blob import reading, tree_of
from .kubo import KuboClient, Refused
from .probe_report import ProbeFinding, StoreReport, unavailable

PROBE_S_MAX = 60.0
SMALL = b"storage-gateway probe\n"
TIMED_SIZE, TIMED_ROUNDS = LEAF_SIZE, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport(StoreReport):
    """What was found out about a node."""

    agent: str | None = None
    """What it says that it is."""
    used_bytes: int | None = None
    limit_bytes: int | None = None
    """Of what it may store; None also when it has no limit."""
    pins_imports: bool | None = None
    """What is imported is pinned, and is told to be."""
    reads_after_imports: bool | None = None
    unpins: bool | None = None
    import_mb_s: float | None = None
    """Megabytes a second, one leaf after the other; likewise below."""
    read_mb_s: float | None = None


NEARLY_FULL = ProbeFinding(
    kind="storage",
    detail="the node stores nearly what it is set to store at most: nothing more is sent to it",
    remedy="raise Datastore.StorageMax, or collect its garbage: it takes uploads again by itself",
)
NO_PINS = ProbeFinding(
    kind="pins",
    detail="what is imported with pin-roots=true is not told to be pinned",
    remedy="use a node whose RPC is that of Kubo",
    refuses=True,
)
STALE_READS = ProbeFinding(
    kind="reads",
    detail="a block that was imported is not read back as it was",
    remedy="see to the node's datastore; it must not be used like this",
    refuses=True,
)
NO_UNPINS = ProbeFinding(
    kind="unpins",
    detail="a pin that was removed is still there",
    remedy="use a node whose RPC is that of Kubo: else nothing could be erased from it",
    refuses=True,
)


async def probe(client: KuboClient, *, deployment_id: str, everything: bool = True) -> NodeReport:
    """Try a node; that it cannot be tried is a finding, too.

    What is imported is a block of 22 bytes, whose pin is removed again; with ``everything``, also a
    few leaves to take times, which stay until the node collects garbage.
    """
    trial = _Trial(client, deployment_id)
    steps = [trial.ask, trial.look_for_room, trial.try_small]
    await trial.run([*steps, trial.take_times] if everything else steps)
    return trial.report


async def look(client: KuboClient) -> NodeReport:
    """Ask a node that is in use what may have changed meanwhile; writes nothing, raises nothing."""
    trial = _Trial(client, "")
    await trial.run([trial.ask])
    return trial.report


class _Trial:
    """One probe of one node."""

    def __init__(self, client: KuboClient, deployment_id: str) -> None:
        self.report = NodeReport(store=client.settings.name)
        self._client = client
        # Several may try at once: who removes a pin must not remove another one's.
        self._key = f"{deployment_id}/probe/{secrets.token_hex(8)}"

    async def run(self, steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Take one step after the other; end where the node does not answer as one."""
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                for step in steps:
                    await step()
        except TimeoutError:
            self._find(unavailable(f"it took longer than {PROBE_S_MAX:g} seconds"))
        except BackendUnavailable as error:
            self._find(unavailable(str(error)))

    def _find(self, finding: ProbeFinding) -> None:
        self.report = replace(self.report, findings=(*self.report.findings, finding))

    async def ask(self) -> None:
        """Ask what it is and what it stores."""
        _, agent = await self._client.identify()
        storage = await self._client.storage()
        self.report = replace(
            self.report, agent=agent, used_bytes=storage.used, limit_bytes=storage.limit
        )

    async def look_for_room(self) -> None:
        """Say whether it is nearly full; of one that is in use readiness tells it, from then on."""
        used, limit = self.report.used_bytes, self.report.limit_bytes
        if used is None or limit is None:
            return
        if used > self._client.settings.fill_max * limit:
            self._find(NEARLY_FULL)

    async def try_small(self) -> None:
        """Import, look for the pin, read, remove the pin, look again."""
        root, leaf = await self._put(SMALL)
        try:
            await self._look_at_small(root, leaf)
        finally:
            await self._client.unpin(root)
        unpinned = not await self._client.is_pinned(root)
        self.report = replace(self.report, unpins=unpinned)
        if not unpinned:
            self._find(NO_UNPINS)

    async def _look_at_small(self, root: CID, leaf: CID) -> None:
        pinned = await self._client.is_pinned(root)
        self.report = replace(self.report, pins_imports=pinned)
        if not pinned:
            self._find(NO_PINS)
        try:
            reads = await self._client.block(leaf, size_max=LEAF_SIZE) == SMALL
        except Refused:
            reads = False
        self.report = replace(self.report, reads_after_imports=reads)
        if not reads:
            self._find(STALE_READS)

    async def take_times(self) -> None:
        """Import and read leaves."""
        imports, reads = [], []
        for _ in range(TIMED_ROUNDS):
            data = os.urandom(TIMED_SIZE)
            began_s = time.perf_counter()
            root, leaf = await self._put(data)
            imported_s = time.perf_counter()
            try:
                await self._client.block(leaf, size_max=LEAF_SIZE)
                reads.append(_mb_s(time.perf_counter() - imported_s))
            except Refused:
                self._find(STALE_READS)
                return
            finally:
                await self._client.unpin(root)
            imports.append(_mb_s(imported_s - began_s))
        self.report = replace(
            self.report,
            import_mb_s=statistics.median(imports),
            read_mb_s=statistics.median(reads),
        )

    async def _put(self, data: bytes) -> tuple[CID, CID]:
        """Import a leaf; return the root that pins it, and its own CID."""
        read = reading(data)
        tree = tree_of(self._key, read, len(data))
        await self._client.import_car(tree.pin.root, lambda: tree.car(read))
        return tree.pin.root, CID(Codec.RAW, tree.pin.leaves[0])


def _mb_s(duration_s: float) -> float:
    return round(TIMED_SIZE / 1e6 / duration_s, 1)
