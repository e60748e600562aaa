"""Units that look for what the catalog's own rules forbid; they change nothing."""

from sqlalchemy import Connection, and_, exists, select, text

from .tables import intents, metadata, objects, slots

_SLOT_KEY = ("session_id", "task_id", "direction", "miner")


def damage(connection: Connection) -> str | None:
    """Return the first thing that the database finds wrong with its files, if anything.

    PostgreSQL has no such look-up for all: every row is read, which checks the pages' checksums
    where the server has them. ``pg_amcheck`` looks at the indexes as well.

    Raises:
        SQLAlchemyError: PostgreSQL could not read a row.

    """
    if connection.dialect.name == "postgresql":
        for table in metadata.sorted_tables:
            # The text of a whole row: what was stored apart from it is read, too.
            query = f'SELECT count(*), sum(length(one::text)) FROM "{table.name}" AS one'  # noqa: S608
            connection.execute(text(query)).all()
        return None
    for pragma in ("integrity_check(1)", "foreign_key_check"):
        for row in connection.execute(text(f"PRAGMA {pragma}")):
            if row[0] != "ok":
                return " ".join(str(column) for column in row)
    return None


def slots_of_nothing(connection: Connection) -> list[str]:
    """Return the payload ids of slots that no object and no upload under way holds."""
    known = (
        exists().where(table.c.payload_id == slots.c.payload_id) for table in (objects, intents)
    )
    query = select(slots.c.payload_id).where(*(~one for one in known))
    return [row.payload_id for row in connection.execute(query)]


def objects_without_slot(connection: Connection) -> list[str]:
    """Return the ids of objects, erased ones too, whose slot another upload could take."""
    own = exists().where(
        and_(
            slots.c.object_id == objects.c.object_id,
            slots.c.payload_id == objects.c.payload_id,
            *(slots.c[name] == objects.c[name] for name in _SLOT_KEY),
        )
    )
    query = select(objects.c.object_id).where(~own)
    return [row.object_id for row in connection.execute(query)]
