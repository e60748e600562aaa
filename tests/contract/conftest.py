"""Opens each kind of store for each test of the suite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .stores import KINDS, OpenStore


@pytest.fixture(params=sorted(KINDS))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with KINDS[request.param](tmp_path) as one:
        yield one
