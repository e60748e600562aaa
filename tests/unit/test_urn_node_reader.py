"""Goal: a node that is read was written as we write it, to the last bit.

Method: trees and directories of ours read again, a table of faults in nodes that are written out
here by hand, and Hypothesis: what is read is written back byte for byte. Other implementations
write nodes in tests/interop.
"""

import pickle
from hashlib import sha256
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_urn_node import tree
from urn import (
    CID,
    LINKS_MAX,
    Codec,
    DirectoryNode,
    Entry,
    FileNode,
    Link,
    NodeError,
    encode_directory,
    parse_node,
)
from urn.binary import NUMBER_MAX
from urn.node import encode_file

LEAF: Final = CID(Codec.RAW, sha256(b"leaf").digest())
NODE: Final = CID(Codec.DAG_PB, sha256(b"node").digest())

cids = st.builds(CID, st.sampled_from(Codec), st.binary(min_size=32, max_size=32))
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."})
entries = st.builds(Entry, names, cids, st.integers(0, NUMBER_MAX))
directories = st.lists(entries, max_size=9, unique_by=lambda entry: entry.name)


@st.composite
def links(draw: st.DrawFn) -> Link:
    cid, size = draw(cids), draw(st.integers(1, 2**54))
    return Link(cid, size, size if cid.codec is Codec.RAW else size + draw(st.integers(1, 2**54)))


files = st.lists(links(), min_size=1, max_size=9)


@given(files)
def test_a_file_s_node_is_read_as_it_was_written(held: list[Link]) -> None:
    link, block = encode_file(held)

    assert FileNode(link, tuple(held)) == parse_node(block)


@given(directories)
def test_a_directory_is_read_as_it_was_written_in_its_order(held: list[Entry]) -> None:
    link, block = encode_directory(held)
    held.sort(key=lambda entry: entry.name.encode())

    assert DirectoryNode(link, tuple(held)) == parse_node(block)


def test_a_tree_leads_down_to_its_leaves_by_links_that_are_right() -> None:
    root, told = tree(82, 3)
    held, leaves, waiting = dict(told), [], [root]
    while waiting:
        link = waiting.pop()
        if link.cid.codec is Codec.RAW:
            leaves.append(link)
            continue
        node = parse_node(held.pop(link.cid))
        assert isinstance(node, FileNode)
        assert link == node.link
        waiting.extend(reversed(node.links))

    assert {} == held
    expected = [(sha256(i.to_bytes(8, "big")).digest(), 3 if i == 81 else 5) for i in range(82)]
    assert expected == [(link.cid.digest, link.content_size) for link in leaves]


def written_back(block: bytes) -> bytes:
    node = parse_node(block)
    if isinstance(node, FileNode):
        return encode_file(node.links)[1]
    return encode_directory(node.entries)[1]


@given(
    files.map(encode_file) | directories.map(encode_directory),
    st.integers(min_value=0),
    st.binary(max_size=3),
    st.integers(0, 3),
)
def test_what_is_read_after_any_change_is_written_back(
    written: tuple[Link, bytes], place: int, new: bytes, dropped: int
) -> None:
    _, block = written
    place %= len(block) + 1
    changed = block[:place] + new + block[place + dropped :]
    try:
        assert changed == written_back(changed)
    except NodeError as error:
        assert 0 <= error.position <= len(changed)


@given(files.map(encode_file) | directories.map(encode_directory), st.data())
def test_no_cut_or_longer_node_is_read(written: tuple[Link, bytes], data: st.DataObject) -> None:
    _, block = written
    size = data.draw(st.integers(0, len(block) - 1))
    with pytest.raises(NodeError) as caught:
        parse_node(block[:size])
    assert size == caught.value.position
    with pytest.raises(NodeError) as caught:
        parse_node(block + data.draw(st.binary(min_size=1, max_size=60)))
    assert len(block) == caught.value.position


def field(tag: int, value: bytes) -> bytes:
    assert len(value) < 128
    return bytes([tag, len(value)]) + value


def link(cid: bytes = LEAF.bytes, name: bytes = b"", tree_size: bytes = b"\x05") -> bytes:
    return field(0x12, field(0x0A, cid) + field(0x12, name) + b"\x18" + tree_size)


def file(*held: bytes, size: bytes, sizes: bytes) -> bytes:
    return b"".join(held) + field(0x0A, b"\x08\x02\x18" + size + sizes)


DATA: Final = field(0x0A, b"\x08\x01")
FILE_DATA: Final = field(0x0A, b"\x08\x02\x18\x05\x20\x05")


def test_the_nodes_of_these_tables_are_right_before_they_are_changed() -> None:
    assert encode_file([Link(LEAF, 5, 5)])[1] == link() + FILE_DATA
    assert encode_directory([Entry("a", NODE, 5)])[1] == link(NODE.bytes, b"a") + DATA
    assert parse_node(file(link(), size=b"\x05", sizes=b"\x20\x05"))


