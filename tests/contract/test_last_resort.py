"""Goal: a gateway of IPFS is asked for what no store serves, and for nothing else: not to be
quicker, not for a leaf that a store has right, not without leave; and what it says changes nothing
of what the stores said.

Method: stores that fail, hang, lie and lack what they are to have, and gateways that count what
they are asked for, which have it, do not, or lie.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storage_gateway.backends import LocalStore, Member, Range, Replicas, health
from storage_gateway.backends.faulty import StoreFaults
from storage_gateway.backends.ipfs_gateway import IPFSGateway, IPFSGatewaySettings, Permit
from storage_gateway.backends.last_resort import LastResort
from storage_gateway.errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    CatalogUnavailable,
    Erased,
    GatewayError,
)
from tests.servers.scripted import HANG, Received, Say, Script, Scripted, scripted

from .ipfs_node import Block, leaf
from .several import READS_FAIL, HungStore

LEAVES = [leaf(bytes([n]) * 1000) for n in b"abc"]
BY_CID = {str(block.cid): block.content for block in LEAVES}
KEYS = [f"payloads/{n}" for n in range(3)]


def has_all(request: Received) -> Say | None:
    """Say what a gateway says that has every leaf."""
    return Say(body=BY_CID[request.target.partition("?")[0].rpartition("/")[2]])


def absent(_: Received) -> Say:
    return Say(404)


def hangs(_: Received) -> Say | None:
    return HANG


def lying(_: Received) -> Say:
    return Say(body=b"another leaf")


def check(at: int, data: bytes) -> tuple[int, bytes]:
    """Return what was handed over, if it is right, as the real check does."""
    if data != LEAVES[at].content:
        raise BlobCorrupt(f"not leaf {at}")
    return at, data


async def permit() -> None:
    """Let gateways be asked."""


@dataclass
class Rig:
    """Two stores, and as many gateways as a test wants."""

    folder: Path
    stores: list[HungStore]
    threads: ThreadPoolExecutor
    opened: AsyncExitStack
    servers: list[Scripted] = field(default_factory=list)
    gateways: list[IPFSGateway] = field(default_factory=list)
    lost: list[type[Exception]] = field(default_factory=list)
    """What was wrong with leaves that a gateway served, and no store has right."""

    async def gateway(self, script: Script, **times: float) -> None:
        server = await self.opened.enter_async_context(scripted(script))
        settings = IPFSGatewaySettings(name="stranger", url=server.endpoint, **times)  # type: ignore[arg-type] # times
        gateway = IPFSGateway(settings)
        self.opened.push_async_callback(gateway.close)
        self.servers.append(server)
        self.gateways.append(gateway)

    def together(self) -> LastResort:
        replicas = Replicas([Member(s, domain=s.name) for s in self.stores], write_quorum=1)
        self.opened.push_async_callback(replicas.close)
        return LastResort(replicas, self.gateways)

    async def fetch(
        self, source: LastResort, leaves: Sequence[int] = (0, 1, 2), leave: Permit = permit
    ) -> list[tuple[int, bytes]]:
        ranges = [Range(KEYS[at], 0, 1000, LEAVES[at].cid.digest) for at in leaves]
        return await source.fetch(
            ranges,
            lambda at, data: check(leaves[at], data),
            self.threads,
            permit=leave,
            on_lost=self._note,
        )

    async def _note(self, error: Exception) -> None:
        self.lost.append(type(error))

    def asked(self, gateway: int = 0) -> list[Block]:
        """Return the leaves that a gateway was asked for, in order of their numbers."""
        targets = [r.target for r in self.servers[gateway].received]
        return [block for block in LEAVES if f"/ipfs/{block.cid}?format=raw" in targets]

    def fail(self, faults: StoreFaults = READS_FAIL) -> None:
        for store in self.stores:
            store.faults = faults

    async def let_rest(self, source: LastResort) -> None:
        """Let the stores fail until they rest; then they are well."""
        self.fail()
        for _ in range(health.FAILURES_MAX):
            await self.fetch(source, [0])
        self.fail(StoreFaults())

    def file(self, store: str, leaf_number: int) -> Path:
        return self.folder / store / KEYS[leaf_number]


ALL = [(at, block.content) for at, block in enumerate(LEAVES)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
async def rig(tmp_path: Path, threads: ThreadPoolExecutor) -> AsyncIterator[Rig]:
    plain = [LocalStore(tmp_path / name, name=name) for name in ("one", "two")]
    for store in plain:
        for key, block in zip(KEYS, LEAVES, strict=True):
            await store.put(key, block.content)
    async with AsyncExitStack() as opened:
        for store in plain:
            opened.push_async_callback(asyncio.to_thread, store.close)
        yield Rig(tmp_path, [HungStore(store) for store in plain], threads, opened)


async def test_while_a_store_serves_no_gateway_is_asked(rig: Rig) -> None:
    await rig.gateway(has_all)
    source = rig.together()
    rig.stores[0].faults = READS_FAIL
    rig.file("two", 1).unlink()
    well = await rig.fetch(source, [0, 2])
    rig.stores[0].heal()
    either = await rig.fetch(source)

    assert ([ALL[0], ALL[2]], ALL) == (well, either)
    assert [] == rig.asked()


async def test_a_store_that_is_slow_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is among stores, the next one would be asked, too, after a moment."""
    monkeypatch.setattr(health, "HEDGE_S", 0.0)
    await rig.gateway(has_all)
    for store in rig.stores:
        store.hang("read")
    reading = asyncio.create_task(rig.fetch(rig.together(), [0]))
    await asyncio.wait([reading], timeout=0.2)
    assert not reading.done()
    rig.stores[0].go_on.set()

    assert [ALL[0]] == await reading
    assert [] == rig.asked()
    rig.stores[1].go_on.set()


