"""Goal: clients and nodes of IPFS that are not ours get a payload from `/ipfs/{cid}`, and find that
it is what its CID says.

Method: a real gateway; a client of @ipld/car and @ipld/dag-pb, which reads a file from one archive
as it comes and keeps no block; a node of js-ipfs, which takes our archive in and has the file then.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.contract.ipfs_node import import_car
from tests.http.ipfs_world import Held, World, ask, world
from tests.interop.node_modules import run_node
from tests.servers.ipfs import IpfsNode


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def fetch_as_a_stranger(url: str, held: Held) -> dict[str, Any]:
    asked = json.dumps({"gateway": url, "root": str(held.root)})
    told: dict[str, Any] = json.loads(run_node("trustless.mjs", asked.encode()))
    return told


async def test_a_client_that_believes_nothing_gets_the_payload(held: World) -> None:
    for each in (held.small, held.large):
        told = await asyncio.to_thread(fetch_as_a_stranger, held.gateway.url, each)
        nodes = [] if each is held.small else [each.root]
        assert {
            "probe": [200, 0],
            "size": len(each.payload),
            "sha256": sha256(each.payload).hexdigest(),
            "blocks": [str(cid) for cid in (*nodes, *(cid for cid, _ in each.leaves))],
        } == told


async def test_a_node_takes_an_archive_of_ours_in(held: World, ipfs: IpfsNode) -> None:
    try:
        for each in (held.small, held.large):
            archive = await ask(held.gateway, f"{each.root}?format=car")
            assert 200 == (await asyncio.to_thread(import_car, ipfs, archive.body))[0]
            assert str(each.root) in await asyncio.to_thread(ipfs.pins)
            found = await asyncio.to_thread(ipfs.ask, f"cat?arg={each.root}")
            assert (200, each.payload) == found
    finally:
        await asyncio.to_thread(ipfs.clear)
