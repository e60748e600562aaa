"""Goal: an archive holds the blocks of a tree of any depth, in order, each of them right, and no
other: also of a part of it, from anywhere in it, and where blocks are alike.

Method: leaves of 64 bytes, so that a few hundred of them make three levels; a catalog and a store
with what is entered by hand. What must come is worked out by a second walk, over a dictionary.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, update

from crypto import SEGMENT_LEAVES, Secret
from storage_gateway import blocks as serving
from storage_gateway.backends import LocalStore, Range
from storage_gateway.backends.contract import Check
from storage_gateway.blocks import Blocks, Span, content_size_of
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.blocks import record_blocks
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.tables import blocks, objects
from storage_gateway.errors import BlobCorrupt, BlobMissing, Erased
from storage_gateway.memory import Budget
from storage_gateway.records import Segment
from urn import CID, LINKS_MAX, CARReader, Codec, DAGBuilder, FileNode, parse_node

from .units import add_object, add_session, object_named

LEAF = 64
LEAVES = 400
"""More than a node links, twice: a root, three nodes below it, and leaves."""


class Tree:
    """An object in a catalog and a store, by its leaves."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self.known = {_raw(leaf): leaf for leaf in leaves}
        self.nodes: list[tuple[CID, bytes]] = []
        dag = DAGBuilder(leaf_size=LEAF, on_node=lambda *node: self.nodes.append(node))
        for leaf in leaves:
            dag.add_leaf(sha256(leaf).digest(), len(leaf))
        self.root = dag.finish()
        self.known |= dict(self.nodes)
        self.size = sum(map(len, leaves))

    async def enter(self, catalog: Catalog, store: LocalStore) -> None:
        """Put it where it is looked for."""
        steps = range(0, len(self.leaves), SEGMENT_LEAVES)
        pieces = [self.leaves[at : at + SEGMENT_LEAVES] for at in steps]
        for index, piece in enumerate(pieces):
            await store.put(f"payloads/p01/{index}", b"".join(piece))
        placed = [
            Segment(index, 0, tuple(sha256(leaf).digest() for leaf in piece), Secret(b""), ())
            for index, piece in enumerate(pieces)
        ]

        def unit(connection: Connection) -> None:
            add_session(connection, "101")
            add_object(connection, 1, "101", b"head")
            connection.execute(update(objects).values(payload_size=self.size))
            record_blocks(connection, "p01", placed, self.nodes)

        await catalog.run(unit)

    def walk(self, cid: CID, first: int, last: int, start: int = 0) -> list[CID]:
        """Return what must come, block for block."""
        found = [cid]
        if cid.codec is Codec.DAG_PB:
            node = parse_node(self.known[cid])
            assert isinstance(node, FileNode)
            for link in node.links:
                if start <= last and first < start + link.content_size:
                    found += self.walk(link.cid, first, last, start)
                start += link.content_size
        return found


def _raw(content: bytes) -> CID:
    return CID(Codec.RAW, sha256(content).digest())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    opened = LocalStore(tmp_path / "store")
    yield opened
    await asyncio.to_thread(opened.close)


@pytest.fixture
def memory() -> Budget:
    return Budget(2 << 20, wait_s=0.1)


@pytest.fixture
async def served(
    catalog: Catalog, store: LocalStore, memory: Budget, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Blocks]:
    monkeypatch.setattr(serving, "LEAF_SIZE", LEAF)
    with ThreadPoolExecutor(2) as threads:
        yield Blocks(
            catalog=catalog,
            threads=threads,
            memory=memory,
            payloads="payloads/",
            store_of=lambda _backends: store,
        )


async def archive(served: Blocks, cid: CID, **of: object) -> list[CID]:
    """Return what an archive holds, verified; its one root is what was asked for."""
    block = await served.find(cid)
    reader, found = CARReader(), []
    async for piece in served.archive(block, **of):  # type: ignore[arg-type]
        found += [each for each, _ in reader.feed(piece)]
    reader.finish()
    assert (cid,) == reader.roots
    return found


@pytest.fixture
async def tree(catalog: Catalog, store: LocalStore) -> Tree:
    made = Tree([_leaf(n) for n in range(LEAVES)])
    await made.enter(catalog, store)
    return made


def _leaf(number: int) -> bytes:
    return b"%016d" % number * 4


async def test_a_tree_of_three_levels_is_walked_depth_first(
    served: Blocks, tree: Tree, memory: Budget
) -> None:
    expected = tree.walk(tree.root, 0, tree.size)

    assert LEAVES + 4 == len(expected)
    assert expected == await archive(served, tree.root)
    assert expected == await archive(served, tree.root, again=True)
    assert [tree.root] == await archive(served, tree.root, alone=True)
    assert 0 == memory.taken


async def test_each_node_is_the_root_of_its_part(served: Blocks, tree: Tree) -> None:
    for cid, _ in tree.nodes:
        block = await served.find(cid)
        assert tree.walk(cid, 0, content_size_of(block)) == await archive(served, cid)


