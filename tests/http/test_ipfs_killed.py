"""Goal: whenever a node dies in an import, the upload is refused, nothing of it stays pinned once
the node is back, and what is sent again is stored; what was stored before is there.

Method: a real gateway over a real node, behind a proxy that holds the import at a place; there the
node is killed, and started again.
"""

import asyncio
from pathlib import Path

import pytest

from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault, Side
from storage_gateway.stress.tcp_proxy import tcp_proxy
from tests.gateway import eventually
from tests.http.steps import made_bytes, upload, uploaded
from tests.http.test_ipfs import ipfs_backend, node, read, running
from tests.servers.ipfs import IpfsNode

__all__ = ["node"]

pytestmark = pytest.mark.both_databases(by_day=False)

CONTENT = made_bytes(3_000_000)
IMPORT = b"POST /api/v0/dag/import"


def held(side: Side, after_bytes: int) -> ProxyFault:
    return ProxyFault(kind=FaultKind.STALL, side=side, after_bytes=after_bytes, requests=(IMPORT,))


@pytest.mark.parametrize(
    ("place", "lands"),
    [
        pytest.param(held(Side.REQUEST, 0), False, id="before its body"),
        pytest.param(held(Side.REQUEST, 1_500_000), False, id="in its body"),
        pytest.param(held(Side.ANSWER, 0), True, id="before its answer"),
    ],
)
async def test_a_node_dies_in_an_import(
    tmp_path: Path, node: IpfsNode, place: ProxyFault, lands: bool
) -> None:
    async with (
        tcp_proxy(node.port, seed=1) as proxy,
        running(
            tmp_path,
            ipfs_backend(node) | {"api": f"http://127.0.0.1:{proxy.port}"},
            recovery_interval_s=0.2,
        ) as (gateway, session),
    ):
        token = session.user_token
        kept = await uploaded(gateway, session.path("t1"), token, CONTENT)
        before = await asyncio.to_thread(node.pins)
        await proxy.inject(place)
        sending = asyncio.create_task(upload(gateway, session.path("t2"), token, CONTENT))

        async def is_held() -> bool:
            return proxy.happened > 0

        await eventually(is_held, what="an import under way")
        pinned = await asyncio.to_thread(node.pins) - before
        await asyncio.to_thread(node.kill)
        refused = await sending
        await asyncio.to_thread(node.start)
        await proxy.heal()
        found = await read(gateway, session, kept["urn"])

        async def nothing_is_left() -> bool:
            return await asyncio.to_thread(node.pins) == before

        await eventually(nothing_is_left, what="a node that keeps nothing of it")
        again = await uploaded(gateway, session.path("t2"), token, CONTENT)
        await asyncio.to_thread(node.gc)
        assert CONTENT == found == await read(gateway, session, again["urn"])

    refused.problem(503, "backend_unavailable")
    assert lands == bool(pinned), "a killed node had pinned what it did not answer"
