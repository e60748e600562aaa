"""What a blob is in an IPFS node: leaves as raw blocks, a file node above, a root of our own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable

from urn import (
    CID,
    LEAF_SIZE,
    Codec,
    DAGBuilder,
    DirectoryNode,
    Entry,
    NodeError,
    car_header,
    car_section,
    encode_directory,
    parse_node,
)

from .contract import BlobInfo
from .pins import Pin
from .spool import Spool

SENT_AT_ONCE = 256 << 10
DOT = "."
"""What stands for "/" in the name of a root's entry. No name that a key is made of has one."""
ROOT_SIZE_MAX = 512
"""Of a root of ours, in bytes: a name, a CID and a size."""

Read = Callable[[int, int], bytes]
"""Returns so many bytes of a blob, from an offset on. May block."""


class Tree:
    """All that is above the leaves of a blob, and the root that it is pinned by."""

    def __init__(self, key: str, leaves: tuple[bytes, ...], size: int) -> None:
        """``leaves`` are the SHA-256 of each, in order, ``size`` is that of the blob in bytes."""
        self.nodes: list[tuple[CID, bytes]] = []
        self._leaves = leaves
        self._size = size
        dag = DAGBuilder(on_node=lambda cid, block: self.nodes.append((cid, block)))
        for at, digest in enumerate(leaves):
            dag.add_leaf(digest, self._size_of(at))
        file = dag.finish_link()
        link, block = encode_directory([Entry(key.replace("/", DOT), file.cid, file.tree_size)])
        self.nodes.append((link.cid, block))
        self.pin = Pin(key, link.cid, size, leaves)

    async def car(self, read: Read) -> AsyncIterator[bytes]:
        """Yield an archive of all of it, with the leaves, which ``read`` reads in a thread."""
        yield car_header([self.pin.root])
        for at, digest in enumerate(self._leaves):
            size = self._size_of(at)
            yield car_section(CID(Codec.RAW, digest), size)
            for offset in range(at * LEAF_SIZE, at * LEAF_SIZE + size, SENT_AT_ONCE):
                end = min(offset + SENT_AT_ONCE, at * LEAF_SIZE + size)
                yield await asyncio.to_thread(read, offset, end - offset)
        async for piece in self._sections():
            yield piece

    async def car_of_nodes(self) -> AsyncIterator[bytes]:
        """Yield an archive of what is above the leaves alone."""
        yield car_header([self.pin.root])
        async for piece in self._sections():
            yield piece

    async def _sections(self) -> AsyncIterator[bytes]:
        for cid, block in self.nodes:
            yield car_section(cid, len(block)) + block

    def _size_of(self, at: int) -> int:
        return min(LEAF_SIZE, self._size - at * LEAF_SIZE)


def tree_of(key: str, read: Read, size: int) -> Tree:
    """Return what is above what ``read`` reads. Blocks while all of it is hashed."""
    starts = range(0, max(1, size), LEAF_SIZE)
    leaves = tuple(
        hashlib.sha256(read(start, min(LEAF_SIZE, size - start))).digest() for start in starts
    )
    return Tree(key, leaves, size)


def read_root(block: bytes) -> BlobInfo | None:
    """Return under which key what is below a root lies, and its size with the nodes above its
    leaves; None for a root that is none of ours.
    """
    try:
        node = parse_node(block)
    except NodeError:
        return None
    if not isinstance(node, DirectoryNode) or len(node.entries) != 1:
        return None
    (entry,) = node.entries
    return BlobInfo(entry.name.replace(DOT, "/"), entry.tree_size)


def reading(data: bytes) -> Read:
    """Return what reads ``data``."""
    return lambda offset, size: data[offset : offset + size]


def reading_spool(spool: Spool) -> Read:
    """Return what reads a spool."""

    def read(offset: int, size: int) -> bytes:
        if spool.memory is not None:
            return bytes(spool.memory[offset : offset + size])
        return spool.read(offset, size)

    return read
