"""Goal: gateways that start for the first time at once make one deployment; one that finds a
catalog and a store that do not belong together refuses, and leaves both as they are.

Method: processes are started at once on an empty database of either kind; databases are emptied,
exchanged and marked as newer behind the back of a deployment.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from crypto import CLASSIC
from storage_gateway import custody, key_provider, parts
from storage_gateway.backends import LocalStore
from storage_gateway.backends.fs import RealFs
from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.sessions import register_router, set_operator_token
from storage_gateway.config import Config, ConfigError
from storage_gateway.custody import OPERATOR_TOKEN_FILE, make_copies_identity, write_secret
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.key_provider import identity_file
from storage_gateway.markers import make_marker
from storage_gateway.parts import CATALOG_FILE, Parts, open_parts
from tests.databases import ON_POSTGRESQL, databases
from tests.gateway import gateway_process

PROCESSES = 3
CONTENTS = (
    "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
)


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


@asynccontextmanager
async def all_opened(data_dir: Path, count: int) -> AsyncIterator[list[Parts]]:
    """Open a folder's parts several times over, in step, then close them in any order."""
    stacks = [AsyncExitStack() for _ in range(count)]
    try:
        starts = [open_parts(config_of(data_dir), stack) for stack in stacks]
        yield await asyncio.gather(*starts)
    finally:
        await asyncio.gather(*(stack.aclose() for stack in stacks))


@pytest.mark.both_databases
async def test_first_starts_in_step_make_one_deployment(tmp_path: Path) -> None:
    """Closer together than processes come, and all with one process id, as in containers."""
    if databases.server is not None:
        databases.made[tmp_path] = databases.server.new_database()

    async with all_opened(tmp_path, 2 * PROCESSES) as several:
        ids = {one.deployment_id for one in several}
        held = [one.keyring.opening() for one in several]
        routers = {str(identity.recipient()) for identities in held for identity in identities}
        signers = {str(one.copies_identity.recipient()) for one in several}

    assert (1, 1, 1) == (len(ids), len(routers), len(signers))
    assert ids == {path.name for path in (tmp_path / "store").iterdir()}
    assert [] == list(tmp_path.glob("*.tmp"))


async def test_a_secret_of_another_process_counts_once_its_name_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be seen before it is; after a power cut the catalog would then know a lost file."""
    data_dir = tmp_path / "data"
    await asyncio.to_thread(data_dir.mkdir, 0o700)
    await asyncio.to_thread(make_copies_identity, data_dir)
    keys = identity_file(data_dir)
    await keys.make(CLASSIC)
    await keys.close()
    await asyncio.to_thread(write_secret, data_dir / OPERATOR_TOKEN_FILE, "t" * 43)
    order: list[str] = []

    def register(connection: Connection, recipient: str, key_class: str) -> str:
        order.append("router")
        return register_router(connection, recipient, key_class)

    def set_token(connection: Connection, digest: bytes) -> None:
        order.append("token")
        set_operator_token(connection, digest)

    for module in (custody, key_provider):
        monkeypatch.setattr(module, "sync_folder", lambda path: order.append(path.name))
    monkeypatch.setattr(parts, "register_router", register)
    monkeypatch.setattr(parts, "set_operator_token", set_token)
    async with opened(data_dir):
        pass

    assert [tmp_path.name, "data", "data", "router", "data", "token"] == order


async def test_markers_that_are_made_at_once_are_one(tmp_path: Path) -> None:
    together = threading.Barrier(PROCESSES)

    class InStep(RealFs):
        """Creates a file when all others are about to do so as well."""

        def create(self, path: Path) -> int:
            together.wait(20)
            return super().create(path)

    (tmp_path / "d").mkdir()  # else each comes here once or twice, as it happens
    stores = [LocalStore(tmp_path, InStep()) for _ in range(PROCESSES)]

    await asyncio.gather(*(make_marker(store, "d/marker") for store in stores))

    assert b"marker v1" in (tmp_path / "d" / "marker").read_bytes()
    for store in stores:
        await asyncio.to_thread(store.close)


@pytest.fixture
async def deployment(tmp_path: Path, database: str) -> Path:
    """A folder whose catalog is in PostgreSQL, and its store."""
    async with opened(tmp_path / "data"):
        pass
    assert database == "postgresql"
    return tmp_path / "data"


@ON_POSTGRESQL
@pytest.mark.parametrize("with_tables", [True, False])
async def test_an_emptied_database_beside_a_full_store_is_refused(
    deployment: Path, with_tables: bool
) -> None:
    server = databases.server
    assert server is not None
    before = files(deployment)
    name = databases.made[deployment] = (
        server.new_database(databases.template) if with_tables else server.new_database()
    )
    made = server.execute(CONTENTS, name)

    with pytest.raises(ConfigError, match=r"whose catalog, .*, is empty: restore it"):
        async with opened(deployment):
            pass

    assert before == files(deployment)
    assert made == server.execute(CONTENTS, name)
    assert with_tables == bool(made)
    if with_tables:
        assert [] == server.execute("SELECT * FROM deployment", name)


@pytest.mark.parametrize("with_tables", [True, False])
async def test_an_empty_file_beside_a_full_store_is_refused(
    tmp_path: Path, with_tables: bool
) -> None:
    async with opened(tmp_path):
        pass
    file = tmp_path / CATALOG_FILE
    file.unlink()
    if with_tables:
        await asyncio.to_thread(lambda: SQLiteCatalog.open(file).close())
    else:
        file.touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(ConfigError, match=r"whose catalog, .*catalog\.sqlite3, is empty: restore"):
        async with opened(tmp_path):
            pass

    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@ON_POSTGRESQL
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


@ON_POSTGRESQL
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


@ON_POSTGRESQL
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
