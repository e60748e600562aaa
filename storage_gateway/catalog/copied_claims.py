"""What manifest copies say of terms, leases and holds, and units that put those back.

A hold that the catalog has, or that a copy tells of, is never lost: the two are joined.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select, update

from retention import Mode, Policy
from storage_gateway.manifest_copies import HoldCopy, LeaseCopy, RetentionCopy, TermsCopy

from .claims import note_terms
from .retention_tables import holds, leases, terms
from .statements import Statement, insert_once
from .tables import objects

_TERMS = Statement(select(terms).where(terms.c.terms_id == bindparam("terms_id_is")))
_HOLDS = Statement(
    select(holds)
    .where(
        holds.c.session_id == bindparam("session_id_is"),
        holds.c.object_id == bindparam("object_id_is"),
    )
    .order_by(holds.c.since_ms, holds.c.hold_id)
)
_LEASES = Statement(
    select(leases).where(leases.c.object_id == bindparam("object_id_is")).order_by(leases.c.holder)
)
_CLAIMED = Statement(
    select(objects.c.session_id, objects.c.claims_generation, objects.c.keep_until_ms).where(
        objects.c.object_id == bindparam("object_id_is"), objects.c.claims_generation > 0
    )
)


def copied_terms(connection: Connection, terms_id: str | None) -> TermsCopy | None:
    """Return the terms of an id that some record names, None for ever."""
    if terms_id is None:
        return None
    row = _TERMS.run(connection, {"terms_id_is": terms_id}).first()
    return TermsCopy(row.policy, row.default_s, row.longest_s, row.grace_s, row.mode)


def copied_holds(connection: Connection, session_id: str, object_id: str) -> tuple[HoldCopy, ...]:
    """Return all holds on an object, or, of the empty one, on its session as a whole."""
    scope = {"session_id_is": session_id, "object_id_is": object_id}
    return tuple(
        HoldCopy(
            row.hold_id,
            row.who,
            row.why,
            row.since_ms,
            row.released_ms,
            row.released_by,
            row.release_why,
        )
        for row in _HOLDS.run(connection, scope)
    )


def load_claims_copy(connection: Connection, object_id: str) -> RetentionCopy | None:
    """Return what a copy of an object's claims says; None: nothing changed since its commit."""
    mine = {"object_id_is": object_id}
    row = _CLAIMED.run(connection, mine).first()
    if row is None:
        return None
    return RetentionCopy(
        object_id=object_id,
        generation=row.claims_generation,
        keep_until_ms=row.keep_until_ms,
        leases=tuple(
            LeaseCopy(lease.holder, lease.until_ms, lease.renewed_ms)
            for lease in _LEASES.run(connection, mine)
        ),
        holds=copied_holds(connection, row.session_id, object_id),
    )


def restore_terms(connection: Connection, copy: TermsCopy | None) -> str | None:
    """Make sure that terms are written down; return their id, None for ever."""
    if copy is None:
        return None
    mode = Mode(copy.mode)
    policy = Policy(copy.policy, copy.default_s, copy.longest_s, copy.grace_s, mode)
    return note_terms(connection, policy)


def join_holds(
    connection: Connection, session_id: str, object_id: str, said: Sequence[HoldCopy]
) -> tuple[int, bool]:
    """Enter the holds that a copy tells of, and what releases it tells of. Return how many are not
    released then, and whether there is more than the copy tells of.
    """
    scope = {"session_id": session_id, "object_id": object_id}
    for hold in said:
        released = {
            "released_ms": hold.released_ms,
            "released_by": hold.released_by,
            "release_why": hold.release_why,
        }
        placed = {"hold_id": hold.hold_id, "who": hold.who, "why": hold.why}
        row = scope | placed | {"since_ms": hold.since_ms} | released
        if not insert_once(connection, holds, row):
            unreleased = update(holds).where(
                holds.c.hold_id == hold.hold_id, holds.c.released_ms.is_(None)
            )
            connection.execute(unreleased.values(released))
    found = copied_holds(connection, session_id, object_id)
    return sum(hold.released_ms is None for hold in found), set(found) != set(said)
