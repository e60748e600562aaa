"""Bugs in how an IPFS node is used; see `planted`."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from storage_gateway.backends import ipfs
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.ipfs_blob import Tree
from storage_gateway.backends.kubo import KuboClient, Pieces, Refused
from storage_gateway.backends.pins import Pin
from storage_gateway.errors import BackendUnavailable
from storage_gateway.pins import CatalogPins
from urn import CID, Codec

PINNED_LATER_S = 0.5


def silence_is_absence(patch: pytest.MonkeyPatch) -> None:
    """A node that cannot be asked for a block does not have it."""
    real = KuboClient.block

    async def block(self: KuboClient, cid: CID, **options: Any) -> bytes:  # noqa: ANN401
        try:
            return await real(self, cid, **options)
        except BackendUnavailable:
            raise Refused("block not found") from None

    async def known(_self: IPFSStore) -> None:
        return

    patch.setattr(KuboClient, "block", block)
    patch.setattr(IPFSStore, "_check_marker", known)


def pins_are_written_down_afterwards(patch: pytest.MonkeyPatch) -> None:
    """What a node was asked to keep is written down once it said that it does."""
    intend, send = CatalogPins.intend, KuboClient.import_car
    waiting: dict[CID, tuple[CatalogPins, Pin]] = {}

    async def wait(self: CatalogPins, pin: Pin) -> None:
        waiting[pin.root] = self, pin

    async def import_car(self: KuboClient, root: CID, pieces: Pieces) -> None:
        await send(self, root, pieces)
        if root in waiting:
            await intend(*waiting.pop(root))

    patch.setattr(CatalogPins, "intend", wait)
    patch.setattr(KuboClient, "import_car", import_car)


def pins_come_a_moment_later(patch: pytest.MonkeyPatch) -> None:
    """A node is told to keep what it was sent after it was said to be stored."""
    real = KuboClient.import_car
    pinning: set[asyncio.Task[None]] = set()

    async def pin(client: KuboClient, root: CID) -> None:
        await asyncio.sleep(PINNED_LATER_S)
        try:
            await client._call("pin/add", {"arg": str(root), "offline": "true"})
        except (Refused, BackendUnavailable):
            return

    async def import_car(self: KuboClient, root: CID, pieces: Pieces) -> None:
        await real(self, root, pieces)
        await self.unpin(root)
        pinning.add(asyncio.create_task(pin(self, root)))

    patch.setattr(KuboClient, "import_car", import_car)


def files_are_pinned_themselves(patch: pytest.MonkeyPatch) -> None:
    """What is pinned is the root of the file, which others may pin, too."""

    class FileTree(Tree):
        def __init__(self, key: str, leaves: tuple[bytes, ...], size: int) -> None:
            super().__init__(key, leaves, size)
            if "/payloads/" in key:
                self.nodes.pop()
                root = self.nodes[-1][0] if self.nodes else CID(Codec.RAW, leaves[0])
                self.pin = Pin(key, root, size, leaves)

    patch.setattr(ipfs, "Tree", FileTree)
    patch.setattr("storage_gateway.backends.ipfs_blob.Tree", FileTree)


NODE_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "ipfs-gc-race": (pins_come_a_moment_later, "2"),
    "ipfs-gone": (
        silence_is_absence,
        "what the node alone has is not called lost while it is away",
    ),
    "ipfs-shared-cid": (
        files_are_pinned_themselves,
        "after a collection there are the blocks that anybody needs, and no other ones",
    ),
    "ipfs-slow-pin": (pins_are_written_down_afterwards, "what landed late is found, and unpinned"),
}