async def test_what_no_store_serves_comes_from_a_gateway(rig: Rig) -> None:
    await rig.gateway(has_all)
    rig.fail()

    assert ALL == await rig.fetch(rig.together())
    assert LEAVES == rig.asked()
    assert [] == rig.lost, "what is out of reach is not lost"


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("spoilt", ["gone", "wrong"])
async def test_only_what_no_store_has_right_is_asked_for(rig: Rig, spoilt: str, away: bool) -> None:
    await rig.gateway(has_all)
    if away:
        rig.stores[1].faults = READS_FAIL
    for store in ("one", "two"):
        if spoilt == "gone":
            rig.file(store, 1).unlink()
        else:
            rig.file(store, 1).write_bytes(bytes(1000))

    assert ALL == await rig.fetch(rig.together())
    assert [LEAVES[1]] == rig.asked()
    told = [BlobMissing if spoilt == "gone" else BlobCorrupt]
    assert ([] if away else told) == rig.lost


async def test_the_next_gateway_is_asked_for_what_the_first_does_not_serve(rig: Rig) -> None:
    def has_two(request: Received) -> Say | None:
        return Say(404) if str(LEAVES[2].cid) in request.target else has_all(request)

    await rig.gateway(has_two)
    await rig.gateway(has_all)
    rig.fail()

    assert ALL == await rig.fetch(rig.together())
    assert ([*LEAVES], [LEAVES[2]]) == (rig.asked(0), rig.asked(1))


@pytest.mark.parametrize("script", [absent, lying])
@pytest.mark.parametrize(
    ("state", "error"),
    [("away", BackendUnavailable), ("gone", BlobMissing), ("wrong", BlobCorrupt)],
)
async def test_where_no_gateway_helps_the_stores_have_the_last_word(
    rig: Rig, script: Script, state: str, error: type[GatewayError]
) -> None:
    await rig.gateway(script)
    if state == "away":
        rig.fail()
    for store in ("one", "two"):
        if state == "gone":
            rig.file(store, 0).unlink()
        elif state == "wrong":
            rig.file(store, 0).write_bytes(bytes(1000))

    with pytest.raises(error) as caught:
        await rig.fetch(rig.together(), [0])

    assert error is type(caught.value)
    assert [LEAVES[0]] == rig.asked()


async def test_without_leave_no_gateway_is_asked(rig: Rig) -> None:
    async def erased() -> None:
        raise Erased("the object was erased")

    async def unknown() -> None:
        raise CatalogUnavailable("the catalog does not answer")

    await rig.gateway(has_all)
    for store in ("one", "two"):
        rig.file(store, 0).unlink()
    source = rig.together()
    with pytest.raises(Erased):
        await rig.fetch(source, leave=erased)
    with pytest.raises(CatalogUnavailable):
        await rig.fetch(source, leave=unknown)

    assert [] == rig.asked()


