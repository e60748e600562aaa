"""Goal: from a gateway of IPFS comes a leaf that is right, or an error that says nothing about
whether there is one; whatever it answers, and within the deadline.

Method: the gateway of a real node, which has the leaf or does not; a server that says what no real
one can be made to say: other bytes, too many, too few, pages, redirects, archives, nothing.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest

from storage_gateway.backends import Range
from storage_gateway.backends.health import FAILURES_MAX
from storage_gateway.backends.ipfs_gateway import (
    CAR_BYTES_MAX,
    IPFSGateway,
    IPFSGatewaySettings,
)
from storage_gateway.backends.metered import Operation
from storage_gateway.errors import (
    BackendUnavailable,
    BlobCorrupt,
    BlobMissing,
    Erased,
    GatewayError,
)
from tests.servers.ipfs import IpfsNode
from tests.servers.scripted import HANG, Received, Say, Script, Scripted, scripted
from urn import LEAF_SIZE

from .ipfs_node import Block, car, leaf, put

CONTENT = bytes(range(256)) * 100
LEAF = leaf(CONTENT)
OTHER = leaf(CONTENT[::-1])
RAW_TYPE = "application/vnd.ipld.raw"


def wanted(block: Block) -> Range:
    return Range("payload/0", 0, len(block.content), block.cid.digest)


@pytest.fixture
def node(ipfs: IpfsNode) -> Iterator[IpfsNode]:
    yield ipfs
    ipfs.revive()
    ipfs.clear()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@asynccontextmanager
async def opened(
    url: str, observe: Callable[[Operation], None] | None = None, **settings: float
) -> AsyncIterator[IPFSGateway]:
    gateway = IPFSGateway(
        IPFSGatewaySettings(name="stranger", url=url, **settings),  # type: ignore[arg-type] # times
        observe=observe,
    )
    try:
        yield gateway
    finally:
        await gateway.close()


@asynccontextmanager
async def saying(script: Script) -> AsyncIterator[tuple[IPFSGateway, Scripted]]:
    async with scripted(script) as server, opened(server.endpoint) as gateway:
        yield gateway, server


async def permit() -> None:
    """Let the gateway be asked."""


async def fetched(gateway: IPFSGateway, threads: ThreadPoolExecutor, block: Block = LEAF) -> bytes:
    return await gateway.fetch(wanted(block), bytes, threads, permit=permit)


async def test_a_leaf_comes_from_the_gateway_of_a_node(
    node: IpfsNode, threads: ThreadPoolExecutor
) -> None:
    whole = leaf(bytes(LEAF_SIZE))
    for block in (LEAF, whole):
        await asyncio.to_thread(put, node, block)
    seen: list[Operation] = []
    async with opened(node.gateway, seen.append) as gateway:
        found = [await fetched(gateway, threads, block) for block in (LEAF, whole)]
        report = await gateway.probe()

    assert [CONTENT, bytes(LEAF_SIZE)] == found
    assert (True, ()) == (report.raw, report.findings)
    assert [("stranger", "read", "ok")] * 2 == [(s.store, s.operation, s.outcome) for s in seen]
    assert [len(CONTENT), LEAF_SIZE] == [s.received for s in seen]


async def test_what_a_gateway_does_not_have_is_not_missing(
    node: IpfsNode, threads: ThreadPoolExecutor
) -> None:
    async with opened(node.gateway) as gateway:
        with pytest.raises(BackendUnavailable):
            await fetched(gateway, threads)
        await asyncio.to_thread(node.kill)
        with pytest.raises(BackendUnavailable, match="gateway stranger cannot be asked") as caught:
            await fetched(gateway, threads)

    assert str(node.gateway_port) not in str(caught.value), "clients need not know where it is"


async def test_what_is_asked_says_the_leaf_and_nothing_else(threads: ThreadPoolExecutor) -> None:
    def script(_: Received) -> Say:
        return Say(body=CONTENT, headers={"Set-Cookie": "known=1; Path=/"})

    async with (
        scripted(script) as server,
        # By its name: cookies of an address nobody keeps.
        opened(server.endpoint.replace("127.0.0.1", "localhost")) as gateway,
    ):
        for _ in range(2):
            assert CONTENT == await fetched(gateway, threads)

    asked = {(r.method, r.target, r.body) for r in server.received}
    assert {("GET", f"/ipfs/{LEAF.cid}?format=raw", b"")} == asked
    headers = server.received[1].headers
    assert {"host", "user-agent", "accept", "accept-encoding"} == set(headers) - {""}
    assert RAW_TYPE == headers["accept"]


PAGE = Say(body=b"<html>your leaf is here</html>", headers={"Content-Type": "text/html"})
LIES = {
    "another block": Say(body=OTHER.content, headers={"Content-Type": RAW_TYPE}),
    "one bit": Say(body=bytes([CONTENT[0] ^ 1]) + CONTENT[1:]),
    "a page": PAGE,
    "nothing": Say(),
    "too short": Say(body=CONTENT[:-1]),
    "too long": Say(body=CONTENT + b"x"),
    "far too long": Say(body=bytes(LEAF_SIZE + 1)),
    "compressed": Say(body=gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
async def test_a_lie_is_corrupt_and_goes_no_further(lie: Say, threads: ThreadPoolExecutor) -> None:
    seen: list[bytes] = []
    async with saying(lambda _: lie) as (gateway, _):
        with pytest.raises(BlobCorrupt, match="gateway stranger answered"):
            await gateway.fetch(wanted(LEAF), seen.append, threads, permit=permit)

    assert [] == seen


async def test_what_does_not_end_is_not_read_to_its_end(threads: ThreadPoolExecutor) -> None:
    endless = Say(body=bytes(2 * LEAF_SIZE), length=1 << 40)
    async with saying(lambda _: endless) as (gateway, _):
        with pytest.raises(BlobCorrupt, match="more than a leaf"):
            await fetched(gateway, threads)


async def test_the_digest_of_another_size_is_not_a_leaf(threads: ThreadPoolExecutor) -> None:
    async with saying(lambda _: Say(body=CONTENT)) as (gateway, _):
        short = Range("payload/0", 0, len(CONTENT) - 1, sha256(CONTENT).digest())
        with pytest.raises(BlobCorrupt):
            await gateway.fetch(short, bytes, threads, permit=permit)


STATUSES = [301, 302, 307, 401, 403, 404, 410, 412, 429, 500, 502, 503, 504]


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_that_is_no_answer_says_nothing_about_the_leaf(
    status: int, threads: ThreadPoolExecutor
) -> None:
    say = Say(status, CONTENT, {"Location": f"/ipfs/{OTHER.cid}"})
    async with saying(lambda _: say) as (gateway, server):
        with pytest.raises(BackendUnavailable) as caught:
            await fetched(gateway, threads)

    assert not isinstance(caught.value, BlobMissing)
    assert 1 == len(server.received), "no redirect is followed, and nothing is tried again"


async def test_an_answer_that_breaks_off_says_nothing(threads: ThreadPoolExecutor) -> None:
    broken = Say(body=CONTENT[:1000], length=len(CONTENT))
    async with saying(lambda _: broken) as (gateway, _):
        with pytest.raises(BackendUnavailable, match="cannot be asked"):
            await fetched(gateway, threads)


async def test_a_gateway_that_hangs_is_waited_for_until_its_deadline(
    threads: ThreadPoolExecutor,
) -> None:
    async with (
        scripted(lambda _: HANG) as server,
        opened(server.endpoint, deadline_s=0.2, idle_s=3600.0) as gateway,
    ):
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await fetched(gateway, threads)


def hangs_for_one(request: Received) -> Say | None:
    return HANG if str(LEAF.cid) in request.target else Say(body=OTHER.content)


async def test_who_waits_for_a_connection_of_ours_does_not_wait_for_the_gateway(
    threads: ThreadPoolExecutor,
) -> None:
    async with (
        scripted(hangs_for_one) as server,
        opened(server.endpoint, deadline_s=1.0, idle_s=3600.0, connections_max=1) as gateway,
    ):
        blocks = [LEAF] + 2 * FAILURES_MAX * [OTHER]
        asking = [fetched(gateway, threads, block) for block in blocks]
        first, *others = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(first, BackendUnavailable)
    assert 2 * FAILURES_MAX * [OTHER.content] == others
    assert gateway.reads.is_closed


async def test_what_is_erased_while_it_waits_for_a_connection_is_not_asked_for(
    threads: ThreadPoolExecutor,
) -> None:
    async with (
        scripted(hangs_for_one) as server,
        opened(server.endpoint, deadline_s=0.2, idle_s=3600.0, connections_max=1) as gateway,
    ):

        async def unless_asked() -> None:
            if server.received:
                raise Erased("the object was erased")

        first, second = await asyncio.gather(
            fetched(gateway, threads),
            gateway.fetch(wanted(OTHER), bytes, threads, permit=unless_asked),
            return_exceptions=True,
        )

    assert [BackendUnavailable, Erased] == [type(first), type(second)]
    assert 1 == len(server.received)


async def test_variables_of_the_environment_name_no_proxy(
    monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async with saying(lambda _: Say(body=CONTENT)) as (gateway, _):
        assert CONTENT == await fetched(gateway, threads)


def archives(archive: bytes, refusal: int = 406) -> Script:
    """Return what a gateway says that has archives alone."""

    def script(request: Received) -> Say:
        if "format=car" not in request.target:
            return Say(refusal)
        return Say(body=archive, headers={"Content-Type": "application/vnd.ipld.car; version=1"})

    return script


@pytest.mark.parametrize("refusal", [400, 406, 415, 501])
async def test_a_gateway_that_refuses_raw_blocks_is_asked_for_an_archive(
    refusal: int, threads: ThreadPoolExecutor
) -> None:
    async with saying(archives(car(LEAF, LEAF), refusal)) as (gateway, server):
        found = [await fetched(gateway, threads) for _ in range(2)]
        report = await gateway.probe()

    assert [CONTENT, CONTENT] == found
    targets = [r.target.partition("?")[2] for r in server.received]
    archive = "format=car&dag-scope=block"
    assert ["format=raw", archive, archive, "format=raw"] == targets, "once it is known, it is"
    assert (False, ["raw"]) == (report.raw, [finding.kind for finding in report.findings])
    assert () == report.refusals


ARCHIVES = {
    "another block": car(OTHER, OTHER),
    "a block that is not what its CID says": car(LEAF, Block(LEAF.cid, OTHER.content)),
    "a part": car(LEAF, LEAF)[:-1],
    "no archive": CONTENT,
    "nothing": b"",
    "too much": car(LEAF, LEAF, *[leaf(bytes([n]) * 500_000) for n in range(2)]),
    "too much of one": car(LEAF, leaf(bytes(LEAF_SIZE + 1)), LEAF),
}


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=list(ARCHIVES))
async def test_an_archive_without_the_leaf_is_corrupt(
    archive: bytes, threads: ThreadPoolExecutor
) -> None:
    async with saying(archives(archive)) as (gateway, _):
        with pytest.raises(BlobCorrupt, match="gateway stranger answered"):
            await fetched(gateway, threads)


async def test_a_whole_leaf_fits_into_an_archive(threads: ThreadPoolExecutor) -> None:
    whole = leaf(bytes(LEAF_SIZE))
    archive = car(whole, whole)
    async with saying(archives(archive)) as (gateway, _):
        assert whole.content == await fetched(gateway, threads, whole)

    assert len(archive) < CAR_BYTES_MAX


async def test_a_gateway_that_has_no_format_is_of_no_use(threads: ThreadPoolExecutor) -> None:
    async with saying(lambda _: Say(400)) as (gateway, _):
        with pytest.raises(BackendUnavailable, match="neither raw blocks nor archives"):
            await fetched(gateway, threads)


@pytest.mark.parametrize(
    ("say", "rests"), [(Say(503), True), (PAGE, True), (Say(404), False), (Say(410), False)]
)
async def test_one_that_fails_or_lies_rests_and_one_that_lacks_a_leaf_does_not(
    say: Say, rests: bool, threads: ThreadPoolExecutor
) -> None:
    async with saying(lambda _: say) as (gateway, server):
        for _ in range(FAILURES_MAX + 2):
            with pytest.raises(GatewayError):
                await fetched(gateway, threads)

    asked = FAILURES_MAX if rests else FAILURES_MAX + 2
    assert (asked, not rests) == (len(server.received), gateway.reads.is_closed)


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (PAGE, "probe"),
        (Say(404), "unavailable"),
        (Say(302, headers={"Location": "/"}), "unavailable"),
        (Say(200, length=5), "unavailable"),
    ],
    ids=str,
)
async def test_the_probe_tells_what_is_of_no_use(say: Say, kind: str) -> None:
    async with saying(lambda _: say) as (gateway, server):
        report = await gateway.probe()

    assert [kind] == [finding.kind for finding in report.refusals]
    assert None is report.raw
    assert ["/ipfs/bafkqaaa?format=raw"] == [r.target for r in server.received]


async def test_what_has_no_digest_is_not_asked_for(threads: ThreadPoolExecutor) -> None:
    async with saying(lambda _: Say(body=CONTENT)) as (gateway, server):
        with pytest.raises(ValueError, match="not a leaf"):
            await gateway.fetch(Range("payload/0", 0, 5), bytes, threads, permit=permit)

    assert [] == server.received
