"""The units that erase an object: by somebody's word, or as nobody claims it any more.

What keeps it is a condition of the statement that erases. Whoever holds a session locks its row, as
is done here; a hold on the object changes the row that is erased.
"""

from sqlalchemy import Connection, bindparam, case, delete, func, select, update

from storage_gateway.errors import CatalogBehind, Held, Retained
from storage_gateway.records import Manifest, ObjectState
from storage_gateway.times import timestamp

from .blind import forget_blind
from .claims import IS_HELD, IS_OVER, IS_PROMISED
from .clock import now_ms
from .graves import ERASED, dig_grave, hasten_graves
from .high_water import IS_BEHIND, is_behind
from .objects import expect_copy_of, load_manifest
from .outbox import expect_claims_copy
from .retention_tables import holds, leases
from .sessions import lock_session
from .statements import Statement
from .tables import objects

_ERASE_UNHELD = (
    update(objects)
    .where(
        objects.c.object_id == bindparam("object_id_is"),
        objects.c.state == ObjectState.COMMITTED.value,
        ~IS_HELD,
        ~IS_BEHIND,
    )
    .values(
        state=ObjectState.ERASING.value,
        head=None,
        wrap_id=None,
        erased_ms=bindparam("now_ms"),
        expires_ms=objects.c.keep_until_ms,
        generation=objects.c.generation + 1,
        claims_generation=case(
            (objects.c.claims_generation > 0, objects.c.claims_generation + 1), else_=0
        ),
    )
)
_ERASE = Statement(_ERASE_UNHELD.where(~IS_PROMISED))
_ERASE_EXPIRED = Statement(
    _ERASE_UNHELD.where(
        IS_OVER,
        objects.c.expired_ms.is_not(None),
        objects.c.erase_after_ms <= bindparam("now_ms"),
    )
)
_PROMISED = Statement(
    select(objects.c.expires_ms).where(
        objects.c.object_id == bindparam("object_id_is"), IS_PROMISED
    )
)
_HELD_SINCE = Statement(
    select(func.min(holds.c.since_ms).label("since_ms")).where(
        holds.c.session_id == bindparam("session_id_is"),
        holds.c.object_id.in_(("", bindparam("object_id_is"))),
        holds.c.released_ms.is_(None),
    )
)
_DROP_LEASES = Statement(delete(leases).where(leases.c.object_id == bindparam("object_id_is")))


def erase(connection: Connection, object_id: str) -> Manifest:
    """Drop the head and doom the payload, in one transaction; again is the same.

    Raises:
        NotFound: no such object.
        Held: a hold is on it, or on its session.
        Retained: its terms are those of compliance, and its time is not over.
        CatalogBehind: this catalog is an old one, which does not know of holds that came since.

    """
    before = load_manifest(connection, object_id)
    manifest = _erase(connection, before, _ERASE)
    if manifest is not None:
        return manifest
    # Not before: a reseal that ended meanwhile gave it another payload.
    found = load_manifest(connection, object_id)
    if found.state is ObjectState.COMMITTED:
        raise _refusal(connection, found)
    return found


def erase_expired(connection: Connection, object_id: str) -> Manifest | None:
    """Erase an object as `erase` does, if it has expired and its grace is over; None: it was
    claimed since, or is erased already.

    Raises:
        NotFound: no such object.

    """
    return _erase(connection, load_manifest(connection, object_id), _ERASE_EXPIRED)


def _erase(connection: Connection, before: Manifest, statement: Statement) -> Manifest | None:
    """Return the tombstone; None: the statement's conditions do not hold."""
    object_id = before.object_id
    lock_session(connection, before.slot.session_id)
    # After the waiting.
    now = now_ms(connection)
    if statement.run(connection, {"object_id_is": object_id, "now_ms": now}).changed != 1:
        return None
    manifest = load_manifest(connection, object_id)
    forget_blind(connection, object_id)
    _DROP_LEASES.run(connection, {"object_id_is": object_id})
    hasten_graves(connection, object_id)
    dig_grave(connection, manifest.payload_id, object_id, ERASED)
    expect_copy_of(connection, manifest)
    expect_claims_copy(connection, object_id)
    return manifest


def _refusal(connection: Connection, manifest: Manifest) -> Held | Retained | CatalogBehind:
    """Return what kept an object; a hold that was released this moment has no time any more."""
    if is_behind(connection):
        return CatalogBehind("whether it is held is not known before the catalog was rebuilt")
    here = {"object_id_is": manifest.object_id}
    scope = here | {"session_id_is": manifest.slot.session_id}
    since_ms = _HELD_SINCE.run(connection, scope).value()
    if since_ms is not None:
        return Held("a hold is on the object, or on its session", held_since=timestamp(since_ms))
    promised = _PROMISED.run(connection, here | {"now_ms": now_ms(connection)}).first()
    if promised is None:
        return Held("a hold was on the object, or on its session")
    if promised.expires_ms is None:
        return Retained("its terms, which are those of compliance, keep it for ever")
    until = timestamp(promised.expires_ms)
    return Retained("its terms are those of compliance", retained_until=until)
