"""Goal: a digest finds the block of a committed object and no other, whatever was entered, whoever
else enters it, and whatever is erased at the same time.

Method: rows by hand on each kind of database; an erasure and an index that wait for one another, as
two processes have them.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256

import pytest
from sqlalchemy import Connection, select, update

from crypto import Secret
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.blocks import (
    Block,
    CommittedPayload,
    find_block,
    find_leaves,
    find_node,
    index_blocks,
    list_unindexed,
    record_blocks,
)
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.tables import blocks, graves, objects, sessions
from storage_gateway.catalog.work import close_grave, list_graves
from storage_gateway.errors import Erased, Expired
from storage_gateway.records import Segment
from urn import CID, Codec

from .units import WITHIN_S, add_object, add_session, object_named

pytestmark = pytest.mark.both_databases

NODE = b"a node"
ROOT = CID(Codec.DAG_PB, sha256(NODE).digest())


def digest(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def leaf(number: int) -> CID:
    return CID(Codec.RAW, digest(number))


def segment(index: int, *leaves: int) -> Segment:
    return Segment(index, 1, tuple(map(digest, leaves)), Secret(b""), ())


def fill(connection: Connection, *numbers: int) -> None:
    """Make objects with ids of their numbers, their payloads like ``p01``."""
    add_session(connection, "101")
    for number in numbers:
        add_object(connection, number, "101", b"head")
    connection.execute(update(objects).values(cid=str(ROOT), payload_size=9_000_000))


def payload(number: int) -> CommittedPayload:
    return CommittedPayload(object_named(number), f"p{number:02}", 9_000_000, ROOT)


def rows(connection: Connection) -> list[tuple[str, int | None, bytes | None]]:
    query = select(blocks.c.payload_id, blocks.c.leaf, blocks.c.node)
    return sorted((tuple(row) for row in connection.execute(query)), key=str)


def found(block: Block | None) -> tuple[str, int, bytes | None] | None:
    return None if block is None else (block.source.object_id, block.leaf, block.node)


async def test_leaves_are_numbered_through_all_segments(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1))
    placed = [segment(0, *range(8)), segment(1, 8, 9)]
    await catalog.run(lambda c: record_blocks(c, "p01", placed, [(ROOT, NODE)]))
    # As a unit that is run again, or another process that is at it, too.
    await catalog.run(lambda c: record_blocks(c, "p01", placed, [(ROOT, NODE)]))

    for number in range(10):
        block = await catalog.read(partial(find_block, cid=leaf(number)))
        assert (object_named(1), number, None) == found(block)
    root = await catalog.read(partial(find_block, cid=ROOT))
    assert (object_named(1), 0, NODE) == found(root)
    assert 11 == len(await catalog.read(rows))


async def test_what_the_stores_are_is_told_with_a_block(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1))
    await catalog.run(lambda c: record_blocks(c, "p01", [segment(0, 1)]))
    before = await catalog.read(partial(find_block, cid=leaf(1)))
    await catalog.run(lambda c: c.execute(update(sessions).values(backends=["two"])))
    after = await catalog.read(partial(find_block, cid=leaf(1)))

    assert before is not None
    assert after is not None
    assert (None, ("two",)) == (before.source.backends, after.source.backends)
    assert ("p01", 9_000_000) == (after.source.payload_id, after.source.payload_size)


async def test_a_block_of_no_object_is_not_found(catalog: Catalog) -> None:
    """Rows of an upload under way are there, and are of no object yet."""
    await catalog.run(lambda c: record_blocks(c, "p01", [segment(0, 1)], [(ROOT, NODE)]))

    for cid in (leaf(1), ROOT, leaf(2)):
        assert await catalog.read(partial(find_block, cid=cid)) is None


async def test_a_leaf_is_no_node_and_a_node_no_leaf(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1))
    await catalog.run(lambda c: record_blocks(c, "p01", [segment(0, 1)], [(ROOT, NODE)]))

    for cid in (CID(Codec.DAG_PB, digest(1)), CID(Codec.RAW, ROOT.digest)):
        assert await catalog.read(partial(find_block, cid=cid)) is None


@pytest.mark.parametrize("alike", [1, 2, 3])
async def test_a_block_of_what_expired_is_another_objects_if_that_has_it(
    catalog: Catalog, alike: int
) -> None:
    """Whichever of them the database finds first."""
    await catalog.run(lambda c: fill(c, 1, 2, 3))
    for number in (1, 2, 3):
        of = f"p{number:02}"
        placed, nodes = [segment(0, 1)], [(ROOT, NODE)]
        await catalog.run(partial(record_blocks, payload_id=of, segments=placed, nodes=nodes))
    expired = update(objects).where(objects.c.object_id != object_named(alike))
    await catalog.run(lambda c: c.execute(expired.values(expired_ms=1)).close())
    for cid in (leaf(1), ROOT):
        block = await catalog.read(partial(find_block, cid=cid))
        assert block is not None
        assert object_named(alike) == block.source.object_id

    await catalog.run(lambda c: erase(c, object_named(alike)))
    for cid in (leaf(1), ROOT):
        with pytest.raises(Expired):
            await catalog.read(partial(find_block, cid=cid))


async def test_of_leaves_that_are_alike_the_first_counts(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1))
    await catalog.run(lambda c: record_blocks(c, "p01", [segment(0, 1, 2, 1), segment(1, 1)]))

    block = await catalog.read(partial(find_block, cid=leaf(1)))
    assert (object_named(1), 0, None) == found(block)


async def test_a_block_of_two_objects_is_there_until_both_are_erased(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1, 2))
    for payload_id in ("p01", "p02"):
        await catalog.run(partial(record_blocks, payload_id=payload_id, segments=[segment(0, 1)]))
    look = partial(find_block, cid=leaf(1))
    first = found(await catalog.read(look))
    assert first is not None
    await catalog.run(partial(erase, object_id=first[0]))
    second = found(await catalog.read(look))
    assert second is not None
    await catalog.run(partial(erase, object_id=second[0]))

    assert {object_named(1), object_named(2)} == {first[0], second[0]}
    with pytest.raises(Erased):
        await catalog.read(look)


async def test_what_is_below_a_node_is_found_until_the_object_is_erased(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1, 2))
    await catalog.run(lambda c: record_blocks(c, "p01", [segment(0, 1, 2, 3)], [(ROOT, NODE)]))
    await catalog.run(lambda c: record_blocks(c, "p02", [segment(0, 4)]))
    block = await catalog.read(partial(find_block, cid=ROOT))
    assert block is not None
    leaves = partial(find_leaves, source=block.source, digests={digest(n) for n in (2, 3, 4, 5)})
    node = partial(find_node, source=block.source, digest=ROOT.digest)

    assert {digest(2): 1, digest(3): 2} == await catalog.read(leaves)
    assert NODE == await catalog.read(node)
    assert await catalog.read(partial(node, digest=digest(1))) is None
    await catalog.run(partial(erase, object_id=object_named(1)))
    for unit in (leaves, node):
        with pytest.raises(Erased):
            await catalog.read(unit)


async def test_pages_tell_which_objects_are_not_indexed(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, *range(1, 8)))
    await catalog.run(lambda c: record_blocks(c, "p02", [segment(0, 1)], [(ROOT, NODE)]))
    await catalog.run(lambda c: record_blocks(c, "p03", [segment(0, 1)]))  # its root is to come
    await catalog.run(partial(erase, object_id=object_named(5)))
    names, after, pages = [], "", 0
    while True:
        page, last = await catalog.read(partial(list_unindexed, after=after, limit=2))
        names += [each.object_id for each in page]
        pages += 1
        if last is None:
            break
        after = last

    assert [object_named(number) for number in (1, 3, 4, 6, 7)] == names
    assert 4 == pages
    assert payload(1) == (await catalog.read(partial(list_unindexed, after="", limit=1)))[0][0]


async def test_an_object_is_indexed_unless_it_was_erased(catalog: Catalog) -> None:
    await catalog.run(lambda c: fill(c, 1, 2))
    await catalog.run(partial(erase, object_id=object_named(2)))
    enter = partial(index_blocks, segments=[segment(0, 1)], nodes=[(ROOT, NODE)])

    assert await catalog.run(partial(enter, payload=payload(1)))
    assert not await catalog.run(partial(enter, payload=payload(2)))
    assert not await catalog.run(partial(enter, payload=payload(3)))
    assert [("p01", 0, None), ("p01", None, NODE)] == await catalog.read(rows)


def test_a_grave_takes_with_it_what_was_entered_at_the_same_time(
    catalog: Catalog, other: Catalog
) -> None:
    """An index that is in its transaction is waited for; one that comes later enters nothing."""
    catalog.run_blocking(lambda c: fill(c, 1))
    entered, go_on = threading.Event(), threading.Event()

    def enter(connection: Connection) -> bool:
        done = index_blocks(connection, payload(1), segments=[segment(0, 1)])
        entered.set()
        assert go_on.wait(WITHIN_S)
        return done

    with ThreadPoolExecutor(2) as threads:
        indexing = threads.submit(catalog.run_blocking, enter)
        assert entered.wait(WITHIN_S)
        erasing = threads.submit(other.run_blocking, partial(erase, object_id=object_named(1)))
        with pytest.raises(TimeoutError):
            erasing.result(0.3)
        go_on.set()
        assert indexing.result(WITHIN_S)
        erasing.result(WITHIN_S)

    assert 1 == len(catalog.read_blocking(rows))
    later = partial(index_blocks, payload=payload(1), segments=[segment(0, 2)])
    assert not catalog.run_blocking(later)
    (grave,) = catalog.read_blocking(partial(list_graves, after="", limit=9))
    assert catalog.run_blocking(partial(close_grave, grave=grave, seen_clean=()))
    assert [] == catalog.read_blocking(rows)
    assert [] == catalog.read_blocking(lambda c: c.execute(select(graves)).all())