async def test_a_span_is_the_fewest_blocks_that_hold_it(
    served: Blocks, tree: Tree, seed: int
) -> None:
    rng = random.Random(seed)
    roots = [tree.root, *(cid for cid, _ in tree.nodes)]
    for _ in range(60):
        cid = rng.choice(roots)
        size = content_size_of(await served.find(cid))
        first, last = sorted(rng.choice([0, rng.randrange(size), size - 1]) for _ in range(2))
        found = await archive(served, cid, span=Span(first, last))
        assert tree.walk(cid, first, last) == found, (cid, first, last)


@pytest.mark.parametrize("last", [[], [b"short"]], ids=["full", "short"])
@pytest.mark.parametrize("alike", [1, 3, 174, 200])
async def test_blocks_that_are_alike_come_once_or_each_time(
    catalog: Catalog, store: LocalStore, served: Blocks, alike: int, last: list[bytes]
) -> None:
    """Of so many different leaves: nodes are alike, too, where their number divides 174."""
    tree = Tree([_leaf(n % alike) for n in range(LEAVES)] + last)
    await tree.enter(catalog, store)
    each = tree.walk(tree.root, 0, tree.size)

    assert each == await archive(served, tree.root, again=True)
    assert list(dict.fromkeys(each)) == await archive(served, tree.root)
    # From the midst on, where what is met first is alike to what was left out.
    span = Span(200 * LEAF, 300 * LEAF)
    part = tree.walk(tree.root, span.first, span.last)
    assert part == await archive(served, tree.root, span=span, again=True)
    assert list(dict.fromkeys(part)) == await archive(served, tree.root, span=span)


async def test_what_the_catalog_lacks_ends_an_archive_with_an_error(
    catalog: Catalog, served: Blocks, tree: Tree, memory: Budget
) -> None:
    node = tree.nodes[1][0].digest
    for digest in (sha256(tree.leaves[300]).digest(), node):
        await catalog.run(partial(_remove, digest=digest))
        with pytest.raises(BlobCorrupt):
            await archive(served, tree.root)
    assert tree.walk(tree.root, 0, 99) == await archive(served, tree.root, span=Span(0, 99))
    assert 0 == memory.taken


def _remove(connection: Connection, digest: bytes) -> None:
    connection.execute(delete(blocks).where(blocks.c.digest == digest))


async def test_an_erasure_is_noticed_before_the_next_node(
    catalog: Catalog, served: Blocks, tree: Tree, memory: Budget
) -> None:
    block = await served.find(tree.root)
    reader = CARReader()
    found: list[CID] = []

    async def read() -> None:
        async for piece in served.archive(block):
            found.extend(each for each, _ in reader.feed(piece))
            await catalog.run(partial(erase, object_id=object_named(1)))

    with pytest.raises(Erased):
        await read()

    assert found == tree.walk(tree.root, 0, tree.size)[: len(found)]
    assert len(found) < LINKS_MAX + 4
    assert 0 == memory.taken


@pytest.mark.parametrize(("short_of_memory", "ahead"), [(True, 1), (False, 4)])
async def test_leaves_are_read_ahead_as_far_as_there_is_memory(
    store: LocalStore,
    served: Blocks,
    tree: Tree,
    memory: Budget,
    monkeypatch: pytest.MonkeyPatch,
    short_of_memory: bool,
    ahead: int,
) -> None:
    asked = sent = most = 0
    really = store.fetch

    async def fetch(ranges: Sequence[Range], check: Check[bytes], threads: Executor) -> list[bytes]:
        nonlocal asked, most
        asked += 1
        most = max(most, asked - sent)
        return await really(ranges, check, threads)

    monkeypatch.setattr(store, "fetch", fetch)
    block = await served.find(tree.root)
    # Half of a budget is for floors alone.
    others = memory._size // 2 if short_of_memory else 0
    async with memory.admit(others):
        async for piece in served.archive(block):
            assert memory.taken <= memory._size
            sent += len(piece) == LEAF

    assert (LEAVES, ahead) == (sent, most)
    assert 0 == memory.taken


@pytest.mark.parametrize(("erased", "error"), [(True, Erased), (False, BlobMissing)])
async def test_bytes_that_are_gone_are_missing_unless_the_object_was_erased(
    catalog: Catalog,
    store: LocalStore,
    served: Blocks,
    tree: Tree,
    memory: Budget,
    erased: bool,
    error: type[Exception],
) -> None:
    block = await served.find(_raw(tree.leaves[9]))
    root = await served.find(tree.root)
    if erased:
        await catalog.run(partial(erase, object_id=object_named(1)))
    await store.delete("payloads/p01/1")
    with pytest.raises(error):
        await anext(served.read(block))
    with pytest.raises(error):
        await anext(served.archive(root, span=Span(9 * LEAF, 9 * LEAF)))

    assert 0 == memory.taken
