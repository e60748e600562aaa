"""Goal: what is erased goes out no further, though the stores keep its bytes, and nobody waits long
for that to be asked.

Method: archives and blocks that are on their way when their object is erased, from a store that
deletes nothing and from an IPFS node, which keeps blocks until it collects them.
"""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection

from storage_gateway import blocks as serving
from storage_gateway.backends import LocalStore
from storage_gateway.blocks import Blocks
from storage_gateway.catalog.blocks import Source, require_committed
from storage_gateway.errors import BackendUnavailable, Erased
from tests.gateway import payload_keys
from tests.http.ipfs_world import LEAVES, Held, World, unpacked, world
from tests.http.raw import connected, request
from tests.http.steps import fetch
from tests.http.test_ipfs import ipfs_backend, node
from tests.servers.ipfs import IpfsNode

__all__ = ["node"]

pytestmark = pytest.mark.both_databases

Plant = pytest.MonkeyPatch
LAST_CHUNK = b"0\r\n\r\n"
"""Of an answer that is whole."""


def blocks_of(held: World) -> Blocks:
    blocks = held.gateway.gateway.services.blocks
    assert blocks is not None
    return blocks


async def erase(held: World, target: Held) -> None:
    """Erase an object; the store, or the node, goes on having its bytes."""
    token = held.session.user_token
    answer = await fetch(held.gateway, target.urn, token, method="DELETE")
    assert answer.status in (200, 202)


@pytest.fixture
def keeping(monkeypatch: Plant) -> None:
    """Make stores keep what they should delete, and every block be asked for anew."""

    async def stays(_store: LocalStore, _key: str) -> None:
        raise BackendUnavailable("it is not to be deleted now")

    monkeypatch.setattr(LocalStore, "delete", stays)
    monkeypatch.setattr(serving, "COUNTS_AS_COMMITTED_S", 0)


@pytest.mark.usefixtures("keeping")
async def test_no_leaf_of_an_archive_goes_out_after_the_erasure(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        pieces = blocks_of(held).archive(await blocks_of(held).find(held.large.root))
        await anext(pieces)  # the header, the root, and what says how long the first leaf is
        first = await anext(pieces)
        kept = await payload_keys(held.gateway.catalog, held.gateway.store)
        await erase(held, held.large)

        assert held.large.leaves[0][1] == first
        with pytest.raises(Erased):
            await anext(pieces)
        assert kept == await payload_keys(held.gateway.catalog, held.gateway.store)


@pytest.mark.usefixtures("keeping")
async def test_no_block_goes_out_that_was_found_before_the_erasure(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        blocks = blocks_of(held)
        leaf, root = [await blocks.find(c) for c in (held.large.leaves[3][0], held.large.root)]
        ways = [blocks.read(leaf), blocks.read(root), blocks.archive(leaf)]
        ways += [blocks.archive(root), blocks.archive(root, alone=True)]
        await erase(held, held.large)

        for pieces in ways:
            with pytest.raises(Erased):
                await anext(pieces)


@pytest.mark.both_databases(by_day=False)
async def test_an_archive_from_a_node_ends_with_the_erasure(
    tmp_path: Path, node: IpfsNode, monkeypatch: Plant
) -> None:
    monkeypatch.setattr(serving, "COUNTS_AS_COMMITTED_S", 0)
    # Little memory: no more than a leaf is read ahead of the one that waits to be sent.
    settings = {"backends": [ipfs_backend(node)], "reserve_bytes": 0, "ipfs_memory_bytes": 2 << 20}
    async with (
        world(tmp_path, body_idle_s=60, **settings) as held,
        connected(held.gateway.address) as slow,
    ):
        await slow.send(request("GET", f"/ipfs/{held.large.root}?format=car"))
        start = await slow.reader.readuntil(b"\r\n\r\n")
        await erase(held, held.large)
        kept = [await asyncio.to_thread(node.block_file, cid) for cid, _ in held.large.leaves]
        rest = b""
        try:
            while piece := await slow.reader.read(1 << 16):
                rest += piece
        except ConnectionResetError:
            pass

        assert start.startswith(b"HTTP/1.1 200 ")
        assert all(file.exists() for file in kept)
        assert not rest.endswith(LAST_CHUNK)
        assert len(rest) < len(held.large.payload)


@pytest.mark.parametrize(("counts_s", "asked"), [(0.0, LEAVES), (1e9, 0)])
async def test_what_was_seen_a_moment_ago_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: Plant, counts_s: float, asked: int
) -> None:
    times = 0

    def counted(connection: Connection, source: Source) -> None:
        nonlocal times
        times += 1
        require_committed(connection, source)

    monkeypatch.setattr(serving, "COUNTS_AS_COMMITTED_S", counts_s)
    monkeypatch.setattr(serving, "require_committed", counted)
    async with world(tmp_path) as held:
        block = await blocks_of(held).find(held.large.root)
        archive = b"".join([piece async for piece in blocks_of(held).archive(block)])

    assert held.large.leaves == unpacked(archive)[1][1:]
    assert asked == times
