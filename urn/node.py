"""The dag-pb blocks of UnixFS files and directories: written, and read with the same strictness.

Sources: ipld.io/specs/codecs/dag-pb (links come before data although their field number is higher)
and specs.ipfs.tech/unixfs. There is one encoding of a node, that of Kubo and js-ipfs; any other is
refused, though IPFS tools may read it. Pure.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from urn.binary import NUMBER_MAX, Fault, Reader, encode_number
from urn.cid import CID, CIDError, Codec

LINKS_MAX: Final = 174

# Tags of Protocol Buffers: the number of a field, shifted by three, and its wire type (0 a number,
# 2 a length and as many bytes).
_LINKS: Final = b"\x12"  # of a node: 2
_DATA: Final = b"\x0a"  # 1
_HASH: Final = b"\x0a"  # of a link: 1
_NAME: Final = b"\x12"  # 2
_TSIZE: Final = b"\x18"  # 3
_FILE_SIZE: Final = b"\x18"  # of UnixFS data: 3
_BLOCK_SIZES: Final = b"\x20"  # 4, each with a tag
_DIRECTORY_DATA: Final = b"\x08\x01"  # Type (1) = Directory
_FILE_DATA: Final = b"\x08\x02"  # Type (1) = File

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


class FileNode(NamedTuple):
    """A node above leaves of a file, and the `link` that a node above it has to it."""

    link: Link
    links: tuple[Link, ...]


class DirectoryNode(NamedTuple):
    """A directory, and the `link` that whatever is above it has to it."""

    link: Link
    entries: tuple[Entry, ...]


def encode_file(links: Sequence[Link]) -> tuple[Link, bytes]:
    """The node of a file that has these links, in order: the link to it, and its block."""
    content_size = sum(link.content_size for link in links)
    block = b"".join(_link(link.cid, b"", link.tree_size) for link in links)
    sizes = b"".join(_number(_BLOCK_SIZES, link.content_size) for link in links)
    block += _field(_DATA, _FILE_DATA + _number(_FILE_SIZE, content_size) + sizes)
    return _linked(block, content_size, (link.tree_size for link in links)), block


def encode_directory(entries: Iterable[Entry]) -> tuple[Link, bytes]:
    """The node of a directory with these entries: the link to it, and its block.

    The order of `entries` does not matter: they are written in that of the bytes of their names.
    Raises `NodeError` for two of one name, for a name that no path can have, and for a `tree_size`
    that no number of the format holds.
    """
    entries = list(entries)
    if not all(0 <= entry.tree_size <= NUMBER_MAX for entry in entries):
        raise NodeError(f"expected tree sizes of 0 to {NUMBER_MAX}")
    named = [(_name_bytes(entry.name), entry) for entry in entries]
    named.sort(key=itemgetter(0))
    for (name, entry), (following, _) in pairwise(named):
        if name == following:
            raise NodeError(f"expected each name once, found {entry.name!a} twice")
    block = b"".join(_link(entry.cid, name, entry.tree_size) for name, entry in named)
    block += _field(_DATA, _DIRECTORY_DATA)
    return _linked(block, 0, (entry.tree_size for _, entry in named)), block


def parse_node(block: bytes, *, links_max: int = LINKS_MAX) -> FileNode | DirectoryNode:
    """Read the one encoding of a node: what `encode_file` or `encode_directory` wrote.

    A node of a file has 1 to `links_max` links, none of them to nothing. What is said of the blocks
    below cannot be checked here: whoever walks a tree compares each link with the `link` of the
    node that it leads to, or its `content_size` with the size of the leaf. Raises `NodeError`.
    """
    try:
        return _read_node(Reader(block, 0, len(block)), links_max)
    except Fault as fault:
        raise NodeError(fault.reason, fault.position) from None


def _read_node(reader: Reader, links_max: int) -> FileNode | DirectoryNode:
    block = reader.data
    named: list[tuple[bytes, Entry]] = []
    while reader.next_is(_LINKS):
        if len(named) == links_max and not named[0][0]:
            raise NodeError(f"expected at most {links_max} links in a file", reader.at)
        named.append(_read_link(_read_field(reader, _LINKS, "a link"), named))
    data = _read_field(reader, _DATA, "a link or data")
    reader.end("the end of the node after its data")
    entries = tuple(entry for _, entry in named)
    if not named or named[0][0]:
        data.literal(_DIRECTORY_DATA, "the data of a directory")
        data.end("no more data of a directory")
        return DirectoryNode(_linked(block, 0, (entry.tree_size for entry in entries)), entries)
    links = _read_sizes(data, entries)
    content_size = sum(link.content_size for link in links)
    return FileNode(_linked(block, content_size, (link.tree_size for link in links)), links)


def _read_link(reader: Reader, before: Sequence[tuple[bytes, Entry]]) -> tuple[bytes, Entry]:
    """Read a link and return the bytes of its name too; all names are empty, or none is."""
    hash_field = _read_field(reader, _HASH, "the hash of a link")
    try:
        cid = CID.from_bytes(hash_field.rest())
    except CIDError as error:
        raise NodeError(error.reason, hash_field.at + error.position) from None
    name_field = _read_field(reader, _NAME, "the name of a link")
    name = name_field.rest()
    last = before[-1][0] if before else None
    if last is not None and not (last < name if last else not name):
        raise NodeError("expected names that are all empty, or sorted", name_field.at)
    tree_size = _read_number(reader, _TSIZE, "the tree size of a link")
    reader.end("the end of the link after its tree size")
    return name, Entry(_text(name, name_field.at) if name else "", cid, tree_size)


def _text(name: bytes, position: int) -> str:
    try:
        text = name.decode()
        _name_bytes(text)
    except UnicodeDecodeError as error:
        raise NodeError("expected a name in UTF-8", position + error.start) from None
    except NodeError as error:
        raise NodeError(error.reason, position) from None
    return text


def _read_sizes(reader: Reader, entries: Sequence[Entry]) -> tuple[Link, ...]:
    """Read the data of a file's node: how much content is below each link, and in all."""
    reader.literal(_FILE_DATA, "the data of a file")
    total_at, links = reader.at + 1, []
    total = _read_number(reader, _FILE_SIZE, "the size of the file")
    for entry in entries:
        size_at = reader.at + 1
        size = _read_number(reader, _BLOCK_SIZES, "a size for each link")
        # A leaf is its content; a node takes bytes of its own. Neither is ever empty in a tree.
        right = size == entry.tree_size if entry.cid.codec is Codec.RAW else size < entry.tree_size
        if not size or not right:
            raise NodeError("expected the content of the link, by its tree size", size_at)
        links.append(Link(entry.cid, size, entry.tree_size))
    reader.end("as many sizes as links")
    if total != sum(link.content_size for link in links):
        raise NodeError("expected the size of the file to be the sum of its parts", total_at)
    return tuple(links)


def _read_number(reader: Reader, tag: bytes, what: str) -> int:
    reader.literal(tag, what)
    return reader.number(what)


def _read_field(reader: Reader, tag: bytes, what: str) -> Reader:
    reader.literal(tag, what)
    return reader.part(reader.number(what), what)


def _linked(block: bytes, content_size: int, tree_sizes: Iterable[int]) -> Link:
    cid = CID(Codec.DAG_PB, sha256(block).digest())
    return Link(cid, content_size, len(block) + sum(tree_sizes))


def _name_bytes(name: str) -> bytes:
    if name in _NAMES_FORBIDDEN or "/" in name or "\0" in name:
        raise NodeError(f"expected a name that a path can have, found {name[:20]!a}")
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise NodeError("expected a name that UTF-8 can write") from None


def _link(cid: CID, name: bytes, tree_size: int) -> bytes:
    """A dag-pb link: the name is present even when it is empty."""
    fields = _field(_HASH, cid.bytes) + _field(_NAME, name) + _number(_TSIZE, tree_size)
    return _field(_LINKS, fields)


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + encode_number(len(value)) + value


def _number(tag: bytes, value: int) -> bytes:
    return tag + encode_number(value)
