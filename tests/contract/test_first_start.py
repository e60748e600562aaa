"""Goal: gateways that start for the first time at once make one deployment; one that finds a
catalog and a store that do not belong together refuses, and leaves both as they are.

Method: processes are started at once on an empty database of either kind; databases are emptied,
exchanged and marked as newer behind the back of a deployment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway.config import Config, ConfigError
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.parts import CATALOG_FILE, Parts, open_parts
from tests.databases import databases
from tests.gateway import gateway_process

PROCESSES = 3
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True, scope="module")


def config_of(data_dir: Path) -> Config:
    url = databases.url(data_dir)
    return Config(data_dir=data_dir, catalog_url=None if url is None else parse_database_url(url))


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Parts]:
    async with AsyncExitStack() as stack:
        yield await open_parts(config_of(data_dir), stack)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(CATALOG_FILE)
    }


@pytest.mark.both_databases
async def test_first_starts_at_once_make_one_deployment(tmp_path: Path) -> None:
    if databases.server is not None:
        databases.made[tmp_path] = databases.server.new_database()  # without tables, too

    async with AsyncExitStack() as stack:
        running = [stack.enter_async_context(gateway_process(tmp_path)) for _ in range(PROCESSES)]
        urls = {gateway.url for gateway in await asyncio.gather(*running)}

    assert PROCESSES == len(urls)
    async with opened(tmp_path) as parts:
        assert [parts.deployment_id] == [path.name for path in (tmp_path / "store").iterdir()]
        await parts.store.stat(parts.marker)


@pytest.fixture
async def deployment(tmp_path: Path, database: str) -> Path:
    """A folder whose catalog is in PostgreSQL, and its store."""
    async with opened(tmp_path / "data"):
        pass
    assert database == "postgresql"
    return tmp_path / "data"


@on_postgresql
async def test_an_emptied_database_beside_a_full_store_is_refused(deployment: Path) -> None:
    assert databases.server is not None
    before = files(deployment)
    databases.made[deployment] = databases.server.new_database(databases.template)

    with pytest.raises(ConfigError, match=r"whose catalog, .*, is empty: restore it"):
        async with opened(deployment):
            pass

    assert before == files(deployment)
    rows = databases.server.execute("SELECT * FROM deployment", databases.made[deployment])
    assert [] == rows


@on_postgresql
async def test_a_database_of_another_deployment_is_refused(
    deployment: Path, tmp_path: Path
) -> None:
    async with opened(tmp_path / "another"):
        pass
    before = files(deployment)
    databases.made[deployment] = databases.made[tmp_path / "another"]

    with pytest.raises(ConfigError, match="lacks the marker"):
        async with opened(deployment):
            pass

    assert before == files(deployment)


@on_postgresql
async def test_an_identity_of_another_deployment_is_refused(
    deployment: Path, tmp_path: Path
) -> None:
    async with opened(tmp_path / "another"):
        pass
    name = "router-identity.txt"
    (deployment / name).write_bytes((tmp_path / "another" / name).read_bytes())

    with pytest.raises(ConfigError, match="restore that one"):
        async with opened(deployment):
            pass


@on_postgresql
async def test_a_newer_database_is_refused_and_the_folder_left_as_it_is(deployment: Path) -> None:
    assert databases.server is not None
    before, name = files(deployment), databases.made[deployment]
    databases.server.execute("UPDATE alembic_version SET version_num = '0099'", name)

    with pytest.raises(CatalogUnavailable, match="schema version 99"):
        async with opened(deployment):
            pass

    assert before == files(deployment)
    kept = databases.server.execute("SELECT version_num FROM alembic_version", name)
    assert [("0099",)] == kept
