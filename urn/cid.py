"""Content identifiers: the CID value and the streaming UnixFS tree that yields one.

Computes the CID that `ipfs add --cid-version=1 --raw-leaves --chunker=size-983280` answers
(balanced tree, 174 links a node, SHA-256) from leaf digests alone. Pure: holds no content,
stores no blocks, and accepts no other hash, codec or spelling than these.
"""

import builtins
from base64 import b32decode, b32encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, NamedTuple, Self

LEAF_SIZE: Final = 983_280
LINKS_MAX: Final = 174

_DIGEST_SIZE: Final = 32
_VERSION: Final = b"\x01"
_SHA2_256: Final = b"\x12\x20"
_CID_SIZE: Final = 36
_TEXT_LENGTH: Final = 59
_MULTIBASE_BASE32: Final = "b"
_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_LINKS_MAX_MIN: Final = 2


class CIDError(ValueError):
    """Text or bytes that are not a CID of the profile: `reason` says what was expected.

    `position` is the 0-based index of the first fault, in characters of the text or in bytes; it
    is the length when something is missing at the end. Text is checked for its characters, then
    for its length, then for what it spells, where the position is that of the first character
    which holds bits of the faulty byte.
    """

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"not a CID of this profile at position {self.position}: {self.reason}"


class LeafError(ValueError):
    """A leaf that cannot come next in the tree: wrong size, or after the last one."""


class Codec(IntEnum):
    """The multicodec of a block: a bare leaf, or a dag-pb node above leaves."""

    RAW = 0x55
    DAG_PB = 0x70


_CODECS: Final = frozenset(Codec)


