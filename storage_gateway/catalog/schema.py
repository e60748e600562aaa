"""Bringing a database's tables to what this program needs: forward only, with all data.

Version N of the schema is what the first N files of ``migrations/versions`` make. A database says
its own: SQLite in ``user_version``, as it did before there were migrations, PostgreSQL in Alembic's
table. One that is newer than the program is refused, never touched.
"""

from sqlalchemy import Connection, inspect, select, text

from storage_gateway.errors import CatalogUnavailable

from .tables import SCHEMA_VERSION, deployment

COPIED_VERSION = 0x636F7079
"""In an SQLite file: it was copied to PostgreSQL, and is not the catalog any more."""
VERSION_TABLE = "alembic_version"


def prepare_schema(connection: Connection, where: str) -> None:
    """Make or migrate the tables in the caller's transaction, which keeps other processes out.

    Raises:
        CatalogUnavailable: ``where`` has a schema that this program does not know.

    """
    found = schema_version(connection)
    if found == SCHEMA_VERSION:
        return
    if found == COPIED_VERSION:
        raise CatalogUnavailable(
            f"{where} was copied to PostgreSQL and is not the catalog any more: set catalog_url to"
            " that database, and move this file away"
        )
    if found < 0:
        raise CatalogUnavailable(
            f"{where} holds the tables of another program: give the gateway a database of its own"
        )
    if found > SCHEMA_VERSION:
        raise CatalogUnavailable(
            f"{where} has schema version {found}, this program writes {SCHEMA_VERSION}:"
            " use the matching version of the program"
        )
    _migrate(connection, found)
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))


def require_schema(connection: Connection, where: str) -> None:
    """Make sure that the tables are those of this program; change nothing.

    Raises:
        CatalogUnavailable: ``where`` has no tables, or those of another version.

    """
    found = schema_version(connection)
    if found == 0:
        raise CatalogUnavailable(f"{where} holds no catalog; nothing was made")
    if 0 < found < SCHEMA_VERSION:
        raise CatalogUnavailable(
            f"{where} has schema version {found}, this program reads {SCHEMA_VERSION}: start the"
            " gateway once, which migrates it, or use the matching version of the program"
        )
    if found != SCHEMA_VERSION:
        prepare_schema(connection, where)  # says why not


def is_new(connection: Connection) -> bool:
    """Tell whether no deployment has begun here; whatever this program cannot read is not new."""
    found = schema_version(connection)
    if 0 < found <= SCHEMA_VERSION:
        return connection.execute(select(deployment.c.deployment_id)).first() is None
    return found == 0


def schema_version(connection: Connection) -> int:
    """Return the version of the tables; 0 when there are none, -1 when it cannot be told."""
    if connection.dialect.name == "sqlite":
        return int(connection.execute(text("PRAGMA user_version")).scalar_one())
    if not inspect(connection).has_table(VERSION_TABLE):
        return 0
    rows = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).all()  # noqa: S608
    if len(rows) != 1 or not str(rows[0][0]).isdecimal():
        return -1
    return int(rows[0][0])


def _migrate(connection: Connection, found: int) -> None:
    # Imported here: most starts have nothing to migrate and need not wait for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "storage_gateway.catalog:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if found and not inspect(connection).has_table(VERSION_TABLE):
        # An SQLite file of the time before migrations: its tables are those of the version it says.
        context = MigrationContext.configure(connection)
        context.stamp(ScriptDirectory.from_config(config), revision_of(found))
    command.upgrade(config, revision_of(SCHEMA_VERSION))


def revision_of(version: int) -> str:
    """Return a version as Alembic's files name it."""
    return f"{version:04}"
