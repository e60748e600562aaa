"""Goal: one payload lies in a store and in an IPFS node under one URN, and either alone is enough;
any tool that knows its CID gets the ciphertext; what is erased is nobody's pin any more.

Method: a real gateway over a folder and a real node, which is killed, cleared and collected under
it; the node's own `cat` and pins are asked beside it.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway.config import ConfigError
from storage_gateway.errors import BackendUnavailable
from storage_gateway.stress.tcp_proxy import tcp_proxy
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded
from tests.http.test_s3 import bucket, s3_backend
from tests.servers.ipfs import IpfsNode
from tests.servers.seaweedfs import SeaweedFS
from tests.stress.runs import carried_out, failed

__all__ = ["bucket"]

pytestmark = pytest.mark.both_databases(by_day=False)

HORIZON_S = 6.0
CONTENT = made_bytes(3_000_000)


@pytest.fixture
def node(ipfs: IpfsNode) -> Iterator[IpfsNode]:
    yield ipfs
    ipfs.revive()
    ipfs.clear()


def ipfs_backend(node: IpfsNode) -> dict[str, object]:
    api = node.api.removesuffix("/api/v0")
    return {"kind": "ipfs", "name": "node", "api": api, "deadline_s": 5.0}


def disk_backend(path: Path) -> dict[str, object]:
    return {"kind": "local", "name": "disk", "path": str(path / "disk")}


@asynccontextmanager
async def running(
    path: Path, *backends: dict[str, object], **settings: object
) -> AsyncIterator[tuple[RunningGateway, OpenSession]]:
    async with running_gateway(
        path,
        backends=list(backends),
        reserve_bytes=0,
        late_write_horizon_s=HORIZON_S,
        **settings,
    ) as gateway:
        yield gateway, await open_session(gateway, f"{random.getrandbits(64)}")


async def read(gateway: RunningGateway, session: OpenSession, urn: str) -> bytes:
    answer = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
    assert 200 == answer.status, answer
    return answer.body


async def test_either_store_alone_is_enough(tmp_path: Path, node: IpfsNode) -> None:
    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=2) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        disk, away = tmp_path / "disk", tmp_path / "away"
        await asyncio.to_thread(disk.rename, away)
        of_node = await read(gateway, session, made["urn"])
        await asyncio.to_thread(away.rename, disk)
        await asyncio.to_thread(node.kill)
        of_disk = await read(gateway, session, made["urn"])
        ready = await exchange(gateway.address, request("GET", "/readyz"))

    assert CONTENT == of_node == of_disk
    assert "backend_unavailable" == ready.json()["checks"]["store node"]


@pytest.mark.parametrize("size", [0, 1000, len(CONTENT)])
async def test_any_tool_gets_the_ciphertext_by_its_cid(
    tmp_path: Path, node: IpfsNode, size: int
) -> None:
    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        token = session.user_token
        made = await uploaded(gateway, session.path("t1"), token, CONTENT[:size])
        sealed = (await fetch(gateway, made["urn"], token)).body
        shown = (await fetch(gateway, made["urn"], token, part="/manifest")).json()
        status, found = await asyncio.to_thread(node.ask, f"cat?arg={shown['cid']}")

    assert 200 == status
    assert shown["payload_size"] == len(found)
    assert sealed.endswith(found), "a head is not in the node"
    assert CONTENT[:size] not in found or size == 0


async def test_what_is_erased_is_pinned_no_more_and_collected(
    tmp_path: Path, node: IpfsNode
) -> None:
    async with running(tmp_path, ipfs_backend(node), recovery_interval_s=0.2) as (gateway, session):
        marker = await asyncio.to_thread(node.pins)
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        kept = await uploaded(gateway, session.path("t2"), session.user_token, CONTENT)
        shown = await fetch(gateway, made["urn"], session.user_token, part="/manifest")
        erased = await fetch(gateway, made["urn"], session.user_token, method="DELETE")
        pinned = await asyncio.to_thread(node.pins)
        await asyncio.to_thread(node.gc)
        gone, _ = await asyncio.to_thread(
            node.ask, f"block/get?arg={shown.json()['cid']}&offline=true"
        )
        still = await read(gateway, session, kept["urn"])

        async def is_erased() -> bool:
            answer = await fetch(gateway, made["urn"], session.user_token, part="/manifest")
            return bool(answer.json()["state"] == "erased")

        await eventually(is_erased, what="an end of the erasure")

    assert erased.status in (200, 202)
    assert 1 == len(pinned - marker)
    assert 500 == gone
    assert CONTENT == still


async def test_while_the_node_is_away_nothing_is_lost_or_called_lost(
    tmp_path: Path, node: IpfsNode
) -> None:
    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        token = session.user_token
        made = await uploaded(gateway, session.path("t1"), token, CONTENT)
        await asyncio.to_thread(node.kill)
        refused = await upload(gateway, session.path("t2"), token, CONTENT)
        unread = await fetch(gateway, made["urn"], token, headers=[PLAINTEXT])
        ready = await exchange(gateway.address, request("GET", "/readyz"))
        await asyncio.to_thread(node.start)
        found = await read(gateway, session, made["urn"])

        async def is_taken() -> bool:
            answer = await upload(gateway, session.path("t2"), token, CONTENT)
            assert answer.status in (201, 409, 503)
            return answer.status == 201

        await eventually(is_taken, what="an upload")

    refused.problem(503, "backend_unavailable")
    unread.problem(503, "backend_unavailable")
    assert 503 == ready.status
    assert CONTENT == found
    for answer in (refused, unread, ready):
        assert str(node.port).encode() not in answer.body, "clients need not know where it is"


async def test_a_node_that_was_emptied_is_not_taken_for_one_that_lost_our_blobs(
    tmp_path: Path, node: IpfsNode
) -> None:
    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    await asyncio.to_thread(node.clear)

    with pytest.raises(BackendUnavailable, match="lacks the marker of this deployment"):
        async with running(tmp_path, ipfs_backend(node)):
            pass


async def test_two_deployments_share_a_node(tmp_path: Path, node: IpfsNode) -> None:
    async with (
        running(tmp_path / "one", ipfs_backend(node)) as (one, session),
        running(tmp_path / "two", ipfs_backend(node)) as (two, other),
    ):
        made = await uploaded(one, session.path("t1"), session.user_token, CONTENT)
        also = await uploaded(two, other.path("t1"), other.user_token, CONTENT)
        await fetch(two, also["urn"], other.user_token, method="DELETE")
        await asyncio.to_thread(node.gc)

        assert CONTENT == await read(one, session, made["urn"])


async def test_a_node_that_is_nearly_full_refuses_early(tmp_path: Path, node: IpfsNode) -> None:
    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        told = dict(
            line.rpartition(" ")[::2]
            for line in gateway.gateway.metrics.text().decode().splitlines()
            if line.startswith("storage_gateway_node_")
        )
        stored, limit = (float(value) for value in told.values())
        assert 0 < stored < limit
    # The node's limit is some petabytes.
    async with running(tmp_path, ipfs_backend(node) | {"fill_max": 1e-12}) as (gateway, _):
        assert CONTENT == await read(gateway, session, made["urn"])
        refused = await upload(gateway, session.path("t2"), session.user_token, CONTENT)

        async def is_early() -> bool:
            """Before anything is sealed; room that was found is believed for a moment."""
            early = await upload(gateway, session.path("t2"), session.user_token, CONTENT)
            early.problem(507, "storage_full")
            return "in too many stores" in early.json()["detail"]

        await eventually(is_early, what="an early refusal")
        ready = await exchange(gateway.address, request("GET", "/readyz"))

    refused.problem(507, "storage_full")
    assert "storage_full" == ready.json()["checks"]["store node"]


async def test_a_stress_run_works_in_the_node_and_leaves_nothing(
    tmp_path: Path, node: IpfsNode
) -> None:
    async with running(tmp_path, ipfs_backend(node), enable_stress=True) as (gateway, _):
        before = await asyncio.to_thread(node.pins)
        whole = await carried_out(
            gateway,
            "crash-after-commit",
            duration_s=1,
            clients=2,
            sizes=[1000, SEGMENT + 1],
            seed=1,
        )

        assert ("pass", {}) == (whole["verdict"], failed(whole))
        assert before == await asyncio.to_thread(node.pins)


async def test_two_names_of_one_node_are_refused(tmp_path: Path, node: IpfsNode) -> None:
    """Whatever stands between us and it."""
    async with tcp_proxy(node.port, seed=1) as proxy:
        other = ipfs_backend(node) | {"name": "other", "api": f"http://127.0.0.1:{proxy.port}"}
        with pytest.raises(ConfigError, match="node and other are one IPFS node"):
            async with running(tmp_path, ipfs_backend(node), other):
                pass


async def test_a_bucket_and_a_node_have_it_under_one_urn(
    tmp_path: Path, node: IpfsNode, s3_server: SeaweedFS, bucket: str
) -> None:
    backends = [s3_backend(s3_server, bucket), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=2) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        await asyncio.to_thread(s3_server.kill)
        of_node = await read(gateway, session, made["urn"])
        await asyncio.to_thread(s3_server.start)
        await asyncio.to_thread(node.kill)
        of_bucket = await read(gateway, session, made["urn"])

    assert CONTENT == of_node == of_bucket
