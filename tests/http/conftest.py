"""Fixtures: a gateway of its own for each test, and a session open on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def session(gateway: RunningGateway) -> OpenSession:
    return await open_session(gateway, "101")
