"""Goal: what the IPFS store alone can show: its roots are nobody else's, other tools find the same
bytes by the CID of the file, a node is believed only what it says, and an emptied one nothing.

Method: a real node; one that answers what a test wants, where the real one cannot be made to.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from crypto import LEAF_SIZE
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient, KuboSettings
from storage_gateway.backends.spool import SPOOLED_MIN
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from tests.servers.ipfs import IpfsNode
from urn import cid_of

from .ipfs import MARKER, PinsInMemory, ipfs_store, truncate_leaf

KEY = "deployment/main/payloads/payload/0"
OTHER = "deployment/main/payloads/other/0"
DATA = Random(6).randbytes(2 * LEAF_SIZE + 1000)


@pytest.fixture
async def store(ipfs: IpfsNode, tmp_path: Path) -> AsyncIterator[tuple[IPFSStore, PinsInMemory]]:
    async with ipfs_store(ipfs, tmp_path) as opened:
        yield opened


async def cat(node: IpfsNode, data: bytes) -> bytes:
    status, answer = await asyncio.to_thread(node.ask, f"cat?arg={cid_of(data)}")
    assert 200 == status
    return answer


@pytest.mark.parametrize("size", [0, 1, LEAF_SIZE, LEAF_SIZE + 1, len(DATA)])
async def test_any_tool_finds_the_bytes_by_the_cid_of_the_file(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory], size: int
) -> None:
    await store[0].put(KEY, DATA[:size])

    assert DATA[:size] == await cat(ipfs, DATA[:size])


async def test_a_small_segment_waits_in_memory_and_needs_no_thread(
    store: tuple[IPFSStore, PinsInMemory],
) -> None:
    writer = store[0].create(KEY)

    assert writer.only_copies(SPOOLED_MIN)
    assert not writer.only_copies(SPOOLED_MIN + 1)
    writer.write(0, memoryview(DATA)[:SPOOLED_MIN])
    await writer.finish()

    assert DATA[:SPOOLED_MIN] == await store[0].get(KEY, 0, SPOOLED_MIN)


async def test_the_same_bytes_under_two_keys_go_one_by_one(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    """An upload that failed after its last byte, and was sent again."""
    ours, pins = store
    await ours.put(KEY, DATA)
    await ours.put(OTHER, DATA)
    assert pins.pins[KEY].root != pins.pins[OTHER].root

    await ours.delete(KEY)
    await asyncio.to_thread(ipfs.gc)
    assert DATA == await ours.get(OTHER, 0, len(DATA))
    with pytest.raises(BlobMissing):
        await ours.stat(KEY)

    await ours.delete(OTHER)
    await asyncio.to_thread(ipfs.gc)
    with pytest.raises(BlobMissing):
        await ours.get(OTHER, 0, len(DATA))


async def test_what_others_pinned_stays_theirs(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    ours, _ = store
    await ours.put(KEY, DATA)
    cid = cid_of(DATA)
    assert 200 == (await asyncio.to_thread(ipfs.ask, f"pin/add?arg={cid}"))[0]

    await ours.delete(KEY)
    await asyncio.to_thread(ipfs.gc)

    assert {str(cid)} <= await asyncio.to_thread(ipfs.pins)
    assert DATA == await cat(ipfs, DATA)


async def test_a_spoilt_block_is_seen_and_a_lost_one_is_missing(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    ours, pins = store
    await ours.put(KEY, DATA)
    await asyncio.to_thread(truncate_leaf, ipfs, pins, KEY, 500)
    with pytest.raises(BlobCorrupt):
        await ours.get(KEY, 0, 501)

    ipfs.block_file(cid_of(DATA[:LEAF_SIZE])).unlink()
    with pytest.raises(BlobMissing):
        await ours.get(KEY, 0, 1)


async def test_of_an_emptied_node_nothing_is_called_missing(ipfs: IpfsNode, tmp_path: Path) -> None:
    async with ipfs_store(ipfs, tmp_path, marker_fresh_s=0.0) as (ours, _):
        await ours.put(KEY, DATA)
        await asyncio.to_thread(ipfs.clear)
        for use in (ours.get(KEY, 0, 1), ours.stat(KEY), ours.delete(KEY), ours.put(OTHER, b"x")):
            with pytest.raises(BackendUnavailable, match="lacks the marker"):
                await use


async def test_a_restarted_node_has_what_it_said_it_has(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    ours, _ = store
    await ours.put(KEY, DATA)
    await asyncio.to_thread(ipfs.kill)
    with pytest.raises(BackendUnavailable):
        await ours.get(KEY, 0, 1)
    await asyncio.to_thread(ipfs.start)

    assert DATA == await ours.get(KEY, 0, len(DATA))


async def test_it_is_written_down_before_the_node_hears_of_it(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    ours, pins = store
    await ours.put(OTHER, b"the marker was seen a moment ago")
    await asyncio.to_thread(ipfs.kill)
    with pytest.raises(BackendUnavailable):
        await ours.put(KEY, b"x")
    await asyncio.to_thread(ipfs.start)

    assert KEY in pins.pins
    assert [OTHER] == [blob.key async for blob in ours.list("deployment/main/")]


ROOT = '{"Root":{"Cid":{"/":"%s"},"PinErrorMsg":"%s"}}\n'


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, ""),
        (200, "{}"),
        (200, '{"Stats":{"BlockCount":3}}'),
        (200, ROOT % (cid_of(b"another"), "")),
        (200, "ours with an error"),
        (200, "<html>a proxy's page</html>"),
        (200, "x" * 70_000),
        (500, '{"Message":"disk full","Code":0,"Type":"error"}'),
        (500, "[]"),
        (403, "forbidden"),
        (302, ""),
    ],
)
async def test_an_import_counts_only_when_it_is_said_to_be_pinned(
    tmp_path: Path, status: int, answer: str
) -> None:
    pins = PinsInMemory()

    async def say(request: web.Request) -> web.Response:
        await request.read()
        ours = pins.pins[MARKER].root
        text = ROOT % (ours, "block not found") if answer.startswith("ours") else answer
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/api/v0/dag/import", say)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    client = KuboClient(KuboSettings(name="node", api=f"http://127.0.0.1:{port}"))
    store = IPFSStore(client, pins, marker=MARKER, spool=tmp_path)
    try:
        with pytest.raises(BackendUnavailable) as raised:
            await store.put(MARKER, b"x")
    finally:
        await store.close()
        await runner.cleanup()

    assert "disk full" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
