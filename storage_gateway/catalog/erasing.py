"""The unit that erases an object."""

from sqlalchemy import Connection, bindparam, update

from storage_gateway.records import Manifest, ObjectState

from .blind import forget_blind
from .clock import now_ms
from .graves import ERASED, dig_grave, hasten_graves
from .objects import expect_copy_of, load_manifest
from .statements import Statement
from .tables import objects

_ERASE = Statement(
    update(objects)
    .where(
        objects.c.object_id == bindparam("object_id_is"),
        objects.c.state == ObjectState.COMMITTED.value,
    )
    .values(
        state=ObjectState.ERASING.value,
        head=None,
        wrap_id=None,
        erased_ms=bindparam("now_ms"),
        generation=objects.c.generation + 1,
    )
)


def erase(connection: Connection, object_id: str) -> Manifest:
    """Drop the head and doom the payload, in one transaction; again is the same.

    Raises:
        NotFound: no such object.

    """
    now = now_ms(connection)
    is_erased = _ERASE.run(connection, {"object_id_is": object_id, "now_ms": now}).changed == 1
    # Not before: a reseal that ended meanwhile gave it another payload.
    manifest = load_manifest(connection, object_id)
    if is_erased:
        forget_blind(connection, object_id)
        hasten_graves(connection, object_id)
        dig_grave(connection, manifest.payload_id, object_id, ERASED)
        expect_copy_of(connection, manifest)
    return manifest
