"""Goal: who has no token is told what kind of failure there was, and the log tells the rest.

Method: stores and catalogs that are damaged in each way that a stranger can come upon. What must
not be told, names of stores, keys in them, ids, is looked for in all that was answered.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, select, update

from storage_gateway.catalog.tables import blocks, deployment, objects
from storage_gateway.errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    GatewayError,
    ServiceError,
)
from tests.http.age_files import flipped
from tests.http.ipfs_world import World, ask, world
from tests.http.steps import fetch

pytestmark = pytest.mark.both_databases

Damage = Callable[[World, Path], Awaitable[None]]
STORES = ("first-shelf", "second-shelf")


async def _take_away_files(_held: World, folder: Path) -> None:
    for file in folder.glob("*-shelf/**/payloads/*/*"):
        file.unlink()


async def _flip_files(_held: World, folder: Path) -> None:
    for file in folder.glob("*-shelf/**/payloads/*/*"):
        file.write_bytes(flipped(file.read_bytes(), 10))


async def _take_away_stores(_held: World, folder: Path) -> None:
    for name in STORES:
        (folder / name).rename(folder / f"{name}-away")


async def _take_away_rows(held: World, _folder: Path) -> None:
    leaf = blocks.c.digest == held.large.leaves[5][0].digest
    await held.gateway.catalog.run(lambda c: c.execute(delete(blocks).where(leaf)))


async def _spoil_nodes(held: World, _folder: Path) -> None:
    nodes = update(blocks).where(blocks.c.node.is_not(None)).values(node=b"something else")
    await held.gateway.catalog.run(lambda c: c.execute(nodes))


ARCHIVE, ROOT, LEAF = "{root}?format=car", "{root}?format=raw", "{leaf}?format=raw"
DAMAGES: dict[str, tuple[Damage, type[ServiceError], tuple[str, ...]]] = {
    "files": (_take_away_files, BlobMissing, (ARCHIVE, LEAF)),
    "bytes": (_flip_files, BlobCorrupt, (ARCHIVE, LEAF)),
    "stores": (_take_away_stores, BackendUnavailable, (ARCHIVE, LEAF)),
    "rows": (_take_away_rows, BlobCorrupt, (ARCHIVE,)),
    "nodes": (_spoil_nodes, BlobCorrupt, (ARCHIVE, ROOT)),
}


async def not_to_be_told(held: World, folder: Path) -> set[str]:
    """Return what says where something is, or whose."""

    def unit(connection: Connection) -> set[str]:
        found = connection.execute(select(objects.c.object_id, objects.c.payload_id)).all()
        deployments = connection.execute(select(deployment.c.deployment_id)).scalars()
        return {text for row in found for text in row} | set(deployments)

    return await held.gateway.catalog.read(unit) | {"shelf", "payloads", str(folder), "101"}


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_failure_is_told_by_its_kind_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    damage, kind, paths = DAMAGES[name]
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in STORES]
    async with world(tmp_path, backends=backends, reserve_bytes=0) as held:
        hidden = await not_to_be_told(held, tmp_path)
        await damage(held, tmp_path)
        leaf = held.large.leaves[0][0]
        asked = [path.format(root=held.large.root, leaf=leaf) for path in paths]
        answers = [await ask(held.gateway, path) for path in asked]

    remedy = GatewayError.remedy if kind.retry_after_s is None else ServiceError.remedy
    logged = {
        r.__dict__.get("request_id"): r.__dict__ for r in caplog.records if "detail" in r.__dict__
    }
    for answer in answers:
        document = answer.problem(kind.status, kind.code)
        request_id = document.pop("request_id")
        assert document == {
            "type": "about:blank",
            "title": kind.title,
            "status": kind.status,
            "detail": kind.title,
            "code": kind.code,
            "remedy": remedy,
        }
        for text in hidden:
            assert text not in f"{answer.headers} {answer.body.decode()}", text
        told = logged[request_id]
        assert kind.code == told["code"]
        assert kind.title != told["detail"], "the log has what was not told"


async def test_the_parties_are_told_what_is_missing(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        for file in tmp_path.glob("data/store/**/payloads/*/*"):
            file.unlink()
        answer = await fetch(held.gateway, held.small.urn, held.session.user_token)

    document = answer.problem(BlobMissing.status, BlobMissing.code)
    assert document["detail"].startswith("segment 0 of the payload is missing")
    assert BlobMissing.remedy == document["remedy"]


async def test_what_broke_an_answer_off_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as held:
        for file in tmp_path.glob("data/store/**/payloads/*/1"):
            file.unlink()
        answer = await ask(held.gateway, f"{held.large.root}?format=car")

    assert (200, False) == (answer.status, answer.whole)
    logged = {record.msg: record.__dict__ for record in caplog.records}
    told, damage = (
        logged["failed for a stranger"],
        logged["no store that was asked has a segment right"],
    )
    assert (BlobMissing.code, answer.header("X-Request-ID")) == (told["code"], told["request_id"])
    assert (
        (held.large.urn, 1) == (told["urn"], told["segment"]) == (damage["urn"], damage["segment"])
    )
    assert damage["detail"].endswith("/1 is missing in store local")
