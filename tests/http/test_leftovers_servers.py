"""Goal: leftovers go from other servers' buckets, too, as each of them lists and removes them.

Method: uploads in parts, and versions where the server has them, over Ceph and over the gateway of
JuiceFS; by night only.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage_gateway.leftovers import LeftoversReport
from tests.http.leftovers_world import World, world_over
from tests.http.steps import PLAINTEXT, fetch, made_bytes, uploaded
from tests.servers.ceph import Ceph
from tests.servers.juicefs import JuiceFS, juicefs

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def juicefs_server() -> Iterator[JuiceFS]:
    with juicefs() as server:
        yield server


async def begin_uploads(world: World) -> None:
    for n in range(5):
        await world.begin_upload(f"{world.prefix}main/payloads/{'a' * 32}/{n}")
    await world.begin_upload(f"{'b' * 32}/main/payloads/x/0")


async def test_uploads_in_parts_over_juicefs(tmp_path: Path, juicefs_server: JuiceFS) -> None:
    """Which does not know versions."""
    async with world_over(juicefs_server, juicefs_server.port, tmp_path) as world:
        await begin_uploads(world)
        first = await (await world.leftovers(page_max=2)).run_once()
        again = await (await world.leftovers()).run_once()

    assert (5, 5, 0) == (first.uploads, first.uploads_removed, first.versions)
    assert LeftoversReport(ended=True) == again


async def test_uploads_and_versions_over_ceph(tmp_path: Path, ceph_server: Ceph) -> None:
    async with world_over(ceph_server, ceph_server.port, tmp_path) as world:
        await begin_uploads(world)
        await world.keep_versions()
        token = world.session.user_token
        stays, goes = [
            await uploaded(world.gateway, world.session.path(f"t{n}"), token, made_bytes(1000))
            for n in range(2)
        ]
        for key in await world.keys():
            _, content = await world.do("GET", key)
            for _ in range(3):
                await world.do("PUT", key, content)
        await fetch(world.gateway, goes["urn"], token, method="DELETE")

        report = await (await world.leftovers(page_max=2)).run_once()
        again = await (await world.leftovers()).run_once()
        left = await world.versions()
        read = await fetch(world.gateway, stays["urn"], token, headers=[PLAINTEXT])

    assert (5, 5, 8, 8) == (
        report.uploads,
        report.uploads_removed,
        report.versions,
        report.versions_removed,
    )
    assert LeftoversReport(keys=1, ended=True) == again
    assert [True] == [version.is_latest for version in left]
    assert made_bytes(1000) == read.body