@dataclass(frozen=True, slots=True)
class CID:
    """A CIDv1 with a SHA-256 digest: `codec` and the 32 bytes of `digest`.

    `str()` is multibase base32 in lower case (59 characters), `.bytes` the 36 binary bytes.
    Source: github.com/multiformats/cid. Raises `CIDError` for another codec and for a digest of
    another length. The digest is not checked against any content, and kept as `bytes` whatever
    buffer it came in.
    """

    codec: Codec
    digest: builtins.bytes  # `bytes` is a property here

    def __post_init__(self) -> None:
        # An int that is no Codec would be written, and could not be read again.
        if self.codec not in _CODECS:
            raise CIDError(f"expected codec raw or dag-pb, found 0x{self.codec:02x}", 1)
        object.__setattr__(self, "codec", Codec(self.codec))
        # A view makes sure of a buffer: bytes() would make 32 zeros of the number 32.
        object.__setattr__(self, "digest", builtins.bytes(memoryview(self.digest)))
        if len(self.digest) != _DIGEST_SIZE:
            reason = f"expected a SHA-256 digest of {_DIGEST_SIZE} bytes, got {len(self.digest)}"
            raise CIDError(reason, _CID_SIZE - _DIGEST_SIZE)

    def __str__(self) -> str:
        return _MULTIBASE_BASE32 + b32encode(self.bytes).decode("ascii").rstrip("=").lower()

    @property
    def bytes(self) -> builtins.bytes:
        """Version, codec, multihash: 36 bytes."""
        return _VERSION + bytes([self.codec]) + _SHA2_256 + self.digest

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the one text form that `str()` writes; raises `CIDError` for any other."""
        if not text.startswith(_MULTIBASE_BASE32):
            raise CIDError("expected 'b', the multibase prefix of lower-case base32 (CIDv1)")
        # No further than a CID goes: what follows is too much, whatever it is.
        for index, character in enumerate(text[1:_TEXT_LENGTH], start=1):
            if character not in _BASE32:
                raise CIDError(f"expected lower-case base32, found {character!a}", index)
        if len(text) != _TEXT_LENGTH:
            reason = f"expected {_TEXT_LENGTH} characters, there are {len(text)}"
            raise CIDError(reason, min(len(text), _TEXT_LENGTH))
        binary = b32decode(text[1:].upper() + "======")
        try:
            cid = cls.from_bytes(binary)
        except CIDError as error:
            raise CIDError(error.reason, 1 + error.position * 8 // 5) from None
        # 58 characters carry two bits more than 36 bytes do; a CID has one spelling: they are 0.
        if str(cid) != text:
            raise CIDError("expected the unused last two bits to be zero", _TEXT_LENGTH - 1)
        return cid

    @classmethod
    def from_bytes(cls, binary: builtins.bytes) -> Self:
        """Read the 36 binary bytes; raises `CIDError`, its position counted in bytes."""
        if len(binary) != _CID_SIZE:
            reason = f"expected {_CID_SIZE} bytes, there are {len(binary)}"
            raise CIDError(reason, min(len(binary), _CID_SIZE))
        if binary[:1] != _VERSION:
            raise CIDError(f"expected CID version 1, found {binary[0]}", 0)
        try:
            codec = Codec(binary[1])
        except ValueError:
            raise CIDError(f"expected codec raw or dag-pb, found 0x{binary[1]:02x}", 1) from None
        if binary[2:4] != _SHA2_256:
            fault = 2 if binary[2] != _SHA2_256[0] else 3
            reason = f"expected a 32-byte SHA-256 multihash, found {binary[2:4].hex()}"
            raise CIDError(reason, fault)
        return cls(codec, binary[4:])


class _Link(NamedTuple):
    cid: CID
    content_size: int  # bytes of file content below
    tree_size: int  # bytes of all blocks below, this one's included: Tsize


class DAGBuilder:
    """The CID of a file, from the SHA-256 digests of its leaves in order.

    All leaves hold `leaf_size` bytes except the last, which holds 1 to `leaf_size`; the only leaf
    of an empty file holds 0. Keeps at most `links_max` links for each level of the tree, whatever
    the number of leaves. Source: the balanced layout of Kubo's importer (boxo
    ipld/unixfs/importer/balanced): all leaves at one depth, nodes filled left to right.
    """

    def __init__(self, *, leaf_size: int = LEAF_SIZE, links_max: int = LINKS_MAX) -> None:
        if leaf_size < 1 or links_max < _LINKS_MAX_MIN:
            raise ValueError("expected leaf_size >= 1 and links_max >= 2")
        self._leaf_size = leaf_size
        self._links_max = links_max
        self._levels: list[list[_Link]] = [[]]
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
        self._push(0, _Link(CID(Codec.RAW, digest), size, size))
        self._ended = size < self._leaf_size

    def finish(self) -> CID:
        """Close the tree and return the CID of its root. No leaves: that of the empty file."""
        self._ended = True
        if self._levels == [[]]:
            return CID(Codec.RAW, sha256().digest())
        # Below the top even a single link gets its node, so that all leaves are at one depth; at
        # the top a single link is the root itself.
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._fold(level)
            level += 1
        return self._levels[level][0].cid

    def _push(self, level: int, link: _Link) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(link)
        if len(self._levels[level]) == self._links_max:
            self._fold(level)

    def _fold(self, level: int) -> None:
        """Replace the links of a level by one link, a level higher, to the node that has them."""
        node = _node(self._levels[level])
        self._levels[level] = []
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


def _node(links: list[_Link]) -> _Link:
    """The link to the UnixFS file node that has these links."""
    content_size = sum(link.content_size for link in links)
    block = _encode_node(links, content_size)
    cid = CID(Codec.DAG_PB, sha256(block).digest())
    return _Link(cid, content_size, len(block) + sum(link.tree_size for link in links))


def _encode_node(links: list[_Link], content_size: int) -> bytes:
    """A dag-pb node with UnixFS data, as bytes.

    Source: ipld.io/specs/codecs/dag-pb (links come before data although their field number is
    higher; the name is present and empty) and specs.ipfs.tech/unixfs (Type = File, filesize,
    blocksizes unpacked).
    """
    block = bytearray()
    for link in links:
        fields = _field(1, link.cid.bytes) + _field(2, b"") + _number(3, link.tree_size)
        block += _field(2, fields)
    sizes = b"".join(_number(4, link.content_size) for link in links)
    block += _field(1, _number(1, 2) + _number(3, content_size) + sizes)
    return bytes(block)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited Protocol Buffers field (wire type 2)."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    """A varint Protocol Buffers field (wire type 0)."""
    return bytes([number << 3]) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
