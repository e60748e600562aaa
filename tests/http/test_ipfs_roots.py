"""Goal: a payload of several segments is one file in the node, under the CID of its manifest,
soon after its commit and whatever comes between; nothing of it is pinned once it is erased.

Method: a real gateway over a real node; what is between commit and root is broken, or an erasure
put there.
"""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.backends.kubo import KuboClient
from storage_gateway.catalog.objects import list_objects
from storage_gateway.catalog.roots import RootKey, list_roots
from storage_gateway.catalog.tables import roots
from storage_gateway.errors import BackendUnavailable
from tests.gateway import RunningGateway, eventually
from tests.http.passes import repair_of
from tests.http.steps import SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_ipfs import disk_backend, ipfs_backend, node, read, running
from tests.servers.ipfs import IpfsNode

__all__ = ["node"]

pytestmark = pytest.mark.both_databases(by_day=False)

CONTENT = made_bytes(SEGMENT + 1)
SOON = {"recovery_interval_s": 0.2}


async def to_come(gateway: RunningGateway) -> list[RootKey]:
    return await gateway.catalog.read(lambda c: list_roots(c, ("", ""), 10))


async def all_to_come(gateway: RunningGateway) -> list[str]:
    """Return also what cannot come yet."""
    query = select(roots.c.payload_id)
    return list(await gateway.catalog.read(lambda c: c.execute(query).scalars().all()))


async def cat(node: IpfsNode, cid: str) -> bytes | None:
    status, answer = await asyncio.to_thread(node.ask, f"cat?arg={cid}&offline=true")
    return answer if status == 200 else None


async def test_all_of_it_is_found_under_its_cid(tmp_path: Path, node: IpfsNode) -> None:
    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        token = session.user_token
        before = await asyncio.to_thread(node.pins)
        made = await uploaded(gateway, session.path("t1"), token, CONTENT)
        sealed = (await fetch(gateway, made["urn"], token)).body
        await asyncio.to_thread(node.gc)
        found = await cat(node, made["cid"])
        pinned = await asyncio.to_thread(node.pins)
        assert [] == await to_come(gateway)
        await fetch(gateway, made["urn"], token, method="DELETE")
        left = await asyncio.to_thread(node.pins)

    assert found is not None
    assert sealed.endswith(found)
    assert made["sealed_size"] - len(found) < 4096, "all but the head"
    assert 2 + 1 == len(pinned - before), "two segments and what is above both"
    assert before == left


async def test_one_that_does_not_come_at_once_comes_later(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise BackendUnavailable("no")

    async with running(tmp_path, ipfs_backend(node)) as (gateway, session):
        with monkeypatch.context() as patched:
            patched.setattr(IPFSStore, "complete", fail)
            made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
            await gateway.gateway.upkeep.roots.bring_all()
            assert 1 == len(await to_come(gateway))
            assert None is await cat(node, made["cid"])
    async with running(tmp_path, ipfs_backend(node)) as (gateway, _):  # after a restart
        await gateway.gateway.upkeep.roots.bring_all()
        assert [] == await to_come(gateway)
        found = await cat(node, made["cid"])
        assert CONTENT == await read(gateway, session, made["urn"])

    assert found is not None


async def test_a_store_without_nodes_expects_none(tmp_path: Path) -> None:
    async with running(tmp_path, disk_backend(tmp_path)) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)

        assert [] == await to_come(gateway)


