"""Opens what the suites are about: each kind of store, three of them that are one, and a catalog in
each kind of database.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage_gateway.backends import LocalStore
from storage_gateway.catalog import Catalog
from tests.databases import databases
from tests.servers.juicefs import JuiceFS, juicefs

from .several import HungStore, Stores
from .stores import BY_NIGHT, KINDS, OpenStore


@pytest.fixture(scope="session")
def juicefs_server() -> Iterator[JuiceFS]:
    """Run one S3 server that ignores preconditions; each test has a bucket of its own on it."""
    with juicefs() as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.nightly] if kind in BY_NIGHT else [])
        for kind in sorted(KINDS)
    ]
)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with KINDS[request.param](request, tmp_path) as one:
        yield one


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    locals_ = [LocalStore(tmp_path / name, name=name) for name in ("one", "two", "three")]
    for local in locals_:
        await local.put("marker", b"")
    one, two, three = (HungStore(local) for local in locals_)
    yield Stores(tmp_path, one, two, three)
    for local in locals_:
        await asyncio.to_thread(local.close)


@pytest.fixture
def catalog(tmp_path: Path, database: str) -> Iterator[Catalog]:
    opened = databases.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path: Path, database: str) -> Iterator[Catalog]:
    """As another process has it open."""
    opened = databases.open(tmp_path)
    yield opened
    opened.close()
