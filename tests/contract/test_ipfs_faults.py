"""Goal: what a node says when something is wrong with it is never taken for something else, and
costs others nothing.

Method: something that answers as a node would; a real node that is emptied.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from crypto import LEAF_SIZE
from storage_gateway.backends.contract import Range
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient, Pieces
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from tests.servers.ipfs import IpfsNode
from urn import CID, Codec

from .ipfs import MARKER, PinsInMemory
from .test_ipfs import DATA, KEY, OTHER, node_that_answers, store, tell

__all__ = ["store"]

DEADLINE_S = 4.0
OURS = tell(Keys={"the marker": {}})


def refusal(message: str) -> web.Response:
    return web.json_response({"Message": message, "Code": 0, "Type": "error"}, status=500)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("open /data/blocks/x.data: too many open files", BackendUnavailable),
        ("context deadline exceeded", BackendUnavailable),
        ("leveldb: closed", BackendUnavailable),
        ("", BackendUnavailable),
        ("block was not found locally (offline): ipld: could not find b", BlobMissing),
        ("ENOENT: no such file or directory, open 'x'", BlobMissing),
    ],
)
async def test_only_a_block_that_is_not_there_is_missing(
    tmp_path: Path, message: str, error: type[Exception]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return refusal(message)

    app = web.Application()
    app.router.add_post("/api/v0/block/get", refuse)
    app.router.add_post("/api/v0/pin/ls", OURS)
    with ThreadPoolExecutor(1) as threads:
        async with node_that_answers(app, tmp_path, PinsInMemory()) as node:
            with pytest.raises(error) as raised:
                await node.fetch([Range(KEY, 0, 10, bytes(32))], lambda _, data: data, threads)

    assert not message or message not in str(raised.value)


async def test_a_read_that_failed_leaves_no_other_call_behind(tmp_path: Path) -> None:
    digests = [hashlib.sha256(name).digest() for name in (b"1", b"2", b"3")]
    hung = asyncio.Event()

    async def block(request: web.Request) -> web.Response:
        if str(CID(Codec.RAW, digests[0])) == request.query["arg"]:
            await hung.wait()
            return refusal("block was not found")
        hung.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_post("/api/v0/block/get", block)
    app.router.add_post("/api/v0/pin/ls", OURS)
    with ThreadPoolExecutor(1) as threads:
        async with node_that_answers(app, tmp_path, PinsInMemory()) as node:
            before = asyncio.all_tasks()
            ranges = [Range(KEY, at, 1, digest) for at, digest in enumerate(digests)]
            with pytest.raises(BlobMissing):
                await node.fetch(ranges, lambda _, data: data, threads)
            names = [str(task.get_coro()) for task in asyncio.all_tasks() - before]

    assert [] == [name for name in names if "_run" in name]


async def test_a_marker_that_was_seen_to_be_gone_is_not_believed_any_more(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    ours, _ = store
    await ours.put(KEY, DATA)
    await asyncio.to_thread(ipfs.clear)

    for use in (ours.delete(KEY), ours.get(KEY, 0, 1), ours.stat(MARKER), ours.stat(KEY)):
        with pytest.raises(BackendUnavailable, match="lacks the marker"):
            await use


async def test_what_a_node_stores_is_asked_once_for_all(tmp_path: Path) -> None:
    asked = []
    answer = asyncio.Event()

    async def say(_: web.Request) -> web.Response:
        asked.append(1)
        await answer.wait()
        return web.json_response({"RepoSize": 0, "StorageMax": 1000})

    app = web.Application()
    app.router.add_post("/api/v0/repo/stat", say)
    async with node_that_answers(app, tmp_path, PinsInMemory()) as node:
        waiting = [asyncio.create_task(node.require_room()) for _ in range(20)]
        await asyncio.sleep(0)
        answer.set()
        await asyncio.gather(*waiting)

    assert [1] == asked


async def test_all_calls_of_a_put_together_have_one_deadline(tmp_path: Path) -> None:
    """Else what was given up might land when its grave is closed."""

    async def dawdle(request: web.Request) -> web.Response:
        await asyncio.sleep(0.45 * DEADLINE_S)
        storage = {"RepoSize": 0, "StorageMax": 9999}
        return await OURS(request) if "pin" in request.path else web.json_response(storage)

    imported: list[web.Request] = []

    async def take(request: web.Request) -> web.Response:
        imported.append(request)
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_post("/api/v0/pin/ls", dawdle)
    app.router.add_post("/api/v0/repo/stat", dawdle)
    app.router.add_post("/api/v0/dag/import", take)
    loop = asyncio.get_running_loop()
    async with node_that_answers(app, tmp_path, PinsInMemory(), deadline_s=DEADLINE_S) as node:
        began = loop.time()
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await node.put(KEY, b"x")
        took_s = loop.time() - began

    assert 1 == len(imported)
    assert took_s < 1.6 * DEADLINE_S, "each call had a deadline of its own: it is 1.9 then"


async def test_several_may_try_a_node_at_once(
    store: tuple[IPFSStore, PinsInMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes its own pin, whatever the others have come to."""
    import_car = KuboClient.import_car
    roots = []

    async def note(client: KuboClient, root: CID, pieces: Pieces) -> None:
        roots.append(root)
        await import_car(client, root, pieces)

    monkeypatch.setattr(KuboClient, "import_car", note)
    reports = await asyncio.gather(
        *(store[0].probe("deployment", everything=False) for _ in range(8))
    )

    assert [()] * 8 == [report.findings for report in reports]
    assert 8 == len(set(roots))


async def test_leaves_that_are_no_file_are_no_root(store: tuple[IPFSStore, PinsInMemory]) -> None:
    ours, pins = store
    with pytest.raises(BlobCorrupt):
        await ours.complete(OTHER, (bytes(32), bytes(32)), LEAF_SIZE)

    assert OTHER not in pins.pins
