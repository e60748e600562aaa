"""Units that put records back from their copies: into an empty catalog, or into an old one.

Everything can be done again. What the catalog has in the same generation, or in a newer one, stays
as it is; two copies that cannot both be true are told, never settled by force.
"""

import enum
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from storage_gateway.manifest_copies import (
    OBJECT,
    RETENTION,
    SESSION,
    ObjectCopy,
    SessionCopy,
)
from storage_gateway.plan import IntentState
from storage_gateway.records import BLIND, ROUTER, ObjectState, Party

from .blind import custody_of, forget_blind
from .copied_claims import join_holds, restore_terms
from .copies import PENDING, PLACED
from .graves import ERASED, SUPERSEDED, dig_grave
from .outbox import Due, expect_copy
from .retention_tables import leases
from .roots import expect_roots
from .sessions import lock_session, restore_router
from .statements import insert_once, key_of
from .stress_runs import CONTROL_SESSIONS
from .tables import (
    graves,
    intents,
    key_versions,
    objects,
    parties,
    placements,
    segments,
    sessions,
    slots,
    tokens,
)
from .wraps import note_wrap

Stored = Mapping[str, Mapping[int, int]]
"""What lies in each store of a payload: sizes by the numbers of segments."""


class Restored(enum.StrEnum):
    """What became of a copy."""

    RESTORED = "restored"
    KNOWN = "known"
    """The catalog has that generation, or a newer one."""
    NO_SESSION = "no_session"
    """No copy of its session was found."""
    NO_OBJECT = "no_object"
    """No copy of the object was found of which it tells what is claimed."""
    CONFLICT = "conflict"
    """Another object has its payload or its file key: one of them is not what it says."""
    SLOT_TAKEN = "slot_taken"
    """It is there, and another object has its slot."""


def known_generations(
    connection: Connection, object_ids: Collection[str], kind: str = OBJECT
) -> dict[str, int]:
    """Return the generations of those objects, or of their claims, that the catalog has."""
    generation = objects.c.claims_generation if kind == RETENTION else objects.c.generation
    query = select(objects.c.object_id, generation).where(objects.c.object_id.in_(object_ids))
    return {row[0]: row[1] for row in connection.execute(query)}


def session_generations(connection: Connection) -> dict[str, int]:
    """Return the generations of all sessions, by their ids."""
    found = connection.execute(select(sessions.c.session_id, sessions.c.generation))
    return {row.session_id: row.generation for row in found}


def copied_records(connection: Connection, kind: str, after: str, limit: int) -> list[str]:
    """Return a page of the ids of records of a kind that have copies, in order."""
    table, column = (objects, objects.c.object_id)
    if kind == SESSION:
        table, column = sessions, sessions.c.session_id
    query = (
        select(column)
        .where(column > after, ~table.c.session_id.startswith(CONTROL_SESSIONS, autoescape=True))
        .order_by(column)
        .limit(limit)
    )
    if kind == RETENTION:
        query = query.where(objects.c.claims_generation > 0)
    return list(connection.execute(query).scalars())


def restore_session(connection: Connection, copy: SessionCopy, *, everywhere: bool) -> Restored:
    """Put a session back, with its parties and their keys. It has no tokens then.

    ``everywhere`` says that each store that should have the copy has it.
    """
    row = {
        "session_id": copy.session_id,
        "custody": copy.custody,
        "key_class": copy.key_class,
        "created_ms": copy.created_ms,
        "backends": copy.backends,
        "write_quorum": copy.write_quorum,
        "generation": copy.generation,
        "terms_id": restore_terms(connection, copy.terms),
    }
    if not insert_once(connection, sessions, row):
        here = sessions.c.session_id == copy.session_id
        older = update(sessions).where(here, sessions.c.generation < copy.generation)
        if connection.execute(older.values(row)).rowcount == 0:
            return Restored.KNOWN
        for table in (parties, key_versions):
            connection.execute(delete(table).where(table.c.session_id == copy.session_id))
    for member in copy.parties:
        scope = {"session_id": copy.session_id, "role": member.role, "miner": key_of(member.miner)}
        connection.execute(
            insert(parties),
            scope | {"created_ms": member.created_ms, "removed_ms": member.removed_ms},
        )
    for member in copy.parties:
        if member.removed_ms is not None:
            connection.execute(
                update(tokens)
                .where(tokens.c.session_id == copy.session_id, tokens.c.kind == member.role)
                .where(tokens.c.miner == key_of(member.miner), tokens.c.revoked_ms.is_(None))
                .values(revoked_ms=member.removed_ms)
            )
    for key in copy.keys:
        connection.execute(
            insert(key_versions),
            {
                "session_id": copy.session_id,
                "role": key.role,
                "miner": key_of(key.miner),
                "version": key.version,
                "recipient": key.recipient,
                "key_class": key.key_class,
                "state": key.state,
                "created_ms": key.created_ms,
                "proven": int(key.proven),
                "changed_ms": key.changed_ms or key.created_ms,
            },
        )
    count, is_more = join_holds(connection, copy.session_id, "", copy.holds)
    connection.execute(
        update(sessions)
        .where(sessions.c.session_id == copy.session_id)
        .values(holds=count, generation=sessions.c.generation + int(is_more))
    )
    if is_more or not everywhere:
        expect_copy(connection, Due(SESSION, copy.session_id, copy.generation + is_more))
    return Restored.RESTORED


