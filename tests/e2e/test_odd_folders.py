"""Goal: the data folder may have any name. Method: names that mean something in a URL."""

from pathlib import Path

import pytest

from tests.gateway import open_session, running_gateway
from tests.http.steps import fetch, uploaded


@pytest.mark.parametrize("name", ["a?b", "with space", "%20", "a#b", "é", "a&mode=ro"])
async def test_everything_stays_in_the_folder_that_was_named(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    async with running_gateway(home) as gateway:
        session = await open_session(gateway)
        urn = (await uploaded(gateway, session.path("t"), session.user_token, b"x"))["urn"]
    async with running_gateway(home) as gateway:
        assert 200 == (await fetch(gateway, urn, session.user_token)).status
        assert (gateway.data_dir / "catalog.sqlite3").stat().st_size > 0

    assert [home] == list(tmp_path.iterdir())
