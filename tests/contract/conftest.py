"""Opens what the suites are about: each kind of store, and a catalog in each kind of database."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage_gateway.catalog import Catalog
from tests.databases import databases

from .stores import KINDS, OpenStore


@pytest.fixture(params=sorted(KINDS))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with KINDS[request.param](request, tmp_path) as one:
        yield one


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
