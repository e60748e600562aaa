"""The dag-pb blocks of UnixFS files and directories: written, and read with the same strictness.

Sources: ipld.io/specs/codecs/dag-pb (links come before data although their field number is higher)
and specs.ipfs.tech/unixfs. There is one encoding of a node, that of Kubo and js-ipfs; any other is
refused, though IPFS tools may read it. Pure.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import sha256
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from urn.cid import CID, Codec
from urn.varint import encode_varint

LINKS_MAX: Final = 174

_NAMES_FORBIDDEN: Final = frozenset({"", ".", ".."})


class NodeError(ValueError):
    """Bytes that are not a node of the profile: `reason` says what was expected.

    `position` is the 0-based index of the first fault in the block; it is the length when something
    is missing at the end, and 0 when a node that cannot be was to be written.
    """

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"not a node of this profile at position {self.position}: {self.reason}"


class NodeType(IntEnum):
    """What a node is a part of, as UnixFS numbers it."""

    DIRECTORY = 1
    FILE = 2


class Link(NamedTuple):
    """What a node says of a block below it, and the root's of the whole tree."""

    cid: CID
    content_size: int  # bytes of file content below; 0 for a directory, which does not say
    tree_size: int  # bytes of all blocks below, this one's included: Tsize


class Entry(NamedTuple):
    """What a directory says of one of the roots in it."""

    name: str
    cid: CID
    tree_size: int  # bytes of all blocks below, the root's included: Tsize


def encode_file(links: Sequence[Link]) -> tuple[Link, bytes]:
    """The node of a file that has these links, in order: the link to it, and its block."""
    content_size = sum(link.content_size for link in links)
    block = b"".join(_link(link.cid, b"", link.tree_size) for link in links)
    sizes = b"".join(_number(4, link.content_size) for link in links)
    block += _field(1, _number(1, NodeType.FILE) + _number(3, content_size) + sizes)
    return _linked(block, content_size, (link.tree_size for link in links)), block


def encode_directory(entries: Iterable[Entry]) -> tuple[Link, bytes]:
    """The node of a directory with these entries: the link to it, and its block.

    The order of `entries` does not matter: they are written in that of the bytes of their names.
    Raises `NodeError` for two of one name and for a name that no path can have.
    """
    named = [(_name_bytes(entry.name), entry) for entry in entries]
    named.sort(key=itemgetter(0))
    for (name, entry), (following, _) in pairwise(named):
        if name == following:
            raise NodeError(f"expected each name once, found {entry.name!a} twice")
    block = b"".join(_link(entry.cid, name, entry.tree_size) for name, entry in named)
    block += _field(1, _number(1, NodeType.DIRECTORY))
    return _linked(block, 0, (entry.tree_size for _, entry in named)), block


def _linked(block: bytes, content_size: int, tree_sizes: Iterable[int]) -> Link:
    cid = CID(Codec.DAG_PB, sha256(block).digest())
    return Link(cid, content_size, len(block) + sum(tree_sizes))


def _name_bytes(name: str) -> bytes:
    if name in _NAMES_FORBIDDEN or "/" in name or "\0" in name:
        raise NodeError(f"expected a name that a path can have, found {name[:20]!a}")
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        raise NodeError("expected a name that UTF-8 can write") from None


def _link(cid: CID, name: bytes, tree_size: int) -> bytes:
    """A dag-pb link: the name is present even when it is empty."""
    return _field(2, _field(1, cid.bytes) + _field(2, name) + _number(3, tree_size))


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited Protocol Buffers field (wire type 2)."""
    return bytes([number << 3 | 2]) + encode_varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    """A varint Protocol Buffers field (wire type 0)."""
    return bytes([number << 3]) + encode_varint(value)
