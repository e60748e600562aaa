"""Fixtures: a gateway for each test, or for a whole file where tests do not disturb each other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_gateway(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path_factory.mktemp(f"shared-{database}")) as running:
        yield running


@pytest.fixture
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway, "101")
