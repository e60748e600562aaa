"""Goal: nodes of files and directories have the bytes that IPFS gives them, and no others are read.

Method: well-known blocks, the tree of nodes walked down again to its leaves, tables of faults, and
Hypothesis. Other implementations are asked in tests/interop.
"""

from hashlib import sha256
from typing import Final

import pytest

from tests.unit.urn_samples import imagined_leaves
from urn import CID, Codec, DAGBuilder, Entry, Link, NodeError, cid_of, encode_directory

EMPTY_DIRECTORY: Final = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
LEAF: Final = CID(Codec.RAW, sha256(b"leaf").digest())


def tree(count: int, links_max: int) -> tuple[Link, list[tuple[CID, bytes]]]:
    """Build a tree over `count` leaves of 5 bytes, the last of 3; return its root and its nodes."""
    told: list[tuple[CID, bytes]] = []
    builder = DAGBuilder(
        leaf_size=5, links_max=links_max, on_node=lambda cid, block: told.append((cid, block))
    )
    for index, (digest, _) in enumerate(imagined_leaves(count, 3)):
        builder.add_leaf(digest, 3 if index == count - 1 else 5)
    return builder.finish_link(), told


def test_each_node_is_told_of_once_children_first_and_the_root_last() -> None:
    for count in (2, 3, 4, 9, 10, 27, 28, 82):
        root, told = tree(count, 3)
        known = {digest for digest, _ in imagined_leaves(count, 3)}

        for cid, block in told:
            assert CID(Codec.DAG_PB, sha256(block).digest()) == cid
            below = [block[at + 4 : at + 36] for at in range(len(block)) if is_cid(block, at)]
            assert set(below) <= known
            assert below
            known.add(cid.digest)
        assert told[-1][0] == root.cid
        assert len(known) == len(told) + count


def is_cid(block: bytes, at: int) -> bool:
    return block[at : at + 4] in {b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"}


def test_a_tree_s_size_is_that_of_its_leaves_and_of_the_nodes_that_were_told_of() -> None:
    for count in (1, 2, 3, 4, 9, 10, 28):
        root, told = tree(count, 3)
        content = 5 * (count - 1) + 3

        assert (content, content + sum(len(block) for _, block in told)) == root[1:]
        assert ([] if count == 1 else [root.cid]) == [cid for cid, _ in told[-1:]]


def test_finishing_twice_tells_of_no_node_twice() -> None:
    told: list[CID] = []
    builder = DAGBuilder(leaf_size=1, links_max=2, on_node=lambda cid, _: told.append(cid))
    for digest, _ in imagined_leaves(5, 1):
        builder.add_leaf(digest, 1)

    assert builder.finish_link() == builder.finish_link()
    assert builder.finish() == builder.finish_link().cid == told[-1]
    assert 6 == len(told)


def test_an_empty_file_is_a_block_of_no_bytes() -> None:
    assert Link(cid_of(b""), 0, 0) == DAGBuilder().finish_link()


def test_an_empty_directory_is_the_one_that_everybody_knows() -> None:
    link, block = encode_directory([])

    assert b"\x0a\x02\x08\x01" == block
    assert (EMPTY_DIRECTORY, 0, 4) == (str(link.cid), link.content_size, link.tree_size)


def test_a_directory_names_its_entries_in_the_order_of_their_bytes() -> None:
    # U+FFFF sorts before U+10000 in UTF-8 and after it in UTF-16.
    names = ["a", "B", "ab", "\uffff", "\U00010000"]
    entries = [Entry(name, LEAF, 300) for name in names]
    link, block = encode_directory(entries)

    assert encode_directory(reversed(entries)) == (link, block)
    places = [block.index(b"\x12" + bytes([len(n.encode())]) + n.encode()) for n in names]
    assert places[1] < places[0] < places[2] < places[3] < places[4]
    assert len(block) + 5 * 300 == link.tree_size


def test_a_directory_with_one_entry_byte_by_byte() -> None:
    _, block = encode_directory([Entry("name", LEAF, 300)])
    link = b"\x0a\x24" + LEAF.bytes + b"\x12\x04name" + b"\x18\xac\x02"

    assert b"\x12" + bytes([len(link)]) + link + b"\x0a\x02\x08\x01" == block


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\ud800"])
def test_a_name_that_no_path_can_have_is_refused(name: str) -> None:
    with pytest.raises(NodeError, match="expected a name that"):
        encode_directory([Entry(name, LEAF, 4)])


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(NodeError, match="found 'a' twice"):
        encode_directory([Entry("a", LEAF, 4), Entry("b", LEAF, 4), Entry("a", LEAF, 5)])