def restore_object(
    connection: Connection,
    copy: ObjectCopy,
    *,
    stored: Stored,
    stores: Sequence[str],
    nodes: Collection[str],
    everywhere: bool,
) -> Restored:
    """Put an object back, or its tombstone.

    ``stored`` is what lies where; ``stores`` are all that are configured, ``nodes`` those of IPFS;
    ``everywhere`` says that each store that should have the copy has it.
    """
    row = connection.execute(
        select(objects).where(objects.c.object_id == copy.object_id)
    ).one_or_none()
    if row is not None and row.generation >= copy.generation:
        return Restored.KNOWN
    wanted = _wanted_of(connection, copy.session_id)
    if wanted is None:
        return Restored.NO_SESSION
    if not (row is not None and row.payload_id == copy.payload_id) and _is_taken(connection, copy):
        return Restored.CONFLICT
    if row is None and not _insert_object(connection, copy):
        return Restored.CONFLICT
    if row is not None:
        _update_object(connection, copy, row.payload_id)
    connection.execute(delete(intents).where(intents.c.payload_id == copy.payload_id))
    if copy.head is None:
        forget_blind(connection, copy.object_id)
        connection.execute(delete(leases).where(leases.c.object_id == copy.object_id))
        # What it left in stores is looked for again, until they were seen clean.
        dig_grave(connection, copy.payload_id, copy.object_id, ERASED)
    else:
        # The database may have gone back to before its upload, which was then given up.
        connection.execute(delete(graves).where(graves.c.payload_id == copy.payload_id))
        names = [name for name in wanted or stores if name in stores]
        _restore_payload(connection, copy, stored, names)
        is_long = len(copy.segments) > 1
        expect_roots(connection, copy.payload_id, [n for n in names if n in nodes and is_long])
    if not everywhere:
        expect_copy(connection, Due(OBJECT, copy.object_id, copy.generation))
    return Restored.RESTORED if _take_slot(connection, copy) else Restored.SLOT_TAKEN


def _wanted_of(connection: Connection, session_id: str) -> list[str] | None:
    """Return the stores that a session wants, none if it leaves that open; None: no session."""
    lock_session(connection, session_id)
    row = connection.execute(
        select(sessions.c.backends).where(sessions.c.session_id == session_id)
    ).one_or_none()
    return None if row is None else list(row.backends or ())


def _values_of(connection: Connection, copy: ObjectCopy) -> dict[str, object]:
    wrapped_for = [Party(p.role, p.miner, p.version, p.recipient) for p in copy.wrapped_for]
    wrap_id = None
    if copy.head is not None:
        wrap_id = note_wrap(connection, copy.session_id, wrapped_for)
        if custody_of(connection, copy.session_id) != BLIND:
            _know_router(connection, copy.key_class, wrapped_for)
    return {
        "state": (ObjectState.COMMITTED if copy.head is not None else ObjectState.ERASING).value,
        "generation": copy.generation,
        "head": copy.head,
        "payload_id": copy.payload_id,
        "cid": copy.cid,
        "size": copy.size,
        "payload_size": copy.payload_size,
        "key_class": copy.key_class,
        "file_key_print": copy.file_key_print,
        "sealed_size": copy.sealed_size,
        "wrapped_for": [party.as_json() for party in wrapped_for],
        "erased_ms": copy.erased_ms,
        "wrap_id": wrap_id,
    }


