"""Where the catalog of a run is: a file in the run's folder or, where the deployment's is in
PostgreSQL, a schema of the run's own in that same database.
"""

import asyncio
from functools import partial
from pathlib import Path

from storage_gateway.catalog import Catalog, Clock, PostgresCatalog, SQLiteCatalog
from storage_gateway.catalog.clock import true_time
from storage_gateway.catalog.postgres_schemas import (
    drop_schema_of_run,
    has_schema_of_run,
    make_schema_of_run,
    may_make_schemas,
    schema_of_run,
)
from storage_gateway.config import Config
from storage_gateway.database_url import DatabaseURL
from storage_gateway.parts import CATALOG_FILE, login_url

from .errors import RunLost, SchemaRefused


async def check_rights(config: Config, serving: Catalog) -> None:
    """Make sure that a run could make its schema, where it needs one.

    Raises:
        SchemaRefused: our role has no right to.

    """
    url = config.catalog_url
    if url is not None and not await serving.read(may_make_schemas):
        raise SchemaRefused(
            f"a run works in a schema of its own in {url}, and the gateway's role may make none:"
            f' as an administrator, GRANT CREATE ON DATABASE "{url.database}" to it'
        )


async def make_schema(
    config: Config, serving: Catalog, run_id: str, instance_id: str
) -> DatabaseURL | None:
    """Make a run's schema, where it needs one, and return the database; None when it needs none.

    Raises:
        RunLost: the run is another instance's meanwhile.
        CatalogUnavailable, ConfigError: it cannot be made.

    """
    if config.catalog_url is None:
        return None
    make = partial(make_schema_of_run, run_id=run_id, instance_id=instance_id)
    if not await serving.run(make):
        raise RunLost(f"run {run_id} was taken over")
    return await asyncio.to_thread(login_url, config, config.catalog_url)


async def drop_schema(serving: Catalog, run_id: str) -> None:
    """Drop a run's schema, if there is one.

    Raises:
        CatalogUnavailable: not now; do it again later.

    """
    if serving.kind == PostgresCatalog.kind:
        await serving.run(partial(drop_schema_of_run, run_id=run_id))


def open_run_catalog(
    folder: Path, database: DatabaseURL | None, run_id: str, clock: Clock
) -> Catalog:
    """Open a run's catalog: in its folder, or in its schema of ``database``. Blocks.

    Raises:
        CatalogUnavailable: it cannot be used.

    """
    if database is None:
        return SQLiteCatalog.open(folder / CATALOG_FILE, clock=clock)
    return PostgresCatalog.open(database.with_schema(schema_of_run(run_id)), clock=clock)


def find_run_catalog(config: Config, serving: Catalog, folder: Path, run_id: str) -> Catalog | None:
    """Open the catalog that a run has left, if it came so far as to have one. Blocks.

    Raises:
        CatalogUnavailable, ConfigError: it cannot be used now.

    """
    database = None
    if config.catalog_url is not None:
        if not serving.read_blocking(partial(has_schema_of_run, run_id=run_id)):
            return None
        database = login_url(config, config.catalog_url)
    elif not (folder / CATALOG_FILE).exists():
        return None
    return open_run_catalog(folder, database, run_id, true_time)
