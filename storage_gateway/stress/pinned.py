"""What the cases about IPFS nodes have in common: which pins of the run a node has, as it tells
itself, and which there should be.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.backends.pins import Pin
from storage_gateway.catalog.copies import PLACED
from storage_gateway.errors import BackendUnavailable
from storage_gateway.pins import pins_in
from urn import CID, LEAF_SIZE, CIDError

from .load import Customer
from .nodes import Node, open_node
from .run_stores import RunStore
from .tampering import copies_of, manifest_of
from .trial import Trial

USED_AGAIN_S_MAX = 30.0
SETTLED_S_MAX = 10.0
"""Beyond the horizon; what did not come by then once is not waited for again."""


class Pinned:
    """The pins of a run in one node."""

    def __init__(
        self,
        trial: Trial,
        store: RunStore,
        backend: IPFSBackend,
        node: Node,
        before: frozenset[str],
    ) -> None:
        """Use `watching`; ``before`` are the pins that the node had when the case began."""
        self.store = store
        self.backend = backend
        self.node = node
        self._trial = trial
        self._others = set(before)
        self._ours: set[str] = set()
        self._within_s = trial.world.config.late_write_horizon_s + SETTLED_S_MAX
        self._name = trial.world.prefix.replace("/", ".").encode()

    async def by_node(self) -> set[str]:
        """Return the roots of the run that the node says it keeps, whatever the catalog knows.

        Each is a directory with one entry, called by the blob's key.

        Raises:
            BackendUnavailable

        """
        pinned = await self.node.pinned()
        for root in pinned - self._others - self._ours:
            ours = await self._is_ours(root)
            (self._ours if ours else self._others).add(root)
        return self._ours & pinned

    async def _is_ours(self, root: str) -> bool:
        try:
            return self._name in await self.node.block(CID.parse(root), size_max=2 * LEAF_SIZE)
        except CIDError:
            return False  # of a kind that we do not make

    async def by_catalog(self, prefix: str = "") -> list[Pin]:
        """Return what was written down for the node, below a prefix of payloads."""
        world = self._trial.world
        below = prefix or world.parts.payloads
        pins = pins_in(world.catalog.inner)(self.store.name)
        return [pin async for pin in pins.below(below)]

    async def of_object(self, urn: str) -> list[Pin]:
        """Return what was written down for an object."""
        payload_id = (await manifest_of(self._trial.world, urn)).payload_id
        return await self.by_catalog(f"{self._trial.world.parts.payloads}{payload_id}/")

    async def placed_of(self, urn: str) -> list[Pin]:
        """Return what the node has of an object, as the catalog says."""
        copies = await copies_of(self._trial.world, urn, PLACED)
        indexes = {str(index) for index in copies.get(self.store.name, ())}
        return [p for p in await self.of_object(urn) if p.key.rpartition("/")[2] in indexes]

    async def use_again(self, customer: Customer, unstored: list[str]) -> None:
        """Store tiny bodies until the node is written to: one that failed rests at first."""
        trial, asked = self._trial, self.store.faulty.asked
        finished = asked["finish"]
        is_used = await trial.store_until(
            customer, unstored, lambda: asked["finish"] > finished, within_s=USED_AGAIN_S_MAX
        )
        trial.verdict.require(
            "the node is written to before it ails",
            met=is_used,
            evidence=f"{asked['finish'] - finished} blobs were sent to it",
        )
        await trial.world.wait_late()

    async def require_only(self, criterion: str) -> None:
        """Require that the node comes to keep all that it has of objects, and nothing of the run
        that no object needs.
        """
        ledger = self._trial.ledger
        urns = set(ledger.acknowledged) - ledger.erased
        needed = {str(pin.root) for urn in urns for pin in await self.of_object(urn)}
        placed = {str(pin.root) for urn in urns for pin in await self.placed_of(urn)}

        async def settled() -> bool:
            found = await self.by_node_or_none()
            return found is not None and placed <= found <= needed

        met = await self._trial.eventually(settled, within_s=self._within_s)
        self._within_s = self._within_s if met else 0.0
        found = await self.by_node_or_none()
        told = "the node does not tell"
        if found is not None:
            told = f"{len(found - needed)} pins too many, {len(placed - found)} missing"
        evidence = f"{told}; {len(placed)} are to be there"
        self._trial.verdict.require(criterion, met=met, evidence=evidence)

    async def by_node_or_none(self) -> set[str] | None:
        """Return that, or None while the node does not tell."""
        try:
            return await self.by_node()
        except BackendUnavailable:
            return None  # busy: asked again


@asynccontextmanager
async def watching(trial: Trial, *, near: bool = False) -> AsyncIterator[Pinned]:
    """Look at the run's pins in the first of its stores that is a node; ``near``: before which a
    proxy stands.
    """
    for store in trial.world.stores:
        backend = store.backend
        if isinstance(backend, IPFSBackend) and (store.proxy is not None or not near):
            async with open_node(backend) as node:
                yield Pinned(trial, store, backend, node, await node.pinned())
            return
    raise ValueError("the case does not say that it needs a node")
