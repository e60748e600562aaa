"""What the tests of `urn` share: the grammar of RFC 8141 as a regular expression, content, leaves.

What content and leaves are made of: tests/vectors/README.md.
"""

import json
import re
from collections.abc import Iterator
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any, Final

from urn import CID, LEAF_SIZE, Codec, DAGBuilder, Entry, Link, encode_directory

CID_VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "cid.json").read_text("utf-8")
)
SEED: Final[str] = CID_VECTORS["seed"]
BLOCK_SIZE: Final[int] = CID_VECTORS["block_size"]

# RFC 8141 section 2 and RFC 3986, written from their ABNF: shares nothing with the parser.
PCHAR: Final = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
# The "?=" that ends an r-component cannot be inside one, hence the look-ahead.
ABNF: Final = re.compile(
    r"[Uu][Rr][Nn]:[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]"
    rf":{PCHAR}(?:{PCHAR}|/)*"
    rf"(?:\?\+{PCHAR}(?:{PCHAR}|/|\?(?!=))*)?"
    rf"(?:\?={PCHAR}(?:{PCHAR}|/|\?)*)?"
    rf"(?:\#(?:{PCHAR}|/|\?)*)?"
)


def content(size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of the one stream that all samples are cut from, in blocks."""
    for index in range(-(-size // BLOCK_SIZE)):
        block = shake_256(SEED.encode("ascii") + index.to_bytes(8, "big")).digest(BLOCK_SIZE)
        yield block[: size - index * BLOCK_SIZE]


def leaves(size: int, leaf_size: int) -> Iterator[tuple[bytes, int]]:
    """Yield digest and size of each leaf of that content, which is never held as a whole."""
    held = bytearray()
    for block in content(size):
        held += block
        whole = len(held) - len(held) % leaf_size
        for start in range(0, whole, leaf_size):
            yield sha256(held[start : start + leaf_size]).digest(), leaf_size
        del held[:whole]
    if held or not size:
        yield sha256(held).digest(), len(held)


def imagined_leaves(count: int, last_size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the leaves of an object too large to be hashed in a test."""
    for index in range(count):
        size = last_size if index == count - 1 else LEAF_SIZE
        yield sha256(index.to_bytes(8, "big")).digest(), size


def wrapped_file(
    name: str, data: bytes, leaf_size: int, links_max: int
) -> tuple[Link, dict[CID, bytes]]:
    """Return the link to a directory with one file in it, and all blocks below and its own."""
    made: dict[CID, bytes] = {}
    builder = DAGBuilder(leaf_size=leaf_size, links_max=links_max, on_node=made.__setitem__)
    for start in range(0, len(data) or 1, leaf_size):
        leaf = data[start : start + leaf_size]
        cid = CID(Codec.RAW, sha256(leaf).digest())
        made[cid] = leaf
        builder.add_leaf(cid.digest, len(leaf))
    file = builder.finish_link()
    link, block = encode_directory([Entry(name, file.cid, file.tree_size)])
    made[link.cid] = block
    return link, made
