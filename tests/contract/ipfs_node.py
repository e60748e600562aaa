"""Small trees of blocks, and how they are handed to an IPFS node, for the tests that ask one."""

import json
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Any, NamedTuple

from tests.servers.ipfs import IpfsNode
from urn.car import car_header, car_section
from urn.cid import CID, Codec
from urn.node import Entry, encode_directory

FORM = {"Content-Type": "multipart/form-data; boundary=boundary"}
PART_TYPE = b"Content-Type: application/octet-stream\r\n"


class Block(NamedTuple):
    """A block, and what it is called."""

    cid: CID
    content: bytes


class Tree(NamedTuple):
    """Two wrappers of one directory with two raw leaves."""

    wrapper: Block
    other: Block
    shared: Block
    leaves: tuple[Block, Block]

    @property
    def below(self) -> tuple[Block, ...]:
        """What both wrappers hold."""
        return (self.shared, *self.leaves)


def leaf(content: bytes) -> Block:
    """Return a raw block."""
    return Block(CID(Codec.RAW, sha256(content).digest()), content)


def directory(**entries: Block) -> Block:
    """Return a directory of blocks."""
    link, content = encode_directory(
        Entry(name, block.cid, len(block.content)) for name, block in entries.items()
    )
    return Block(link.cid, content)


def tree() -> Tree:
    """Return the same tree each time."""
    leaves = (leaf(b"a" * 1000), leaf(b"b" * 2000))
    shared = directory(a=leaves[0], b=leaves[1])
    return Tree(directory(one=shared), directory(two=shared), shared, leaves)


def car(root: Block, *blocks: Block) -> bytes:
    """Return an archive of blocks under a root, which is in it only if it is one of them."""
    sections = (car_section(block.cid, len(block.content)) + block.content for block in blocks)
    return car_header([root.cid]) + b"".join(sections)


def form(content: bytes, part_type: bytes = PART_TYPE) -> bytes:
    """Return content as the one part of a form."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="file"\r\n'
    return b"".join(
        [b"--boundary\r\n", disposition, part_type, b"\r\n", content, b"\r\n--boundary--\r\n"]
    )


def import_car(node: IpfsNode, archive: bytes, query: str = "") -> tuple[int, bytes]:
    """Return the status and body of what the node says to an archive."""
    return node.ask(f"dag/import?{query}", form(archive), FORM)


def put(node: IpfsNode, root: Block, blocks: Sequence[Block] = (), *, pin: bool = True) -> None:
    """Hand a root and blocks below it to a node, and pin the root unless told otherwise."""
    query = f"pin-roots={str(pin).lower()}"
    status, answer = import_car(node, car(root, root, *blocks), query)
    pinned = f'{{"Root":{{"Cid":{{"/":"{root.cid}"}},"PinErrorMsg":""}}}}\n' if pin else ""
    assert (HTTPStatus.OK, pinned.encode()) == (status, answer)


def has(node: IpfsNode, block: Block) -> bool:
    """Tell whether a node that does not wait has a block, whatever it holds."""
    return node.ask(f"block/get?arg={block.cid}")[0] == HTTPStatus.OK


def refusal(answer: tuple[int, bytes]) -> tuple[int, str]:
    """Return the status and reason of an answer that must be Kubo's kind of refusal."""
    status, body = answer
    told: dict[str, Any] = json.loads(body)
    assert {"Message", "Code", "Type"} == set(told)
    assert "error" == told["Type"]
    return status, told["Message"]
