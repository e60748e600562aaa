"""What a run does with an IPFS node itself, beside its gateways: it looks at its pins, lets it
collect, removes blocks. No proxy stands in between, and what others keep there is left alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.backends.kubo import KuboClient, Refused
from storage_gateway.stores import kubo_settings_of, tls_of
from urn import CID, LEAF_SIZE

DEADLINE_S = 120.0
"""A node with much in it takes its time to list and to collect."""
LISTED_BYTES_MAX = 256 << 20


class Node(KuboClient):
    """One node, asked by the run."""

    async def pinned(self) -> frozenset[str]:
        """Return the roots of all pins, ours and others', as base32.

        Raises:
            BackendUnavailable

        """
        args = {"type": "recursive", "cid-base": "base32"}
        answer = await self._told("pin/ls", args, size_max=LISTED_BYTES_MAX)
        return frozenset(self._object(answer).get("Keys") or ())

    async def pin(self, cid: CID) -> None:
        """Have the node keep what it has of a root.

        Raises:
            BackendUnavailable

        """
        answer = await self._told("pin/add", {"arg": str(cid), "offline": "true"})
        if not self._object(answer).get("Pins"):
            raise self.unavailable("does not say that it pinned")

    async def collect(self) -> int:
        """Let the node remove what no pin holds; return how many blocks those were.

        Raises:
            BackendUnavailable

        """
        answer = await self._told("repo/gc", {}, size_max=LISTED_BYTES_MAX)
        return len(answer.splitlines())

    async def has(self, cid: CID) -> bool:
        """Tell whether the node has a block.

        Raises:
            BackendUnavailable

        """
        try:
            await self.block(cid, size_max=2 * LEAF_SIZE)
        except Refused:
            return False
        return True

    async def remove(self, cid: CID) -> None:
        """Remove a block that nobody keeps.

        Raises:
            BackendUnavailable

        """
        await self._told("block/rm", {"arg": str(cid), "force": "true"})
        if await self.has(cid):
            raise self.unavailable("keeps a block that it was told to remove")

    async def _told(self, command: str, args: dict[str, str], *, size_max: int = 64 << 10) -> bytes:
        try:
            return await self._call(command, args, size_max=size_max)
        except Refused:
            raise self.unavailable(f"refuses {command}") from None


@asynccontextmanager
async def open_node(backend: IPFSBackend) -> AsyncIterator[Node]:
    """Ask a node until the end of the block."""
    settings = await asyncio.to_thread(kubo_settings_of, backend)
    tls = await asyncio.to_thread(tls_of, backend)
    node = Node(replace(settings, deadline_s=DEADLINE_S, idle_s=DEADLINE_S), tls=tls)
    try:
        yield node
    finally:
        await node.close()
