"""The unit that puts back, from its copy, what was claimed of an object since its commit."""

from sqlalchemy import Connection, delete, insert, select, update

from storage_gateway.manifest_copies import RetentionCopy
from storage_gateway.records import ObjectState

from .copied_claims import join_holds
from .outbox import expect_claims_copy
from .restoring import Restored
from .retention_tables import leases
from .tables import objects


def restore_claims(connection: Connection, copy: RetentionCopy, *, everywhere: bool) -> Restored:
    """Put back what was claimed of an object.

    What is erased has no leases any more. ``everywhere`` says that each store that should have the
    copy has it.
    """
    here = objects.c.object_id == copy.object_id
    newer = update(objects).where(here, objects.c.claims_generation < copy.generation)
    row = connection.execute(
        newer.values(claims_generation=copy.generation, keep_until_ms=copy.keep_until_ms).returning(
            objects.c.session_id, objects.c.state
        )
    ).one_or_none()
    if row is None:
        found = connection.execute(select(objects.c.object_id).where(here)).first()
        return Restored.NO_OBJECT if found is None else Restored.KNOWN
    connection.execute(delete(leases).where(leases.c.object_id == copy.object_id))
    living = copy.leases if row.state == ObjectState.COMMITTED.value else ()
    for lease in living:
        key = {"object_id": copy.object_id, "holder": lease.holder}
        ends = {"until_ms": lease.until_ms, "renewed_ms": lease.renewed_ms}
        connection.execute(insert(leases), key | ends)
    count, is_more = join_holds(connection, row.session_id, copy.object_id, copy.holds)
    expires_ms = copy.keep_until_ms
    if expires_ms is not None:
        expires_ms = max([expires_ms, *(lease.until_ms for lease in living)])
    values = {
        "holds": count,
        "expires_ms": expires_ms,
        "claims_generation": objects.c.claims_generation + int(is_more),
        # No copy tells of the mark: the next sweep finds it again.
        "expired_ms": None,
        "erase_after_ms": None,
    }
    connection.execute(update(objects).where(here).values(values))
    if is_more or not everywhere:
        expect_claims_copy(connection, copy.object_id)
    return Restored.RESTORED
