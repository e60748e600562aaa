"""The streaming UnixFS tree above the leaves of a file, and the CID of its root.

Computes the CID that `ipfs add --cid-version=1 --raw-leaves --chunker=size-983280` answers
(balanced tree, 174 links a node, SHA-256) from leaf digests alone. Pure: holds no content and keeps
no blocks; who wants those of the nodes is told of each as it is made.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

from urn.cid import CID, Codec
from urn.node import LINKS_MAX, Link, encode_file

LEAF_SIZE: Final = 983_280

_LINKS_MAX_MIN: Final = 2


class LeafError(ValueError):
    """A leaf that cannot come next in the tree: wrong size, or after the last one."""


class DAGBuilder:
    """The CID of a file, from the SHA-256 digests of its leaves in order.

    All leaves hold `leaf_size` bytes except the last, which holds 1 to `leaf_size`; the only leaf
    of an empty file holds 0. Keeps at most `links_max` links for each level of the tree, whatever
    the number of leaves. Source: the balanced layout of Kubo's importer (boxo
    ipld/unixfs/importer/balanced): all leaves at one depth, nodes filled left to right.

    `on_node` is told of each node above the leaves, its CID and its block: once, as soon as it is
    full or the file ends, children before parents, the root last. What it raises comes out of
    `add_leaf` or the finishing call; the tree is then of no more use.
    """

    def __init__(
        self,
        *,
        leaf_size: int = LEAF_SIZE,
        links_max: int = LINKS_MAX,
        on_node: Callable[[CID, bytes], None] | None = None,
    ) -> None:
        if leaf_size < 1 or links_max < _LINKS_MAX_MIN:
            raise ValueError("expected leaf_size >= 1 and links_max >= 2")
        self._leaf_size = leaf_size
        self._links_max = links_max
        self._on_node = on_node
        self._levels: list[list[Link]] = [[]]
        self._ended = False

    def add_leaf(self, digest: bytes, size: int) -> None:
        """Append a leaf: the SHA-256 of its bytes, and how many there are.

        Raises `LeafError` when the size cannot be or a shorter leaf has already ended the file.
        """
        if self._ended:
            raise LeafError("no leaf can follow one shorter than leaf_size, nor finish()")
        first = self._levels == [[]]
        if not (0 if first else 1) <= size <= self._leaf_size:
            raise LeafError(f"expected a leaf of 1 to {self._leaf_size} bytes, got {size}")
        self._push(0, Link(CID(Codec.RAW, digest), size, size))
        self._ended = size < self._leaf_size

    def finish(self) -> CID:
        """Close the tree and return the CID of its root. No leaves: that of the empty file."""
        return self.finish_link().cid

    def finish_link(self) -> Link:
        """As `finish`: the root's CID, the size of the file, that of all blocks of the tree."""
        self._ended = True
        if self._levels == [[]]:
            return Link(CID(Codec.RAW, sha256().digest()), 0, 0)
        # Below the top even a single link gets its node, so that all leaves are at one depth; at
        # the top a single link is the root itself.
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._fold(level)
            level += 1
        return self._levels[level][0]

    def _push(self, level: int, link: Link) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(link)
        if len(self._levels[level]) == self._links_max:
            self._fold(level)

    def _fold(self, level: int) -> None:
        """Replace the links of a level by one link, a level higher, to the node that has them."""
        node, block = encode_file(self._levels[level])
        self._levels[level] = []
        if self._on_node is not None:
            self._on_node(node.cid, block)
        self._push(level + 1, node)


def cid_of_leaves(
    leaves: Iterable[tuple[bytes, int]], *, leaf_size: int = LEAF_SIZE, links_max: int = LINKS_MAX
) -> CID:
    """The CID of the file with these leaves, each a (SHA-256 digest, size in bytes), in order."""
    builder = DAGBuilder(leaf_size=leaf_size, links_max=links_max)
    for digest, size in leaves:
        builder.add_leaf(digest, size)
    return builder.finish()


def cid_of(data: bytes, *, leaf_size: int = LEAF_SIZE, links_max: int = LINKS_MAX) -> CID:
    """The CID of a file with this content."""
    view = memoryview(data)
    pieces = (view[start : start + leaf_size] for start in range(0, len(view), leaf_size))
    leaves = ((sha256(piece).digest(), len(piece)) for piece in pieces)
    return cid_of_leaves(leaves, leaf_size=leaf_size, links_max=links_max)
