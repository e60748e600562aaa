"""Goal: what is asked for a block costs what it finds, however many leaves its payload has.

Method: the statements of each look as they reach the database are given to its EXPLAIN, with a
payload of thousands of leaves beside small ones. The index wanted is that of digests.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any, cast

import pytest
from sqlalchemy import Connection, event, insert, select, text

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.blocks import Source, find_block, find_leaves, find_node
from storage_gateway.catalog.tables import blocks
from urn import CID, Codec

from .units import add_object, add_session, object_named

pytestmark = pytest.mark.both_databases

LEAVES = 5_000
SOME = 10
"""Of them; with more, of so few leaves, PostgreSQL rightly reads the whole table."""
SOURCE = Source(object_named(1), "p01", 9_000_000, None)
BY_DIGEST = {"sqlite": "sqlite_autoindex_blocks_1 (digest=?", "postgresql": "blocks_pkey"}
BY_PAYLOAD = "blocks_by_payload"

Look = Callable[[Connection], object]


def digest(payload: int, leaf: int) -> bytes:
    return sha256(b"%d/%d" % (payload, leaf)).digest()


WANTED = {digest(1, leaf) for leaf in range(SOME)}
ROOT = digest(1, LEAVES)


def fill(connection: Connection) -> None:
    """Make one object with many leaves and a root, and some with few."""
    add_session(connection, "101")
    counts = {1: LEAVES} | dict.fromkeys(range(2, 10), 3)
    for payload, leaves in counts.items():
        add_object(connection, payload, "101", b"head")
        row: dict[str, object] = {"payload_id": f"p{payload:02}"}
        leaf_rows = [
            row | {"digest": digest(payload, leaf), "leaf": leaf, "node": None}
            for leaf in range(leaves)
        ]
        root = row | {"digest": digest(payload, leaves), "leaf": None, "node": b"a node"}
        connection.execute(insert(blocks), [*leaf_rows, root])


def plans_of(connection: Connection, look: Look) -> list[str]:
    """Return how the database goes about each statement on blocks that a look makes."""
    if connection.dialect.name == "sqlite":
        raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        made: list[str] = []
        raw.set_trace_callback(made.append)
        look(connection)
        raw.set_trace_callback(None)
        rows = [raw.execute(f"EXPLAIN QUERY PLAN {sql}") for sql in made if "blocks" in sql]
        return ["\n".join(row[3] for row in each) for each in rows]
    sent: list[tuple[str, Any]] = []

    def note(_: object, __: object, sql: str, parameters: object, *___: object) -> None:
        sent.append((sql, parameters))

    event.listen(connection, "before_cursor_execute", note)
    look(connection)
    event.remove(connection, "before_cursor_execute", note)
    plans = [
        connection.exec_driver_sql(f"EXPLAIN {sql}", parameters)
        for sql, parameters in sent
        if "blocks" in sql
    ]
    return ["\n".join(plan.scalars()) for plan in plans]


LOOKS: dict[str, Look] = {
    "a leaf": partial(find_block, cid=CID(Codec.RAW, digest(1, 7))),
    "a root": partial(find_block, cid=CID(Codec.DAG_PB, ROOT)),
    "a node of a payload": partial(find_node, source=SOURCE, digest=ROOT),
    "leaves below one node": partial(find_leaves, source=SOURCE, digests=WANTED),
}


@pytest.mark.parametrize("name", LOOKS)
async def test_blocks_are_looked_up_by_digest(catalog: Catalog, database: str, name: str) -> None:
    await catalog.run(fill)
    if database == "postgresql":  # which does so by itself, in time; SQLite is never asked to
        await catalog.run(lambda c: c.execute(text("ANALYZE blocks, objects")))
    (plan,) = await catalog.read(partial(plans_of, look=LOOKS[name]))

    assert BY_DIGEST[database] in plan, plan
    assert BY_PAYLOAD not in plan, plan


async def test_a_scan_of_the_payload_would_be_seen(catalog: Catalog, database: str) -> None:
    await catalog.run(fill)
    query = select(blocks.c.digest).where(blocks.c.payload_id == "p02")
    (plan,) = await catalog.read(partial(plans_of, look=lambda c: c.execute(query).all()))

    assert BY_DIGEST[database] not in plan, plan
