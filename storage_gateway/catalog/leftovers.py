"""Units on whether the catalog still names what a bucket has old versions of."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select

from storage_gateway.records import ObjectState

from .high_water import is_behind
from .statements import Statement
from .tables import intents, objects

_OBJECT = Statement(
    select(objects.c.object_id, objects.c.generation).where(
        or_(
            objects.c.payload_id == bindparam("id_is"),
            objects.c.object_id == bindparam("id_is"),
        ),
        objects.c.state == ObjectState.COMMITTED.value,
    )
)
_INTENT = Statement(select(intents.c.payload_id).where(intents.c.payload_id == bindparam("id_is")))


@dataclass(frozen=True, slots=True)
class Named:
    """What the catalog says of a payload or an object: nothing, where neither is set."""

    object_id: str | None = None
    """The object that is committed, or has the payload."""
    generation: int = 0
    is_open: bool = False
    """An upload is under way, or the catalog is too old to be asked."""


def find_named(connection: Connection, identifier: str) -> Named:
    """Return what is known of a payload or an object; of one that is erased, nothing."""
    mine = {"id_is": identifier}
    found = _OBJECT.run(connection, mine).first()
    if found is not None:
        return Named(found.object_id, found.generation)
    is_under_way = _INTENT.run(connection, mine).first() is not None
    return Named(is_open=is_under_way or is_behind(connection))
