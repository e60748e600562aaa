"""Goal: the commands that look at stores look at a node, too: `check` reads what lies in it, and
`backends probe` says what it can do, before the first start as well.

Method: a real gateway over a real node; then the commands, before and after a block was spoilt.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import command_beside
from tests.gateway import open_session, running_gateway
from tests.http.steps import SEGMENT, made_bytes, uploaded
from tests.http.test_ipfs import HORIZON_S, ipfs_backend
from tests.servers.ipfs import IpfsNode
from urn import CID

pytestmark = pytest.mark.both_databases


@pytest.fixture
def node(ipfs: IpfsNode) -> Iterator[IpfsNode]:
    yield ipfs
    ipfs.clear()


def options(tmp_path: Path, node: IpfsNode, *command: str) -> list[str | Path]:
    file = tmp_path / "gateway.toml"
    backend = {name: json.dumps(value) for name, value in ipfs_backend(node).items()}
    lines = [f"{name} = {value}" for name, value in backend.items()]
    file.write_text("\n".join([f"late_write_horizon_s = {HORIZON_S}", "[[backends]]", *lines, ""]))
    return [*command, "--data-dir", tmp_path / "data", "--config", file]


async def test_check_reads_the_node(tmp_path: Path, node: IpfsNode) -> None:
    async with running_gateway(
        tmp_path, backends=[ipfs_backend(node)], late_write_horizon_s=HORIZON_S
    ) as gateway:
        marker = await asyncio.to_thread(node.pins)
        session = await open_session(gateway)
        content = made_bytes(SEGMENT + 1)
        await uploaded(gateway, session.path("t1"), session.user_token, content)
        other = await uploaded(gateway, session.path("t2"), session.user_token, b"small")

    well = await command_beside(*options(tmp_path, node, "check"))
    node.block_file(CID.parse(other["cid"])).unlink()
    damaged = await command_beside(*options(tmp_path, node, "check"))
    for pin in await asyncio.to_thread(node.pins) - marker:
        await asyncio.to_thread(node.ask, f"pin/rm?arg={pin}")
    doomed = await command_beside(*options(tmp_path, node, "check"))

    assert (0, True) == (well.status, b"all is well" in well.out), well
    assert 1 == damaged.status
    assert other["urn"].encode() in damaged.out
    assert b"is not kept any more" in doomed.out, "what a collection would take"
    assert b"so it is with 2 segments" in doomed.out


async def test_a_probe_says_what_the_node_can_do(tmp_path: Path, node: IpfsNode) -> None:
    before = await asyncio.to_thread(node.pins)
    said = await command_beside(*options(tmp_path, node, "backends", "probe"))
    document = await command_beside(*options(tmp_path, node, "backends", "probe"), "--json")
    await asyncio.to_thread(node.kill)
    refused = await command_beside(*options(tmp_path, node, "backends", "probe"))
    await asyncio.to_thread(node.start)

    assert 0 == said.status, said
    assert b"pins imports         yes" in said.out
    (report,) = json.loads(document.out)
    assert ("node", True, True, []) == (
        report["store"],
        report["unpins"],
        report["reads_after_imports"],
        report["findings"],
    )
    assert 1 == refused.status
    assert b"refused: unavailable: store node cannot be asked" in refused.out
    assert before == await asyncio.to_thread(node.pins)