@pytest.mark.parametrize("first", [hangs, absent, has_all])
async def test_what_is_erased_meanwhile_is_neither_asked_for_nor_returned(
    rig: Rig, first: Script
) -> None:
    async def unless_asked() -> None:
        if rig.servers[0].received:
            raise Erased("the object was erased")

    await rig.gateway(first, deadline_s=0.2, idle_s=3600.0)
    await rig.gateway(has_all)
    rig.fail()
    with pytest.raises(Erased):
        await rig.fetch(rig.together(), [0], leave=unless_asked)

    assert ([LEAVES[0]], []) == (rig.asked(0), rig.asked(1))


class Recovering:
    """What a gateway says that fails until it is well."""

    def __init__(self) -> None:
        self.well = False

    def __call__(self, request: Received) -> Say | None:
        return has_all(request) if self.well else Say(503)


@pytest.mark.parametrize("beside", [None, "has_first"])
async def test_a_gateway_that_rested_serves_several_leaves_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, beside: str | None
) -> None:
    def has_first(request: Received) -> Say | None:
        return has_all(request) if str(LEAVES[0].cid) in request.target else Say(404)

    monkeypatch.setattr(health, "RESTED_S", 0.0)
    if beside:
        await rig.gateway(has_first)
    recovering = Recovering()
    await rig.gateway(recovering)
    source = rig.together()
    rig.fail()
    for _ in range(health.FAILURES_MAX):
        with pytest.raises(BackendUnavailable):
            await rig.fetch(source, [1])
    assert not rig.gateways[-1].reads.is_closed
    recovering.well = True

    assert ALL == await rig.fetch(source)
    assert rig.gateways[-1].reads.is_closed


async def test_while_all_stores_rest_none_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "RESTED_S", 3600.0)
    await rig.gateway(has_all)
    source = rig.together()
    await rig.let_rest(source)
    for store in rig.stores:
        store.hang("read")

    assert ALL == await rig.fetch(source)
    for store in rig.stores:
        store.go_on.set()


async def test_stores_that_rest_are_asked_when_no_gateway_helps(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "RESTED_S", 3600.0)
    await rig.gateway(absent)
    source = rig.together()
    rig.fail()
    for _ in range(health.FAILURES_MAX):
        with pytest.raises(BackendUnavailable):
            await rig.fetch(source, [0])
    rig.fail(StoreFaults())

    assert ALL == await rig.fetch(source)


async def test_stores_that_rest_are_asked_when_the_catalog_gives_no_leave(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown() -> None:
        raise CatalogUnavailable("the catalog does not answer")

    monkeypatch.setattr(health, "RESTED_S", 3600.0)
    await rig.gateway(has_all)
    source = rig.together()
    await rig.let_rest(source)
    rig.servers[0].received.clear()

    assert ALL == await rig.fetch(source, leave=unknown)
    assert [] == rig.asked()


async def test_stores_that_have_rested_are_tried_again_and_then_asked_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "RESTED_S", 0.0)
    await rig.gateway(has_all)
    source = rig.together()
    await rig.let_rest(source)
    rig.servers[0].received.clear()

    assert ALL == await rig.fetch(source)
    assert [] == rig.asked()


async def test_a_gateway_that_hangs_ends_with_its_deadline(rig: Rig) -> None:
    await rig.gateway(lambda _: HANG, deadline_s=0.2, idle_s=3600.0)
    rig.fail()

    with pytest.raises(BackendUnavailable):
        await rig.fetch(rig.together())


async def test_when_one_leaf_is_not_served_the_others_are_not_waited_for(rig: Rig) -> None:
    def lacks_one(request: Received) -> Say | None:
        return Say(404) if str(LEAVES[1].cid) in request.target else HANG

    await rig.gateway(lacks_one, deadline_s=3600.0, idle_s=3600.0)
    rig.fail()

    with pytest.raises(BackendUnavailable):
        await rig.fetch(rig.together())


async def test_a_read_that_is_given_up_lets_go_of_the_gateway(rig: Rig) -> None:
    await rig.gateway(lambda _: HANG)
    rig.fail()
    reading = asyncio.create_task(rig.fetch(rig.together()))
    while len(rig.servers[0].received) < len(LEAVES):
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert rig.gateways[0].reads.is_closed
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "_ask_for" in str(task.get_coro())]
