"""Whom heads are wrapped for: sets of key versions, each written once, and what depends on a key.

A census would otherwise read the list of parties in each of a million manifests.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, func, select

from storage_gateway.manifest_copies import OBJECT
from storage_gateway.records import Party

from .blind_tables import kept_headers, reservations
from .clock import now_ms
from .statements import insert_once
from .tables import (
    intents,
    markers,
    objects,
    outbox,
    wraps,
)

_ID_SIZE = 20


@dataclass(frozen=True, slots=True)
class Wrap:
    """A set of key versions, and how much is wrapped for it."""

    wrap_id: str
    session_id: str
    parties: tuple[Party, ...]
    heads: int
    """Of objects."""
    uploads: int
    """Under way."""
    kept: int
    """Heads that were replaced, and are kept until the parties have opened the new ones."""
    reserved: int
    """Uploads that are to come, sealed already perhaps."""


def wrap_id_of(session_id: str, wrapped_for: Sequence[Party]) -> str:
    """Return the id of a set: 32 characters that hang on nothing else."""
    keys = sorted([p.role, p.miner or "", p.version] for p in wrapped_for)
    text = json.dumps([session_id, keys], separators=(",", ":"))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:_ID_SIZE]).decode().lower()


def note_wrap(connection: Connection, session_id: str, wrapped_for: Sequence[Party]) -> str:
    """Make sure that a set is written down; return its id."""
    wrap_id = wrap_id_of(session_id, wrapped_for)
    row = {
        "wrap_id": wrap_id,
        "session_id": session_id,
        "parties": [party.as_json() for party in wrapped_for],
    }
    insert_once(connection, wraps, row)
    return wrap_id


def take_census(connection: Connection, session_id: str | None = None) -> Iterator[Wrap]:
    """Yield the sets of key versions that something is wrapped for, of a session or of all."""
    counts = [_count(connection, table) for table in (objects, intents, kept_headers)]
    waiting = reservations.c.used_ms.is_(None), reservations.c.expires_ms > now_ms(connection)
    counts.append(_count(connection, reservations, *waiting))
    query = select(wraps)
    if session_id is not None:
        query = query.where(wraps.c.session_id == session_id)
    for row in connection.execute(query.order_by(wraps.c.wrap_id)):
        there = [count.get(row.wrap_id, 0) for count in counts]
        if any(there):
            yield Wrap(row.wrap_id, row.session_id, parties_of(row.parties), *there)


def _count(connection: Connection, table: Table, *only: ColumnElement[bool]) -> dict[str, int]:
    query = (
        select(table.c.wrap_id, func.count())
        .where(table.c.wrap_id.is_not(None), *only)
        .group_by(table.c.wrap_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def parties_of(stored: Sequence[dict[str, str]]) -> tuple[Party, ...]:
    """Return the parties that a JSON column holds."""
    return tuple(
        Party(
            role=p["role"],
            miner=p.get("miner"),
            version=int(p["version"]),
            recipient=p["recipient"],
        )
        for p in stored
    )


def copies_due(connection: Connection, nodes: Collection[str] = ()) -> int:
    """Return of how many manifests a copy of an older generation may lie in some store.

    ``nodes`` are stores that never hold heads: where there are only such, no copy is anywhere.
    """
    if nodes and set(nodes).issuperset(connection.execute(select(markers.c.backend)).scalars()):
        return 0
    query = select(func.count()).where(outbox.c.kind == OBJECT, outbox.c.generation > 1)
    return int(connection.execute(query).scalar_one())
