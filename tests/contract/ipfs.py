"""IPFS stores over the tests' own node."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from storage_gateway.backends.contract import MARKER_CONTENT
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient, KuboSettings
from storage_gateway.backends.pins import Pin
from tests.servers.ipfs import IpfsNode
from urn import CID, Codec

MARKER = "deployment-marker"


class PinsInMemory:
    """Pins that are written down for the time of a test."""

    def __init__(self) -> None:
        self.pins: dict[str, Pin] = {}

    async def intend(self, pin: Pin) -> None:
        assert self.pins.setdefault(pin.key, pin).root == pin.root, "a key is written once"

    async def find(self, key: str) -> Pin | None:
        return self.pins.get(key)

    async def known(self, roots: Collection[str]) -> Mapping[str, str]:
        return {str(pin.root): key for key, pin in self.pins.items() if str(pin.root) in roots}

    async def below(self, prefix: str) -> AsyncIterator[Pin]:
        for key in sorted(self.pins):
            if key.startswith(prefix):
                yield self.pins[key]


def kubo_settings(node: IpfsNode) -> KuboSettings:
    return KuboSettings(name="node", api=node.api.removesuffix("/api/v0"), deadline_s=20.0)


@asynccontextmanager
async def ipfs_store(
    node: IpfsNode, folder: Path, *, marker: str = MARKER, marker_fresh_s: float = 30.0
) -> AsyncIterator[tuple[IPFSStore, PinsInMemory]]:
    """Open a store over the node, with its marker; the node keeps no pin of it afterwards."""
    pins = PinsInMemory()
    store = IPFSStore(
        KuboClient(kubo_settings(node)),
        pins,
        marker=marker,
        spool=folder,
        marker_fresh_s=marker_fresh_s,
    )
    try:
        await store.put(marker, MARKER_CONTENT)
        yield store, pins
    finally:
        node.revive()
        node.clear()
        await store.close()


def truncate_leaf(node: IpfsNode, pins: PinsInMemory, key: str, size: int) -> None:
    """Cut the first block of a blob short, below the node's API."""
    cid = CID(Codec.RAW, pins.pins[key].leaves[0])
    with node.block_file(cid).open("r+b") as file:
        file.truncate(size)
