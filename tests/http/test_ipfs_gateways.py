"""Goal: a session that named a gateway of IPFS reads on when every store is gone, byte for byte or
not at all; of any other session, and of what was erased, no gateway hears.

Method: a real gateway over a folder and a real node, both of which are taken away. The leaves are
then with the node's own HTTP gateway, or with a server that tells what it was asked and says what a
test wants.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from storage_gateway.backends import Range, health
from storage_gateway.backends.disk import Disk
from storage_gateway.backends.fs import RealFs
from storage_gateway.backends.ipfs_gateway import IPFSGateway, IPFSGatewaySettings
from storage_gateway.catalog.tables import placements
from storage_gateway.client import ClientError
from storage_gateway.errors import Erased
from storage_gateway.read import LEAVES_IN_RUN, RUNS_AHEAD
from storage_gateway.stress.tcp_faults import FaultKind, ProxyFault
from storage_gateway.stress.tcp_proxy import tcp_proxy
from storage_gateway.verify import Checker
from tests.commands import command_beside
from tests.gateway import OpenSession, RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import Answer, exchange, request
from tests.http.scraping import value
from tests.http.steps import LEAF, PLAINTEXT, fetch, made_bytes, upload, uploaded
from tests.servers.ipfs import IpfsNode
from tests.servers.scripted import HANG, Received, Say, Scripted, scripted
from tests.stress.runs import carried_out, failed
from urn import CID, LEAF_SIZE, Codec

pytestmark = pytest.mark.both_databases(by_day=False)

CONTENT = made_bytes(3_000_000)
PROBE = "/ipfs/bafkqaaa?format=raw"
OPTED_IN = ["disk", "node", "stranger"]


@pytest.fixture
def node(ipfs: IpfsNode) -> Iterator[IpfsNode]:
    yield ipfs
    ipfs.revive()
    ipfs.clear()


class Stranger:
    """What a gateway of IPFS has, and how it answers."""

    def __init__(self) -> None:
        self.leaves: dict[str, bytes] = {}
        self.script: Callable[[Received], Say | None] = self.has
        self.server = Scripted(lambda _: HANG)

    def answer(self, received: Received) -> Say | None:
        return self.script(received)

    def learn(self, sealed: bytes, payload_size: int) -> None:
        """Take the leaves of a payload, as any node may that knows its CID."""
        payload = sealed[len(sealed) - payload_size :]
        for at in range(0, payload_size, LEAF_SIZE):
            leaf = payload[at : at + LEAF_SIZE]
            cid = CID(Codec.RAW, sha256(leaf).digest())
            self.leaves[f"/ipfs/{cid}?format=raw"] = leaf

    def has(self, received: Received) -> Say:
        leaf = b"" if received.target == PROBE else self.leaves.get(received.target)
        return Say(404) if leaf is None else Say(body=leaf)

    @property
    def asked(self) -> list[str]:
        """What it was asked for, but for probes."""
        return [r.target for r in self.server.received if r.target != PROBE]


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    made = Stranger()
    async with scripted(made.answer) as server:
        made.server = server
        yield made


def backends(path: Path, api: str, url: str) -> list[dict[str, object]]:
    return [
        {"kind": "local", "name": "disk", "path": str(path / "disk")},
        {"kind": "ipfs", "name": "node", "api": api.removesuffix("/api/v0"), "deadline_s": 5.0},
        {"kind": "ipfs-gateway", "name": "stranger", "url": url}
        | {"deadline_s": 1.0, "idle_s": 3600.0},
    ]


@asynccontextmanager
async def running(
    path: Path, api: str, url: str, **settings: object
) -> AsyncIterator[RunningGateway]:
    options = {"reserve_bytes": 0, "late_write_horizon_s": 6.0} | settings
    async with running_gateway(path, backends=backends(path, api, url), **options) as gateway:
        yield gateway


async def read(gateway: RunningGateway, session: OpenSession, urn: str) -> Answer:
    return await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])


async def stored(
    gateway: RunningGateway, session: OpenSession, stranger: Stranger, content: bytes = CONTENT
) -> str:
    """Upload, and let the stranger have the payload, too; return the URN."""
    made = await uploaded(gateway, session.path("t1"), session.user_token, content)
    sealed = await fetch(gateway, made["urn"], session.user_token)
    shown = await fetch(gateway, made["urn"], session.user_token, part="/manifest")
    stranger.learn(sealed.body, shown.json()["payload_size"])
    return str(made["urn"])


async def take_away(path: Path, node: IpfsNode) -> None:
    await asyncio.to_thread((path / "disk").rename, path / "away")
    await asyncio.to_thread(node.kill)


async def test_with_every_store_gone_who_named_a_gateway_reads_on(
    tmp_path: Path, node: IpfsNode
) -> None:
    async with (
        tcp_proxy(node.port, seed=1) as way,
        running(tmp_path, f"http://127.0.0.1:{way.port}", node.gateway) as gateway,
    ):
        session = await open_session(gateway, backends=OPTED_IN)
        other = await open_session(gateway)
        urns = [
            (await uploaded(gateway, s.path("t1"), s.user_token, CONTENT))["urn"]
            for s in (session, other)
        ]
        sealed = await fetch(gateway, urns[0], session.user_token)
        await asyncio.to_thread((tmp_path / "disk").rename, tmp_path / "away")
        await way.inject(ProxyFault(kind=FaultKind.REFUSE))

        found = await read(gateway, session, urns[0])
        again = await fetch(gateway, urns[0], session.user_token)
        refused = await read(gateway, other, urns[1])

    assert (200, CONTENT) == (found.status, found.body)
    assert (200, sealed.body) == (again.status, again.body)
    refused.problem(503, "backend_unavailable")


async def test_of_a_session_that_did_not_name_it_a_gateway_never_hears(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        sessions = {
            "open": await open_session(gateway),
            "stores": await open_session(gateway, backends=["disk", "node"]),
            "in": await open_session(gateway, backends=OPTED_IN),
        }
        urns = {name: await stored(gateway, s, stranger) for name, s in sessions.items()}
        whole = {name: (await read(gateway, s, urns[name])).body for name, s in sessions.items()}
        assert [] == stranger.asked, "as long as a store serves nobody is asked"
        await take_away(tmp_path, node)
        for name in ("open", "stores"):
            (await read(gateway, sessions[name], urns[name])).problem(503, "backend_unavailable")
        assert [] == stranger.asked
        found = await read(gateway, sessions["in"], urns["in"])
        text = gateway.gateway.metrics.text().decode()

    assert dict.fromkeys(sessions, CONTENT) == whole
    assert (200, CONTENT) == (found.status, found.body)
    assert -(-len(CONTENT) // LEAF) == len(set(stranger.asked)) == len(stranger.asked)
    labels = {"store": "stranger", "operation": "read"}
    reads = value(text, "store_operation_seconds_count", **labels, outcome="ok")
    assert len(stranger.asked) == reads
    assert 0 == value(text, "store_resting", **labels)


async def test_what_is_served_to_strangers_does_not_come_from_a_gateway(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint, serve_ipfs=True) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        await stored(gateway, session, stranger)
        leaves = list(stranger.leaves)
        served = [await exchange(gateway.address, request("GET", leaf)) for leaf in leaves]
        await take_away(tmp_path, node)
        denied = await exchange(gateway.address, request("GET", leaves[0]))

    assert list(stranger.leaves.values()) == [answer.body for answer in served]
    denied.problem(503, "backend_unavailable")
    assert [] == stranger.asked


async def permit() -> None:
    """Let the gateway be asked."""


async def test_another_deployment_that_serves_blocks_is_a_gateway(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    pool = ThreadPoolExecutor(1)
    async with running(tmp_path, node.api, stranger.server.endpoint, serve_ipfs=True) as gateway:
        session = await open_session(gateway)
        await stored(gateway, session, stranger)
        asking = IPFSGateway(IPFSGatewaySettings(name="ours", url=gateway.url))
        try:
            report = await asking.probe()
            found = [
                await asking.fetch(
                    Range("", 0, len(leaf), sha256(leaf).digest()), bytes, pool, permit=permit
                )
                for leaf in stranger.leaves.values()
            ]
        finally:
            await asking.close()
            pool.shutdown()

    assert (True, ()) == (report.raw, report.findings)
    assert list(stranger.leaves.values()) == found


@pytest.mark.parametrize("lie", [b"", b"<html>", bytes(LEAF_SIZE)], ids=len)
async def test_a_lie_never_comes_out(
    tmp_path: Path, node: IpfsNode, stranger: Stranger, lie: bytes
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger)
        await take_away(tmp_path, node)
        stranger.script = lambda _: Say(body=lie)
        refused = await read(gateway, session, urn)
        sealed = await fetch(gateway, urn, session.user_token)

    refused.problem(503, "backend_unavailable")
    sealed.problem(503, "backend_unavailable")
    assert stranger.asked


async def test_one_that_does_not_have_it_does_not_make_it_missing(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger)
        stranger.leaves.clear()
        await take_away(tmp_path, node)
        refused = await read(gateway, session, urn)

    refused.problem(503, "backend_unavailable")
    assert stranger.asked


async def test_one_that_hangs_holds_up_nobody_for_longer_than_its_deadline(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    stranger.script = lambda _: HANG
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger)
        disk, away = tmp_path / "disk", tmp_path / "away"
        await asyncio.to_thread(node.kill)
        while_disk_serves = await read(gateway, session, urn)
        await asyncio.to_thread(disk.rename, away)
        refused = await read(gateway, session, urn)
        await asyncio.to_thread(away.rename, disk)
        after = await read(gateway, session, urn)

    assert CONTENT == while_disk_serves.body == after.body
    refused.problem(503, "backend_unavailable")
    assert stranger.asked


async def test_one_that_rested_serves_a_whole_download_again(
    tmp_path: Path, node: IpfsNode, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "RESTED_S", 0.0)
    content = made_bytes((1 + RUNS_AHEAD) * LEAVES_IN_RUN * LEAF, 3)
    stranger.script = lambda _: Say(503)
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger, content)
        await take_away(tmp_path, node)
        (asked,) = gateway.gateway.parts.gateways
        while asked.reads.is_closed:
            (await read(gateway, session, urn)).problem(503, "backend_unavailable")
        stranger.script = stranger.has
        found = await read(gateway, session, urn)

    assert (200, content) == (found.status, found.body)


async def test_nothing_is_written_for_a_gateway_and_nothing_waits_for_one(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    stranger.script = lambda _: HANG
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        await stored(gateway, session, stranger)
        query = select(placements.c.backend, placements.c.state)
        placed = await gateway.catalog.read(lambda c: c.execute(query).all())
        path = f"/v1/sessions/{session.session_id}"
        shown = await exchange(gateway.address, request("GET", path, session.user_token))

    assert {("disk", "placed"), ("node", "placed")} == {(p.backend, p.state) for p in placed}
    assert OPTED_IN == shown.json()["backends"]
    assert [] == stranger.server.received


async def refused(gateway: RunningGateway, **wanted: object) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        await open_session(gateway, "refused", **wanted)
    return caught.value.problem


async def test_what_a_gateway_could_not_have_is_refused(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        alone = await refused(gateway, backends=["stranger"], write_quorum=1)
        beside_disk = await refused(gateway, backends=["disk", "stranger"], write_quorum=1)
        counted = await refused(gateway, backends=OPTED_IN, write_quorum=3)
        unknown = await refused(gateway, backends=["disk", "nobody"])
        twice = await refused(gateway, backends=[*OPTED_IN, "stranger"])
        await open_session(gateway, backends=["stranger", "node"], write_quorum=1)

    assert ["backends[0]", "backends[1]"] == [alone["field"], beside_disk["field"]]
    for problem in (alone, beside_disk):
        assert (422, "invalid_field") == (problem["status"], problem["code"])
        assert "name one of node beside it" in problem["detail"]
    assert ("write_quorum", True) == (counted["field"], "from 1 to 2" in counted["detail"])
    assert "there are: disk, node, stranger" in unknown["detail"]
    assert "named twice" in twice["detail"]


async def test_what_was_erased_is_nobody_elses_business(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    leaves = (2 + RUNS_AHEAD) * LEAVES_IN_RUN
    content = made_bytes(leaves * LEAF, 2)
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger, content)
        object_id = urn.rpartition(":")[2]
        async with aclosing(gateway.gateway.services.reads.plaintext(object_id)) as download:
            await anext(download)
            erased = await fetch(gateway, urn, session.user_token, method="DELETE")
            await asyncio.to_thread(node.kill)
            with pytest.raises(Erased):
                async for _ in download:
                    pass
        gone = await read(gateway, session, urn)

    assert erased.status in (200, 202)
    gone.problem(410, "erased")
    assert [] == stranger.asked


async def test_a_check_asks_no_gateway_and_expects_nothing_of_it(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    url = stranger.server.endpoint
    async with running(tmp_path, node.api, url) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        await stored(gateway, session, stranger)
        parts = gateway.gateway.parts
        checker = Checker(
            catalog=parts.catalog,
            shelves={n: Disk(n, tmp_path / "disk", RealFs()) for n in ("disk", "node")},
            identities=parts.keyring.opening(),
            payloads=parts.payloads,
            marker=parts.marker,
        )
        expected = await asyncio.to_thread(checker.expected_bytes)
    found = await command_beside(
        *("check", "--json", "--data-dir", tmp_path / "data"),
        environment={"GATEWAY_BACKENDS": json.dumps(backends(tmp_path, node.api, url))},
    )

    assert 0 == found.status, found
    report = json.loads(found.out)
    assert expected == report["bytes_verified"] == 2 * sum(map(len, stranger.leaves.values()))
    assert (1, 0, []) == (report["objects"], report["segments_pending"], report["findings"])
    assert [] == stranger.server.received


async def test_a_stress_run_asks_no_gateway(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    url = stranger.server.endpoint
    async with running(tmp_path, node.api, url, enable_stress=True) as gateway:
        load = {"duration_s": 1, "clients": 2, "sizes": [1000], "seed": 1}
        whole = await carried_out(gateway, "missing-blob", **load)

    assert ("pass", {}) == (whole["verdict"], failed(whole))
    assert [] == stranger.server.received


async def test_one_that_is_not_configured_any_more_is_not_asked(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:
        session = await open_session(gateway, backends=OPTED_IN)
        urn = await stored(gateway, session, stranger)
    left = backends(tmp_path, node.api, stranger.server.endpoint)[:2]
    options = {"backends": left, "reserve_bytes": 0, "late_write_horizon_s": 6.0}
    async with running_gateway(tmp_path, **options) as gateway:
        found = await read(gateway, session, urn)
        denied = await upload(gateway, session.path("t2"), session.user_token, b"content")
        await take_away(tmp_path, node)
        unread = await read(gateway, session, urn)

    assert (200, CONTENT) == (found.status, found.body)
    denied.problem(503, "placement_impossible")
    unread.problem(503, "backend_unavailable")
    assert [] == stranger.asked


async def test_readiness_shows_it_and_counts_it_for_nothing(
    tmp_path: Path, node: IpfsNode, stranger: Stranger
) -> None:
    stranger.script = lambda _: Say(503)
    async with running(tmp_path, node.api, stranger.server.endpoint) as gateway:

        async def probed() -> dict[str, Any] | None:
            answer = await exchange(gateway.address, request("GET", "/readyz"))
            document = answer.json()
            assert (200, "ok") == (answer.status, document["status"])
            assert not [check for check in document["checks"] if "stranger" in check]
            return document if document["gateways"][0]["probed"] else None

        document = await eventually(probed, what="a look at the gateway")
        await take_away(tmp_path, node)
        stranger.script = stranger.has
        unready = await exchange(gateway.address, request("GET", "/readyz"))

    assert document is not None
    (shown,) = document["gateways"]
    assert ("stranger", [], ["unavailable"]) == (
        shown["name"],
        shown["resting"],
        [finding["kind"] for finding in shown["findings"]],
    )
    assert ["disk", "node"] == [store["name"] for store in document["stores"]]
    assert 503 == unready.status, "what it could serve is no store"
    assert [PROBE] == [r.target for r in stranger.server.received], "a stranger is asked seldom"
