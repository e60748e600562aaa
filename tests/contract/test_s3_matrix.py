"""Goal: each fault of a network before a bucket is a store that is unavailable, in time and for as
long as it lasts: never a missing blob, never wrong bytes taken for right. Method: a real server
behind the proxy of stress runs, one store object before, during and after each fault. What servers
say in words is in `test_s3_faults`, wrong buckets and credentials are in `test_s3`; docs/faults.md
is the table of all.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from storage_gateway.backends import BlobInfo, Range
from storage_gateway.backends.s3 import S3Store
from storage_gateway.errors import BackendUnavailable, BlobMissing
from storage_gateway.stress.tcp_faults import HOST, FaultKind, ProxyFault, Side
from storage_gateway.stress.tcp_proxy import TCPProxy, tcp_proxy
from tests.gateway import eventually
from tests.requirements import ROOT
from tests.servers.s3 import S3Server
from tests.servers.seaweedfs import SeaweedFS

from .s3 import MARKER, now, s3_settings

KEY = "d/main/payloads/p/0"
ABSENT = "d/main/payloads/p/absent"
DATA = Random(0).randbytes(300_000)
DEADLINE_S = 1.5
LATE_S_MAX = 3.0
"""What a loaded machine may add to a deadline."""

Use = Callable[[S3Store], Awaitable[object]]


def test_the_table_has_every_fault_and_names_tests_that_are_there() -> None:
    table = (ROOT / "docs" / "faults.md").read_text()

    assert {kind.name for kind in FaultKind} == set(re.findall(r"\(`([A-Z_]+)`\)", table))
    named = set(re.findall(r"`(test_\w+\.py)`", table))
    assert [] == [name for name in named if not (ROOT / "tests" / "contract" / name).exists()]


@asynccontextmanager
async def store_behind_proxy(
    server: S3Server, spool: Path
) -> AsyncIterator[tuple[S3Store, TCPProxy]]:
    """Open a store that is soon out of patience, with DATA at KEY."""
    bucket = await asyncio.to_thread(server.new_bucket)
    async with tcp_proxy(server.port, seed=1) as proxy:
        settings = s3_settings(
            server,
            bucket,
            endpoint=f"http://{HOST}:{proxy.port}",
            connect_s=1.0,
            idle_s=0.5,
            attempt_s=1.0,
            deadline_s=DEADLINE_S,
        )
        store = S3Store(settings, marker=MARKER, spool=spool, clock=now)
        try:
            await store.put(MARKER, b"marker")
            await store.put(KEY, DATA)
            yield store, proxy
        finally:
            await store.close()
            await asyncio.to_thread(server.revive)
            await asyncio.to_thread(server.drop, bucket)


async def finish(store: S3Store) -> None:
    writer = store.create(f"{KEY}-finished")
    await asyncio.to_thread(writer.write, 0, memoryview(DATA))
    assert (store.name,) == await writer.finish()


async def fetch(store: S3Store) -> None:
    def check(_: int, data: bytes | memoryview) -> None:
        if data != DATA:
            raise ValueError("these are other bytes")

    with ThreadPoolExecutor(1) as threads:
        await store.fetch([Range(KEY, 0, len(DATA))], check, threads)


async def get(store: S3Store) -> None:
    assert DATA[10:] == await store.get(KEY, 10, len(DATA) - 10)


async def stat(store: S3Store) -> None:
    assert BlobInfo(KEY, len(DATA)) == await store.stat(KEY)


async def list_all(store: S3Store) -> None:
    assert KEY in [blob.key async for blob in store.list("d/")]


async def miss(store: S3Store) -> None:
    with pytest.raises(BlobMissing):
        await store.stat(ABSENT)


READS: dict[str, Use] = {
    "get": get,
    "fetch": fetch,
    "stat": stat,
    "list": list_all,
    "miss": miss,
}
PUTS: dict[str, Use] = {"put": lambda store: store.put(f"{KEY}-put", DATA), "finish": finish}
DELETE: dict[str, Use] = {"delete": lambda store: store.delete(ABSENT)}
USES = READS | PUTS | DELETE


async def seen(store: S3Store, use: Use) -> str:
    """Return the name of the error that a caller sees, once it came in time."""
    began_s = time.monotonic()
    try:
        await use(store)
    except Exception as error:  # noqa: BLE001 - told by its name
        told = type(error).__name__
    else:
        told = "nothing"
    assert time.monotonic() - began_s < DEADLINE_S + LATE_S_MAX
    return told


def in_body(kind: FaultKind, side: Side = Side.ANSWER) -> ProxyFault:
    return ProxyFault(kind=kind, side=side)


@pytest.mark.parametrize(
    ("fault", "uses"),
    [
        (ProxyFault(kind=FaultKind.REFUSE), USES),
        (ProxyFault(kind=FaultKind.SILENCE), USES),
        (ProxyFault(kind=FaultKind.LOSE_ANSWER), USES),
        (ProxyFault(kind=FaultKind.TRICKLE, trickle_bytes_per_s=20.0), USES),
        (in_body(FaultKind.STALL), READS),
        (in_body(FaultKind.RESET), READS),
        (in_body(FaultKind.TRUNCATE), READS),
        (in_body(FaultKind.STALL, Side.REQUEST), PUTS),
        (in_body(FaultKind.RESET, Side.REQUEST), PUTS),
        (in_body(FaultKind.TRUNCATE, Side.REQUEST), PUTS),
    ],
    ids=lambda value: (
        f"{value.kind}-{value.side}" if isinstance(value, ProxyFault) else f"{len(value)} uses"
    ),
)
async def test_a_fault_is_unavailable_while_it_lasts(
    s3_server: SeaweedFS, tmp_path: Path, fault: ProxyFault, uses: dict[str, Use]
) -> None:
    async with store_behind_proxy(s3_server, tmp_path) as (store, proxy):
        await proxy.inject(fault)
        told = await asyncio.gather(*(seen(store, use) for use in uses.values()))
        await proxy.heal()

        unavailable = BackendUnavailable.__name__
        assert dict.fromkeys(uses, unavailable) == dict(zip(uses, told, strict=True))
        assert fault.kind is FaultKind.REFUSE or proxy.happened >= len(uses)
        for name, use in USES.items():
            assert (name, "nothing") == (name, await seen(store, use))
        assert DATA == await store.get(f"{KEY}-put", 0, len(DATA))


async def test_a_put_whose_body_is_late_fails_and_comes_all_the_same(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with store_behind_proxy(s3_server, tmp_path) as (store, proxy):
        await proxy.inject(
            ProxyFault(kind=FaultKind.LATE, late_s=2 * DEADLINE_S, requests=(b"PUT",))
        )
        assert BackendUnavailable.__name__ == await seen(store, PUTS["put"])

        async def has_come() -> bool:
            try:
                return DATA == await store.get(f"{KEY}-put", 0, len(DATA))
            except BlobMissing:
                return False

        await eventually(has_come, what="the late put")


async def test_a_flipped_bit_of_an_answer_is_for_the_reader_to_see(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with store_behind_proxy(s3_server, tmp_path) as (store, proxy):
        await proxy.inject(ProxyFault(kind=FaultKind.FLIP, after_bytes=200_000))

        assert ValueError.__name__ == await seen(store, fetch)
        await proxy.heal()
        assert "nothing" == await seen(store, fetch)


async def test_a_flipped_bit_of_a_put_is_for_the_reader_to_see(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    """This server does not look at the digest of the body that was signed, so only a reader can."""
    async with store_behind_proxy(s3_server, tmp_path) as (store, proxy):
        await proxy.inject(in_body(FaultKind.FLIP, Side.REQUEST))
        await store.put(KEY, DATA)
        await proxy.heal()

        assert 1 == proxy.happened
        assert ValueError.__name__ == await seen(store, fetch)


@pytest.mark.parametrize("name", USES)
async def test_an_answer_that_is_lost_three_times_is_asked_for_again(
    s3_server: SeaweedFS, tmp_path: Path, name: str
) -> None:
    async with store_behind_proxy(s3_server, tmp_path) as (store, proxy):
        await proxy.inject(ProxyFault(kind=FaultKind.LOSE_ANSWER, connections_max=3))

        assert "nothing" == await seen(store, USES[name])
        assert 3 == proxy.happened
        for key in [blob.key async for blob in store.list("d/")]:
            assert DATA == await store.get(key, 0, len(DATA))


async def test_a_killed_server_is_unavailable_until_it_is_back(
    s3_server: SeaweedFS, tmp_path: Path
) -> None:
    async with store_behind_proxy(s3_server, tmp_path) as (store, _):
        await asyncio.to_thread(s3_server.kill)
        told = await asyncio.gather(*(seen(store, use) for use in USES.values()))
        await asyncio.to_thread(s3_server.start)

        assert {BackendUnavailable.__name__} == set(told)
        for name, use in USES.items():
            assert (name, "nothing") == (name, await seen(store, use))