async def test_while_a_segment_lacks_the_root_does_not_come(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a write that only the other store took."""
    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=1, **SOON) as (gateway, session):
        with monkeypatch.context() as patched:
            patched.setattr(KuboClient, "import_car", _refuse)
            made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        assert 0 == await gateway.gateway.upkeep.roots.bring_all()
        assert 1 == len(await all_to_come(gateway))
        before = await asyncio.to_thread(node.pins)
        await fetch(gateway, made["urn"], session.user_token, method="DELETE")

        async def is_given_up() -> bool:
            return await all_to_come(gateway) == []

        await eventually(is_given_up, what="an end of the waiting for the root")
        assert 1 == len(await asyncio.to_thread(node.pins)) == len(before), "the marker"


async def _refuse(*_: object) -> None:
    raise BackendUnavailable("no")


async def test_of_one_erased_meanwhile_nothing_stays_pinned(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the erasure goes through all pins while the root is on its way."""
    complete = IPFSStore.complete
    async with running(tmp_path, ipfs_backend(node), recovery_interval_s=3600) as (
        gateway,
        session,
    ):
        before = await asyncio.to_thread(node.pins)
        erased = []

        async def erase_then_complete(
            store: IPFSStore, key: str, leaves: tuple[bytes, ...], size: int
        ) -> None:
            (manifest,) = await gateway.catalog.read(
                lambda c: list_objects(c, None, after=None, limit=2)
            )
            erased.append(await gateway.gateway.services.erasure.erase(manifest.object_id))
            assert before == await asyncio.to_thread(node.pins)
            await complete(store, key, leaves, size)
            assert 1 == len(await asyncio.to_thread(node.pins) - before)

        monkeypatch.setattr(IPFSStore, "complete", erase_then_complete)
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)

        assert 1 == len(erased)
        assert [] == await to_come(gateway)
        assert before == await asyncio.to_thread(node.pins)


async def test_a_node_that_was_away_gets_its_copies_and_the_root(
    tmp_path: Path, node: IpfsNode
) -> None:
    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=1, recovery_interval_s=3600) as (
        gateway,
        session,
    ):
        await asyncio.to_thread(node.kill)
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        await asyncio.to_thread(node.start)
        sealed = (await fetch(gateway, made["urn"], session.user_token)).body
        assert 0 == await gateway.gateway.upkeep.roots.bring_all()

        report = await repair_of(gateway, tmp_path).run_once()
        assert 1 == await gateway.gateway.upkeep.roots.bring_all()
        found = await cat(node, made["cid"])

    assert (2, 0) == (report.made, report.failed)
    assert found is not None
    assert sealed.endswith(found)


async def test_one_that_never_comes_keeps_no_other_waiting(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a node that looks for a block which nobody has until the deadline."""
    complete = IPFSStore.complete
    broken: set[str] = set()

    async def complete_some(
        store: IPFSStore, key: str, leaves: tuple[bytes, ...], size: int
    ) -> None:
        if not broken or key in broken:
            broken.add(key)
            raise BackendUnavailable("did not answer in time")
        await complete(store, key, leaves, size)

    async def fail(*_: object) -> None:
        raise BackendUnavailable("no")

    async with running(tmp_path, ipfs_backend(node), recovery_interval_s=3600) as (
        gateway,
        session,
    ):
        monkeypatch.setattr(IPFSStore, "complete", fail)
        for at in range(4):
            await uploaded(gateway, session.path(f"t{at}"), session.user_token, CONTENT)
        assert 4 == len(await to_come(gateway))
        monkeypatch.setattr(IPFSStore, "complete", complete_some)
        brought = [await gateway.gateway.upkeep.roots.bring_all() for _ in range(2)]

        assert [0, 3] == brought, "the first one is left behind, and no other"
        assert 1 == len(await to_come(gateway)) == len(broken)


async def test_where_a_segment_lacks_no_sender_waits_for_the_root(
    tmp_path: Path, node: IpfsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def refuse_first(client: KuboClient, *arguments: object) -> None:
        asked.append(arguments)
        if len(asked) == 1:
            raise BackendUnavailable("no")
        await import_car(client, *arguments)  # type: ignore[arg-type]

    import_car = KuboClient.import_car
    backends = [disk_backend(tmp_path), ipfs_backend(node)]
    async with running(tmp_path, *backends, write_quorum=1, recovery_interval_s=3600) as (
        gateway,
        session,
    ):
        monkeypatch.setattr(KuboClient, "import_car", refuse_first)
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)

        assert [] == await to_come(gateway)
        assert 1 == len(await all_to_come(gateway))
        assert 0 == await gateway.gateway.upkeep.roots.bring_all()
    assert 2 == len(asked), "of the two segments, and of no root"
