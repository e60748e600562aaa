"""Bugs in how an IPFS node is used; see `planted`."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from storage_gateway.backends import Member, ipfs
from storage_gateway.backends.health import FAILURES_MAX, Breaker
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.ipfs_blob import Tree
from storage_gateway.backends.kubo import KuboClient, Pieces, Refused
from storage_gateway.backends.pins import Pin
from storage_gateway.errors import BackendUnavailable
from storage_gateway.pins import CatalogPins
from storage_gateway.stress.nodes import Node
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


def nothing_is_kept_while_a_node_collects(patch: pytest.MonkeyPatch) -> None:
    """A node that collects refuses all that it is sent."""
    collect, send = Node.collect, KuboClient.import_car
    collecting: set[int] = set()

    async def collect_alone(self: Node) -> int:
        collecting.add(id(self))
        return await collect(self)

    async def import_car(self: KuboClient, root: CID, pieces: Pieces) -> None:
        if collecting:
            raise self.unavailable("collects (planted)")
        await send(self, root, pieces)

    patch.setattr(Node, "collect", collect_alone)
    patch.setattr(KuboClient, "import_car", import_car)


def a_node_that_failed_is_written_to_no_more(patch: pytest.MonkeyPatch) -> None:
    """A node that did not take one blob rests for ever."""
    real = Member.__init__

    class Resting(Breaker):
        def fail(self, now: float, *, probe: bool, rest_s: float | None = None) -> None:
            del rest_s
            for _ in range(FAILURES_MAX):
                super().fail(now, probe=probe, rest_s=math.inf)

    def init(self: Member, *args: Any, **options: Any) -> None:  # noqa: ANN401
        real(self, *args, **options)
        if self.name == "node":
            self.writes = Resting()

    patch.setattr(Member, "__init__", init)


def what_is_sent_is_pinned_by_nobody(patch: pytest.MonkeyPatch) -> None:
    """A node unpins a payload as soon as it has it."""
    real = KuboClient.import_car

    async def import_car(self: KuboClient, root: CID, pieces: Pieces) -> None:
        await real(self, root, pieces)
        await self.unpin(root)

    patch.setattr(KuboClient, "import_car", import_car)


VACUOUS_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str, str]] = {
    "no import": (
        nothing_is_kept_while_a_node_collects,
        "ipfs-gc-race",
        "what was sent to the node while it collected outlives a last collection",
    ),
    "no second try": (
        a_node_that_failed_is_written_to_no_more,
        "ipfs-gone",
        "the node is written to before it ails",
    ),
    "no pin": (
        what_is_sent_is_pinned_by_nobody,
        "ipfs-gone",
        "what is to be erased is pinned as long as it is not",
    ),
}
"""What leaves a case nothing to look at where another store has all: the bug, the case, and the
criterion that tells.
"""


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
