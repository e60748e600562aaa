"""Units on blocks: which leaf of which payload, or which node above leaves, has a digest.

Rows are there for committed payloads, and for the leaves of uploads under way; none is ever made of
a head. Whoever looks finds those of committed objects alone.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Select, bindparam, case, select

from crypto import SEGMENT_LEAVES
from storage_gateway.errors import Erased, Expired
from storage_gateway.records import ObjectState, Segment
from urn import CID, Codec

from .sessions import backends_of
from .statements import Statement, insert_once
from .tables import blocks, objects, sessions

Node = tuple[CID, bytes]
"""A node above leaves: its CID and its block."""


class RecordBlocks(Protocol):
    """What is called with the segments of a payload, and its nodes at the end."""

    def __call__(
        self,
        connection: Connection,
        payload_id: str,
        segments: Iterable[Segment],
        nodes: Iterable[Node] = (),
    ) -> None:
        """Be `record_blocks` or `record_none`."""


_BACKENDS = (
    select(sessions.c.backends)
    .where(sessions.c.session_id == objects.c.session_id)
    .scalar_subquery()
    .label("backends")
)


_IS_COMMITTED = objects.c.state == ObjectState.COMMITTED.value


def _with_digest(column: Column[Any]) -> Select[Any]:
    """Return the query for a digest; a block may be in several payloads, and in an erased one."""
    return (
        select(
            column,
            objects.c.object_id,
            objects.c.payload_id,
            objects.c.payload_size,
            objects.c.state,
            objects.c.expired_ms,
            _BACKENDS,
        )
        .join(objects, objects.c.payload_id == blocks.c.payload_id)
        .where(blocks.c.digest == bindparam("digest_is"), column.is_not(None))
        .order_by(case((~_IS_COMMITTED, 2), (objects.c.expired_ms.is_not(None), 1), else_=0))
        .limit(1)
    )


_LEAF = Statement(_with_digest(blocks.c.leaf))
_NODE = Statement(_with_digest(blocks.c.node))
_NODE_OF = Statement(
    select(blocks.c.node).where(
        blocks.c.digest == bindparam("digest_is"),
        blocks.c.payload_id == bindparam("payload_id_is"),
        blocks.c.node.is_not(None),
    )
)
_STATE = Statement(select(objects.c.state).where(objects.c.object_id == bindparam("object_id_is")))
_HELD_STATE = Statement(
    select(objects.c.state)
    .where(objects.c.object_id == bindparam("object_id_is"))
    .with_for_update(read=True)
)
_COMMITTED = Statement(
    select(objects.c.object_id, objects.c.payload_id, objects.c.payload_size, objects.c.cid)
    .where(
        objects.c.state == ObjectState.COMMITTED.value,
        objects.c.object_id > bindparam("after"),
    )
    .order_by(objects.c.object_id)
    .limit(bindparam("count"))
)
_BLOCK_OF = Statement(
    select(blocks.c.digest).where(
        blocks.c.digest == bindparam("digest_is"),
        blocks.c.payload_id == bindparam("payload_id_is"),
    )
)


@dataclass(frozen=True, slots=True)
class Source:
    """A committed object, as far as its blocks are served: nothing of its head, nothing of whose.

    ``backends`` are the stores that its session wants, None where that is left to the deployment.
    """

    object_id: str
    payload_id: str
    payload_size: int
    backends: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a source: leaf number ``leaf`` of its payload, or the bytes of a node."""

    cid: CID
    source: Source
    leaf: int = 0
    node: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CommittedPayload:
    """What the blocks of an object are made of again."""

    object_id: str
    payload_id: str
    payload_size: int
    cid: CID


def record_blocks(
    connection: Connection, payload_id: str, segments: Iterable[Segment], nodes: Iterable[Node] = ()
) -> None:
    """Insert a row for each leaf of these segments, and for each node; again is the same.

    Of leaves that are alike, which only somebody who knows the file key can make, the first counts.
    """
    for segment in segments:
        for at, digest in enumerate(segment.leaf_digests):
            leaf = segment.index * SEGMENT_LEAVES + at
            row = {"digest": digest, "payload_id": payload_id, "leaf": leaf, "node": None}
            insert_once(connection, blocks, row)
    for cid, node in nodes:
        row = {"digest": cid.digest, "payload_id": payload_id, "leaf": None, "node": node}
        insert_once(connection, blocks, row)


