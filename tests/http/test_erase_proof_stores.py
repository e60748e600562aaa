"""Goal: as test_erase_proof, where the stores are a bucket that keeps versions, and an IPFS node;
what comes late to them, as a process that was asleep may send it, does not stay.

Method: a real S3 server, asked beside the gateway for each version of each object, and a real node,
whose repo is searched.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage_gateway.backends.s3_leftovers import BucketLeftovers
from tests.http.erase_world import (
    World,
    everywhere,
    found,
    found_when_flushed,
    own_server,
    pages_need_no_rest,
    world_in,
)
from tests.http.leftovers_world import VERSIONING
from tests.http.steps import fetch
from tests.http.test_ipfs import ipfs_backend, node
from tests.http.test_s3 import PATIENT, bucket, s3_backend
from tests.servers.ipfs import IpfsNode
from tests.servers.s3 import Buckets
from tests.servers.seaweedfs import SeaweedFS

__all__ = ["bucket", "node", "own_server", "pages_need_no_rest"]

pytestmark = pytest.mark.both_databases


class Bucket:
    """A bucket, as somebody else sees it."""

    def __init__(self, server: SeaweedFS, name: str) -> None:
        self._others = Buckets(server.port, server.access_key, server.secret_key)
        self._name = name

    async def do(
        self, method: str, key: str, body: bytes = b"", query: dict[str, str] | None = None
    ) -> bytes:
        ask, path = self._others.ask, f"/{self._name}/{key}".rstrip("/")
        status, answer = await asyncio.to_thread(ask, method, path, body, query)
        assert status < 300, (method, path, status, answer)
        return answer

    async def keep_versions(self) -> None:
        await self.do("PUT", "", VERSIONING, {"versioning": ""})


@pytest.fixture
async def world(tmp_path: Path, s3_server: SeaweedFS, bucket: str) -> AsyncIterator[World]:
    disk = {"kind": "local", "name": "disk", "path": str(tmp_path / "disk")}
    backends = [s3_backend(s3_server, bucket) | PATIENT, disk]
    settings = {"backends": backends, "reserve_bytes": 0, "write_quorum": 2}
    async with world_in(tmp_path, **settings) as world:
        world.places.buckets.append((s3_server, bucket))
        yield world


async def test_no_version_of_it_is_left(world: World, s3_server: SeaweedFS, bucket: str) -> None:
    await Bucket(s3_server, bucket).keep_versions()
    urn, head = await world.made()
    assert everywhere("files", "bucket") == await found_when_flushed(world, head)

    await world.erase(urn)
    await world.recovery.run_once()
    assert "erasing" == await world.erase(urn)
    assert {"bucket, opened"} <= await found(world, head), "the bucket keeps what was deleted"
    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)


async def test_it_is_not_erased_while_a_bucket_keeps_a_version(
    world: World, s3_server: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Bucket(s3_server, bucket).keep_versions()
    urn, head = await world.made()

    async def refuse(_self: object, _version: object) -> bool:
        """As a store does whose objects are locked."""
        return False

    with monkeypatch.context() as patch:
        patch.setattr(BucketLeftovers, "remove", refuse)
        await world.erase(urn)
        await world.recovery.run_once()
        for _ in range(3):
            await world.after_the_horizon()
            assert "erasing" == await world.erase(urn)
        assert {"bucket, opened"} <= await found(world, head)

    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)


@pytest.mark.parametrize("what", ["payloads", "manifests"])
@pytest.mark.parametrize("where", ["bucket", "disk"])
async def test_what_comes_late_goes_again(
    world: World, s3_server: SeaweedFS, bucket: str, what: str, where: str
) -> None:
    others = Bucket(s3_server, bucket)
    await others.keep_versions()
    urn, head = await world.made()
    store = next(m for m in world.gateway.gateway.parts.members if m.name == where).store
    (key,) = await keys_of(world, urn, what)
    late = await store.get(key, 0, (await store.stat(key)).size)
    await world.erase(urn)
    await world.recovery.run_once()
    assert [] == await keys_of(world, urn, what, generation=1)

    await store.put(key, bytes(late))
    await world.after_the_horizon()

    assert "erasing" == await world.erase(urn)
    assert [] == await keys_of(world, urn, what, generation=1)
    await world.recovery.run_once()
    assert "erasing" == await world.erase(urn), "the wait began anew"
    await world.after_the_horizon()
    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)
    assert late not in await asyncio.to_thread(everything, world)


async def keys_of(world: World, urn: str, what: str, *, generation: int = 0) -> list[str]:
    """Return the keys of an object's payload, or of the copies of its manifest, in all stores."""
    answer = await fetch(world.gateway, urn, world.session.user_token, part="/manifest")
    parts = world.gateway.gateway.parts
    of_it = {"payloads": answer.json()["payload_id"], "manifests": urn.rpartition(":")[2]}
    keys = [blob.key async for blob in parts.store.list(f"{parts.prefix}{what}/{of_it[what]}/")]
    wanted = f"/{generation}" if generation and what == "manifests" else ""
    return sorted({key for key in keys if key.endswith(wanted)})


def everything(world: World) -> set[bytes]:
    return {content for _, content in world.places.contents()}


async def test_it_is_not_erased_while_the_bucket_is_down(
    world: World, s3_server: SeaweedFS, bucket: str
) -> None:
    await Bucket(s3_server, bucket).keep_versions()
    urn, head = await world.made()
    await asyncio.to_thread(s3_server.kill)
    await world.erase(urn)
    for _ in range(2):
        await world.after_the_horizon()
        assert "erasing" == await world.erase(urn)
    assert await world.is_410(urn)
    await asyncio.to_thread(s3_server.start)
    assert {"bucket, opened"} <= await found(world, head)

    await world.passed()  # seen again, and emptied: the wait begins
    assert "erasing" == await world.erase(urn)
    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert set() == await found(world, head)


@pytest.fixture
async def over_node(tmp_path: Path, node: IpfsNode) -> AsyncIterator[World]:
    disk = {"kind": "local", "name": "disk", "path": str(tmp_path / "disk")}
    settings = {"backends": [disk, ipfs_backend(node)], "reserve_bytes": 0, "write_quorum": 2}
    async with world_in(tmp_path, **settings) as world:
        world.places.repos.append(node.repo)
        yield world


@pytest.mark.both_databases(by_day=False)
async def test_a_node_has_nothing_of_it_but_what_it_has_not_collected(
    over_node: World, node: IpfsNode
) -> None:
    world = over_node
    before = await asyncio.to_thread(node.pins)
    urn, head = await world.made()
    sealed = (await fetch(world.gateway, urn, world.session.user_token)).body
    payload = {sealed[at : at + 24] for at in (len(head) + 100, len(sealed) - 100)}
    repo = replace(world.places, folder=node.repo, repos=[])
    assert {"files"} == await asyncio.to_thread(repo.holding, payload)
    assert before < await asyncio.to_thread(node.pins)
    # Whoever has the node never had the head.
    assert set() == await asyncio.to_thread(repo.found, head)

    await world.erase(urn)
    await world.recovery.run_once()
    await world.after_the_horizon()

    assert "erased" == await world.erase(urn)
    assert before == await asyncio.to_thread(node.pins)
    await asyncio.to_thread(node.gc)
    assert set() == await asyncio.to_thread(world.places.holding, payload)
    assert set() == await found(world, head)