def _know_router(connection: Connection, key_class: str, wrapped_for: Sequence[Party]) -> None:
    """Enter the router's key versions that heads name: no copy but theirs tells of them."""
    for party in wrapped_for:
        if party.role == ROUTER:
            restore_router(connection, party, key_class)


def _is_taken(connection: Connection, copy: ObjectCopy) -> bool:
    """Tell whether another object has the payload or the file key."""
    taken = select(objects.c.object_id).where(
        objects.c.object_id != copy.object_id,
        (objects.c.payload_id == copy.payload_id)
        | (objects.c.file_key_print == copy.file_key_print),
    )
    return connection.execute(taken).first() is not None


def _insert_object(connection: Connection, copy: ObjectCopy) -> bool:
    in_session = objects.c.session_id == copy.session_id
    sequence = copy.sequence
    if connection.execute(
        select(objects.c.object_id).where(in_session, objects.c.sequence == sequence)
    ).first():
        # What was committed since an old catalog was put back has taken it.
        sequence = connection.execute(
            select(func.max(objects.c.sequence) + 1).where(in_session)
        ).scalar_one()
    values = _values_of(connection, copy) | {
        "object_id": copy.object_id,
        "session_id": copy.session_id,
        "task_id": copy.task_id,
        "direction": copy.direction,
        "miner": key_of(copy.miner),
        "sequence": sequence,
        "created_ms": copy.created_ms,
        "terms_id": restore_terms(connection, copy.terms),
        # Until its claims are put back: they may have changed since.
        **dict.fromkeys(("first_keep_ms", "keep_until_ms", "expires_ms"), copy.keep_until_ms),
    }
    return insert_once(connection, objects, values)


def _update_object(connection: Connection, copy: ObjectCopy, payload_id: str) -> None:
    """Bring an object to a newer generation; the payload that it had may be another one."""
    connection.execute(
        update(objects)
        .where(objects.c.object_id == copy.object_id, objects.c.generation < copy.generation)
        .values(_values_of(connection, copy))
    )
    if payload_id != copy.payload_id:
        moved = update(slots).where(slots.c.payload_id == payload_id)
        connection.execute(moved.values(payload_id=copy.payload_id))
        dig_grave(connection, payload_id, copy.object_id, SUPERSEDED)


def _restore_payload(
    connection: Connection, copy: ObjectCopy, stored: Stored, names: Sequence[str]
) -> None:
    for table in (segments, placements):
        connection.execute(delete(table).where(table.c.payload_id == copy.payload_id))
    for index, segment in enumerate(copy.segments):
        key = {"payload_id": copy.payload_id, "segment": index}
        sealed = {
            "size": segment.size,
            "leaf_digests": segment.leaf_digests,
            "tag_key": segment.tag_key,
            "leaf_tags": segment.leaf_tags,
        }
        connection.execute(insert(segments), key | sealed)
        for name in names:
            is_there = stored.get(name, {}).get(index) == segment.size
            state = PLACED if is_there else PENDING
            connection.execute(insert(placements), key | {"backend": name, "state": state})


def _take_slot(connection: Connection, copy: ObjectCopy) -> bool:
    """Take the object's slot, also from an upload that never came to its end; tell whether."""
    slot = {
        "session_id": copy.session_id,
        "task_id": copy.task_id,
        "direction": copy.direction,
        "miner": key_of(copy.miner),
    }
    held = {"object_id": copy.object_id, "payload_id": copy.payload_id}
    if insert_once(connection, slots, slot | held):
        return True
    here = [slots.c[name] == value for name, value in slot.items()]
    holder = connection.execute(select(slots).where(*here)).one_or_none()
    if holder is None:
        return False
    if holder.payload_id == copy.payload_id:
        return True
    aborted = connection.execute(
        update(intents)
        .where(intents.c.payload_id == holder.payload_id)
        .values(state=IntentState.ABORTING.value)
    )
    if aborted.rowcount == 0:
        return False
    connection.execute(update(slots).where(*here).values(held))
    return True