@pytest.mark.parametrize(
    ("block", "position", "reason"),
    [
        (b"", 0, "expected a link or data"),
        (link(), 44, "expected a link or data"),
        (b"\x1a\0" + DATA, 0, "expected a link or data"),
        (FILE_DATA + link(), 8, "the end of the node after its data"),
        (DATA + DATA, 4, "the end of the node after its data"),
        (b"\x12\x80\0" + DATA, 2, "as short as can be"),
        (b"\x12" + b"\xff" * 9, 9, "at most 9 bytes"),
        (b"\x12\x2e" + link()[2:], 44, "of 46 bytes, there are 42"),
        (field(0x12, b"\x12\0\x18\x05") + FILE_DATA, 2, "the hash of a link"),
        (field(0x12, field(0x0A, LEAF.bytes) + b"\x18\x05") + FILE_DATA, 40, "the name"),
        (field(0x12, field(0x0A, LEAF.bytes) + b"\x12\0") + FILE_DATA, 42, "the tree size"),
        (field(0x12, link()[2:] + b"\x18\x05") + FILE_DATA, 44, "the end of the link"),
        (link(tree_size=b"\x85\0") + FILE_DATA, 44, "as short as can be"),
        (link(b"\x12\x20" + LEAF.digest) + FILE_DATA, 38, "expected 36 bytes, there are 34"),
        (link(b"\x01\x71" + LEAF.bytes[2:]) + FILE_DATA, 5, "found 0x71"),
        # Names.
        (link(name=b"b") + link(name=b"a") + DATA, 87, "all empty, or sorted"),
        (link(name=b"a") + link(name=b"a") + DATA, 87, "all empty, or sorted"),
        (link(name=b"a") + link() + DATA, 87, "all empty, or sorted"),
        (link() + link(name=b"a") + FILE_DATA, 86, "all empty, or sorted"),
        (link(name=b"a\xff") + DATA, 43, "UTF-8"),
        (link(name=b"\xed\xa0\x80") + DATA, 42, "UTF-8"),
        (link(name=b"a/b") + DATA, 42, "that a path can have, found 'a/b'"),
        (link(name=b"..") + DATA, 42, "that a path can have"),
        # Data of directories.
        (b"\x0a\0", 2, "the data of a directory"),
        (field(0x0A, b"\x08\x05"), 3, "the data of a directory"),
        (field(0x0A, b"\x08\x02"), 3, "the data of a directory"),  # a file without links
        (field(0x0A, b"\x08\x01\x18\0"), 4, "no more data of a directory"),
        (link(name=b"a") + FILE_DATA, 48, "the data of a directory"),
        # Data of files.
        (link() + DATA, 47, "the data of a file"),
        (link() + field(0x0A, b"\x08\x02\x12\0\x18\x05\x20\x05"), 48, "the size of the file"),
        (file(link(), size=b"\x06", sizes=b"\x20\x05"), 49, "the sum of its parts"),
        (file(link(), size=b"\x05", sizes=b""), 50, "a size for each link"),
        (file(link(), size=b"\x05", sizes=b"\x20\x05\x20\x05"), 52, "as many sizes as links"),
        (file(link(), size=b"\x05", sizes=b"\x22\x01\x05"), 50, "a size for each link"),  # packed
        (file(link(), size=b"\x04", sizes=b"\x20\x04"), 51, "the content of the link"),
        (file(link(NODE.bytes), size=b"\x05", sizes=b"\x20\x05"), 51, "the content of the link"),
        (file(link(tree_size=b"\0"), size=b"\0", sizes=b"\x20\0"), 51, "the content of the link"),
        (file(link(NODE.bytes), size=b"\0", sizes=b"\x20\0"), 51, "the content of the link"),
    ],
    ids=map(str, count()),
)
def test_a_node_in_any_other_form_is_refused(block: bytes, position: int, reason: str) -> None:
    with pytest.raises(NodeError) as caught:
        parse_node(block)

    assert (position, True) == (caught.value.position, reason in caught.value.reason), caught.value
    assert f"at position {position}: " in str(caught.value)


def test_a_file_has_as_many_links_as_the_profile_lets_it_have() -> None:
    _, full = encode_file([Link(LEAF, 5, 5)] * LINKS_MAX)
    _, more = encode_file([Link(LEAF, 5, 5)] * (LINKS_MAX + 1))

    assert isinstance(parse_node(full), FileNode)
    assert isinstance(parse_node(more, links_max=LINKS_MAX + 1), FileNode)
    with pytest.raises(NodeError, match="expected at most 174 links") as caught:
        parse_node(more)
    assert 174 * len(link()) == caught.value.position


def test_a_directory_may_have_more() -> None:
    many = [Entry(f"{index}", LEAF, 5) for index in range(LINKS_MAX + 1)]

    node = parse_node(encode_directory(many)[1])
    assert isinstance(node, DirectoryNode)
    assert sorted(many) == sorted(node.entries)


@pytest.mark.parametrize("tree_size", [-1, NUMBER_MAX + 1])
def test_a_tree_size_that_no_number_holds_is_not_written(tree_size: int) -> None:
    with pytest.raises(NodeError, match="expected tree sizes of 0 to"):
        encode_directory([Entry("a", LEAF, tree_size)])


def test_an_error_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(NodeError("reason", 7)))  # noqa: S301 - made here

    assert ("reason", 7) == (copy.reason, copy.position)
