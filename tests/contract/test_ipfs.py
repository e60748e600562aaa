"""Goal: what the IPFS store alone can show: its roots are nobody else's, other tools find the same
bytes by the CID of the file, a node is believed only what it says, and an emptied one nothing.

Method: a real node; one that answers what a test wants, where the real one cannot be made to.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from crypto import LEAF_SIZE
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient, KuboSettings
from storage_gateway.backends.spool import SPOOLED_MIN
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull
from tests.servers.ipfs import IpfsNode
from urn import cid_of

from .ipfs import MARKER, PinsInMemory, ipfs_store, truncate_leaf
from .ipfs_node import directory, put, tree

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


async def test_a_node_that_is_nearly_full_takes_no_more(tmp_path: Path) -> None:
    stored = {"RepoSize": "899", "StorageMax": "1000"}
    imported = []

    async def take(request: web.Request) -> web.Response:
        imported.append(await request.read())
        (root,) = [pin.root for key, pin in pins.pins.items() if key == KEY]
        return web.Response(text=ROOT % (root, ""))

    pins = PinsInMemory()
    app = web.Application()
    app.router.add_post("/api/v0/dag/import", take)
    app.router.add_post("/api/v0/pin/ls", tell(Keys={"the marker": {}}))
    app.router.add_post("/api/v0/repo/stat", tell(**stored))
    async with node_that_answers(app, tmp_path, pins) as store:
        await store.put(KEY, b"x")
        assert not store.is_full
        with pytest.raises(StorageFull, match="store node stores more than 90%"):
            await store.put(OTHER, b"yz")
        with pytest.raises(StorageFull):
            await store.require_room(1)
        await store.require_room()

    assert 1 == len(imported)
    assert OTHER not in pins.pins


@pytest.mark.parametrize(
    ("limit", "full"),
    [(1000, True), (0, False), ((1 << 64) - 1, False)],
)
async def test_a_node_without_a_limit_is_never_full(tmp_path: Path, limit: int, full: bool) -> None:
    app = web.Application()
    app.router.add_post("/api/v0/repo/stat", tell(RepoSize=10_000, StorageMax=limit))
    async with node_that_answers(app, tmp_path, PinsInMemory()) as store:
        assert not store.is_full, "nothing is known of it yet"
        if full:
            with pytest.raises(StorageFull):
                await store.require_room()
        else:
            await store.require_room()

        assert full == store.is_full


async def test_what_a_node_stores_is_asked_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {"RepoSize": 1000, "StorageMax": 1000}

    async def say(_: web.Request) -> web.Response:
        return web.json_response(stored)

    app = web.Application()
    app.router.add_post("/api/v0/repo/stat", say)
    async with node_that_answers(app, tmp_path, PinsInMemory()) as store:
        with pytest.raises(StorageFull):
            await store.require_room()
        stored["RepoSize"] = 0
        with pytest.raises(StorageFull):
            await store.require_room()
        monkeypatch.setattr("storage_gateway.backends.ipfs.STORAGE_FRESH_S", 0.0)
        assert not store.is_full, "what is not known is tried"
        await store.require_room()


async def test_a_probe_finds_out_what_a_node_can_do(
    ipfs: IpfsNode, store: tuple[IPFSStore, PinsInMemory]
) -> None:
    before = await asyncio.to_thread(ipfs.pins)
    report = await store[0].probe("deployment")

    assert (True, True, True) == (report.pins_imports, report.reads_after_imports, report.unpins)
    assert report.agent
    assert report.used_bytes is not None
    assert report.limit_bytes is not None
    assert min(report.import_mb_s or 0, report.read_mb_s or 0) > 0
    assert () == report.findings
    assert before == await asyncio.to_thread(ipfs.pins)


@pytest.mark.parametrize(
    ("answers", "kinds"),
    [
        ({}, ["unavailable"]),
        ({"id": {}}, ["unavailable"]),
        ({"id": {}, "repo/stat": {"RepoSize": -1}}, ["unavailable"]),
        ({"id": {}, "repo/stat": {"RepoSize": 95, "StorageMax": 100}}, []),
        ({"id": {"AgentVersion": "x\n" * 99}, "repo/stat": {"RepoSize": 1, "StorageMax": 0}}, []),
    ],
    ids=str,
)
async def test_a_look_says_what_is_wrong_with_a_node(
    tmp_path: Path, answers: dict[str, dict[str, object]], kinds: list[str]
) -> None:
    app = web.Application()
    for call, said in answers.items():
        app.router.add_post(f"/api/v0/{call}", tell(**said))
    async with node_that_answers(app, tmp_path, PinsInMemory()) as store:
        report = await store.look("deployment")

    assert kinds == [finding.kind for finding in report.findings]
    assert "\n" not in (report.agent or "")
    assert len(report.agent or "") <= 64


@asynccontextmanager
async def node_that_answers(
    app: web.Application, folder: Path, pins: PinsInMemory, **changes: float
) -> AsyncIterator[IPFSStore]:
    """Open a store over something that is asked as a node is."""
    # A handler that waits for ever is not waited for at the end.
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    api = f"http://127.0.0.1:{port}"
    client = KuboClient(KuboSettings(name="node", api=api, **changes))  # type: ignore[arg-type]
    store = IPFSStore(client, pins, marker=MARKER, spool=folder)
    try:
        yield store
    finally:
        await store.close()
        await runner.cleanup()


def tell(**said: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(said)

    return answer


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
        ours = pins.pins[KEY].root
        text = ROOT % (ours, "block not found") if answer.startswith("ours") else answer
        return web.Response(status=status, text=text, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/api/v0/dag/import", say)
    app.router.add_post("/api/v0/repo/stat", tell(RepoSize=0, StorageMax=1 << 40))
    app.router.add_post("/api/v0/pin/ls", tell(Keys={"the marker": {}}))
    async with node_that_answers(app, tmp_path, pins) as store:
        with pytest.raises(BackendUnavailable) as raised:
            await store.put(KEY, b"x")

    assert KEY in pins.pins, "it was never asked"
    assert "store node" in str(raised.value)
    assert "disk full" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


async def strays(store: IPFSStore, prefix: str) -> tuple[set[str], set[str]]:
    """Return the keys that are written down, and those that are not."""
    parts = [part async for part in store.strays(prefix)]
    known = {key for part in parts for key in part.known}
    return known, {pin.key for part in parts for pin in part.pins}


@pytest.mark.parametrize("at_once", [1, 2, 1000])
async def test_what_nobody_has_written_down_is_found_by_its_name(
    ipfs: IpfsNode,
    store: tuple[IPFSStore, PinsInMemory],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage_gateway.backends.ipfs.ROOTS_AT_ONCE", at_once)
    opened, pins = store
    for key in (KEY, OTHER, "another/main/payloads/payload/0"):
        await opened.put(key, DATA)
    await asyncio.to_thread(foreign_pins, ipfs)
    prefix = "deployment/main/payloads/"
    assert ({KEY, OTHER}, set()) == await strays(opened, prefix)
    del pins.pins[OTHER], pins.pins["another/main/payloads/payload/0"]

    assert ({KEY}, {OTHER}) == await strays(opened, prefix)
    (stray,) = [pin async for part in opened.strays(prefix) for pin in part.pins]
    before = await asyncio.to_thread(ipfs.pins)
    await opened.drop(stray)
    await opened.drop(stray)

    assert {str(stray.root)} == before - await asyncio.to_thread(ipfs.pins)
    assert ({KEY}, set()) == await strays(opened, prefix)


def foreign_pins(node: IpfsNode) -> None:
    """Have a node keep what somebody else wants: a leaf, trees, and a name much like ours."""
    some = tree()
    put(node, some.leaves[0])
    put(node, some.wrapper, (*some.below, some.shared))
    name = "deployment.main.payloads.payload.7"
    put(node, directory(**{name: some.leaves[0], f"{name}7": some.leaves[1]}), some.leaves)
    put(node, directory(**{"x" * 600: some.leaves[0]}), some.leaves)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, "{}"),
        (200, '{"Cid": 7}'),
        (200, '{"Keys": {}}'),
        (200, "<html>a proxy's page</html>"),
        (200, "x" * 1_000_000),
        (500, '{"Message":"disk full","Code":0,"Type":"error"}'),
        (403, "forbidden"),
    ],
)
async def test_what_a_node_says_of_its_roots_is_believed_only_in_its_form(
    tmp_path: Path, status: int, answer: str
) -> None:
    async def ls(request: web.Request) -> web.Response:
        if "arg" in request.query:
            return web.json_response({"Keys": {"the marker": {}}})
        return web.Response(status=status, text=answer)

    app = web.Application()
    app.router.add_post("/api/v0/pin/ls", ls)
    async with node_that_answers(app, tmp_path, PinsInMemory()) as store:
        with pytest.raises(BackendUnavailable):
            await strays(store, "deployment/")