def record_none(
    connection: Connection, payload_id: str, segments: Iterable[Segment], nodes: Iterable[Node] = ()
) -> None:
    """Insert nothing: blocks are not asked for here."""


def find_block(connection: Connection, cid: CID) -> Block | None:
    """Return a block of a committed object, or None when there never was one.

    Raises:
        Erased: the objects that it belonged to were erased.
        Expired: those that are not erased expired.

    """
    statement = _LEAF if cid.codec is Codec.RAW else _NODE
    row = statement.run(connection, {"digest_is": cid.digest}).first()
    if row is None:
        return None
    if row.state != ObjectState.COMMITTED.value:
        raise Erased("the object that the block belonged to was erased")
    if row.expired_ms is not None:
        raise Expired("the object that the block belongs to expired")
    source = Source(row.object_id, row.payload_id, row.payload_size, backends_of(row))
    if cid.codec is Codec.RAW:
        return Block(cid, source, leaf=row.leaf)
    return Block(cid, source, node=row.node)


def require_committed(connection: Connection, source: Source) -> None:
    """Make sure that the object was not erased since its block was found.

    Raises:
        Erased: it was.

    """
    state = _STATE.run(connection, {"object_id_is": source.object_id}).value()
    if state != ObjectState.COMMITTED.value:
        raise Erased("the object was erased while it was read")


def find_node(connection: Connection, source: Source, digest: bytes) -> bytes | None:
    """Return a node of a payload.

    Raises:
        Erased: as `require_committed`.

    """
    require_committed(connection, source)
    found = {"digest_is": digest, "payload_id_is": source.payload_id}
    node: bytes | None = _NODE_OF.run(connection, found).value()
    return node


def find_leaves(
    connection: Connection, source: Source, digests: Collection[bytes]
) -> dict[bytes, int]:
    """Return which leaf of a payload has which of these digests, at most those below one node.

    Raises:
        Erased: as `require_committed`.

    """
    require_committed(connection, source)
    # That a leaf is wanted is not asked of the database: SQLite would take the index of leaves by
    # payload for it, and look at each leaf of the payload for each node.
    query = select(blocks.c.digest, blocks.c.leaf).where(
        blocks.c.payload_id == source.payload_id, blocks.c.digest.in_(digests)
    )
    return {row.digest: row.leaf for row in connection.execute(query) if row.leaf is not None}


def list_unindexed(
    connection: Connection, after: str, limit: int
) -> tuple[list[CommittedPayload], str | None]:
    """Look at a page of committed objects in the order of their ids; return those without blocks.

    Then the id that the next page comes after, None at the end. The root is inserted last: who has
    it has all that is below it.
    """
    rows = _COMMITTED.run(connection, {"after": after, "count": limit}).rows
    found = []
    for row in rows:
        cid = CID.parse(row.cid)
        root = {"digest_is": cid.digest, "payload_id_is": row.payload_id}
        if _BLOCK_OF.run(connection, root).first() is None:
            found.append(CommittedPayload(row.object_id, row.payload_id, row.payload_size, cid))
    return found, rows[-1].object_id if len(rows) == limit else None


def index_blocks(
    connection: Connection,
    payload: CommittedPayload,
    *,
    segments: Sequence[Segment] = (),
    nodes: Sequence[Node] = (),
) -> bool:
    """Insert blocks of an object that was committed without them; False when it was erased.

    An erasure waits for the end of this transaction: its grave takes with it what was inserted.
    """
    sqlite = connection.dialect.name == "sqlite"  # where there is one writer at a time
    held = _STATE if sqlite else _HELD_STATE
    state = held.run(connection, {"object_id_is": payload.object_id}).value()
    if state != ObjectState.COMMITTED.value:
        return False
    record_blocks(connection, payload.payload_id, segments, nodes)
    return True
