"""Goal: copies in a bucket and in an IPFS node are found bad and made again as those in folders
are, each in its own way of being there.

Method: a real gateway over a folder and a real server; what is in that is removed, unpinned or
spoilt below its API.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway.backends.kubo import KuboClient
from storage_gateway.catalog.copies import BAD, PENDING, PLACED
from storage_gateway.errors import BackendUnavailable
from storage_gateway.repair import RepairReport
from tests.gateway import RunningGateway
from tests.http.passes import repair_of, scrub_of
from tests.http.steps import SEGMENT, made_bytes, uploaded
from tests.http.test_ipfs import disk_backend, ipfs_backend, node, running
from tests.http.test_ipfs_roots import all_to_come, cat
from tests.http.test_repair import states
from tests.http.test_s3 import bucket, s3_backend
from tests.servers.ipfs import IpfsNode
from tests.servers.seaweedfs import SeaweedFS
from urn import CID, Codec

__all__ = ["bucket", "node"]

pytestmark = pytest.mark.both_databases(by_day=False)

CONTENT = made_bytes(SEGMENT + 1)
BY_HAND = {"recovery_interval_s": 3600, "repair_interval_s": 3600}


async def scrubbed(gateway: RunningGateway) -> int:
    """Return how many copies were found bad."""
    return (await scrub_of(gateway).run_once()).bad


async def ours(gateway: RunningGateway, node: IpfsNode) -> set[str]:
    """Return all pins but the marker's."""
    marker = gateway.gateway.parts.nodes[0]._marker.root
    return await asyncio.to_thread(node.pins) - {str(marker)}


@pytest.fixture
async def of_node(tmp_path: Path, node: IpfsNode) -> AsyncIterator[tuple[RunningGateway, str]]:
    """Run a gateway with a payload in a folder and in the node; yield the CID, too."""
    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=2, **BY_HAND) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        yield gateway, made["cid"]


async def test_what_a_node_does_not_keep_is_kept_again(
    tmp_path: Path, node: IpfsNode, of_node: tuple[RunningGateway, str]
) -> None:
    """It can still be read, until the node collects."""
    gateway, _ = of_node
    before = await ours(gateway, node)
    for pin in before:
        await asyncio.to_thread(node.ask, f"pin/rm?arg={pin}")
    assert 2 == await scrubbed(gateway)
    assert {BAD, PLACED} == await states(gateway)

    report = await repair_of(gateway, tmp_path).run_once()

    assert (2, 0, True) == (report.made, report.failed, report.ended)
    assert {PLACED} == await states(gateway)
    assert 2 == len(before & await ours(gateway, node))
    await asyncio.to_thread(node.gc)
    assert 0 == await scrubbed(gateway)


async def test_a_spoilt_block_goes_with_its_pins_and_comes_again(
    tmp_path: Path, node: IpfsNode, of_node: tuple[RunningGateway, str]
) -> None:
    gateway, cid = of_node
    (first, _) = [pin async for pin in _pins(gateway)]
    block = node.block_file(first)
    data = bytearray(block.read_bytes())
    data[0] ^= 1
    block.write_bytes(data)
    assert 1 == await scrubbed(gateway)

    for _ in range(2):
        await repair_of(gateway, tmp_path).run_once()
        await asyncio.to_thread(node.gc)
    assert {PLACED} == await states(gateway)
    assert 1 == len(await all_to_come(gateway)), "the root went with the segment"
    assert 1 == await gateway.gateway.upkeep.roots.bring_all()

    assert 0 == await scrubbed(gateway)
    assert None is not await cat(node, cid)


async def test_a_root_is_expected_again_before_it_goes(
    tmp_path: Path,
    node: IpfsNode,
    of_node: tuple[RunningGateway, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing but the catalog's row says that it is to come: a crash may be in between."""
    gateway, _ = of_node
    before = await ours(gateway, node)
    (first, _) = [leaf async for leaf in _pins(gateway)]
    node.block_file(first).write_bytes(b"rot")
    assert 1 == await scrubbed(gateway)

    def die(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("storage_gateway.repair.expect_roots", die)
    report = await repair_of(gateway, tmp_path).run_once()

    assert (0, 1) == (report.made, report.failed)
    assert before == await ours(gateway, node)


async def _pins(gateway: RunningGateway) -> AsyncIterator[CID]:
    """Yield the first leaf of each segment."""
    parts = gateway.gateway.parts
    async for blob in parts.nodes[0].list(parts.payloads):
        pin = await parts.nodes[0]._pins.find(blob.key)
        if pin is not None and pin.leaves:
            yield CID(Codec.RAW, pin.leaves[0])


async def test_leaves_that_came_without_a_pin_are_no_copy(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that was broken off after its last block."""
    import_car = KuboClient.import_car

    async def unpinned(client: KuboClient, root: CID, pieces: object) -> None:
        await import_car(client, root, pieces)  # type: ignore[arg-type]
        await client.unpin(root)
        raise BackendUnavailable("did not answer in time")

    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=1, **BY_HAND) as (gateway, session):
        with monkeypatch.context() as patched:
            patched.setattr(KuboClient, "import_car", unpinned)
            await uploaded(gateway, session.path("t1"), session.user_token, b"small")
        assert {PENDING, PLACED} == await states(gateway)

        report = await repair_of(gateway, tmp_path).run_once()

        assert (1, 0) == (report.made, report.found)
        assert 1 == len(await ours(gateway, node))


@pytest.mark.parametrize("damage", ["gone", "cut"])
async def test_a_bucket_gets_what_it_lost(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, damage: str
) -> None:
    backends = [disk_backend(tmp_path), s3_backend(s3_server, bucket)]
    async with running(tmp_path, *backends, write_quorum=2, **BY_HAND) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        parts = gateway.gateway.parts
        keys = [blob.key async for blob in parts.members[1].store.list(parts.payloads)]
        if damage == "gone":
            await asyncio.to_thread(s3_server.remove, bucket, keys[0])
        else:
            await asyncio.to_thread(s3_server.truncate, bucket, keys[0], 10)
        assert 1 == await scrubbed(gateway)

        report = await repair_of(gateway, tmp_path).run_once()

        assert RepairReport(made=1, bytes_copied=report.bytes_copied, ended=True) == report
        assert {PLACED} == await states(gateway)
        assert 0 == await scrubbed(gateway)


async def test_a_bucket_that_was_away_gets_what_it_missed(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str
) -> None:
    backends = [disk_backend(tmp_path), s3_backend(s3_server, bucket)]
    async with running(tmp_path, *backends, write_quorum=1, **BY_HAND) as (gateway, session):
        await asyncio.to_thread(s3_server.kill)
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        away = await repair_of(gateway, tmp_path).run_once()
        await asyncio.to_thread(s3_server.start)
        back = await repair_of(gateway, tmp_path).run_once()

    assert (0, 1, 1) == (away.made, away.failed, away.waiting)
    assert (2, True) == (back.made, back.ended)
