"""Goal: what is answered 201 is in as many failure domains as it must be, its manifest too; what is
erased leaves no copy of its head, however late one comes.

Method: a real gateway over two folders, one of which is made to refuse copies; what lies there.
"""

import asyncio
from functools import partial
from typing import cast

import pytest
from sqlalchemy import select, text

from crypto import CopySealer, recovery_identity
from storage_gateway.backends import LocalStore
from storage_gateway.catalog.outbox import Due, copy_came, expect_copy, load_copy
from storage_gateway.catalog.tables import graves, objects, outbox
from storage_gateway.errors import BackendUnavailable
from storage_gateway.manifest_copies import OBJECT, ObjectCopy, decode_copy, parse_copy_name
from storage_gateway.outbox import NAME, OutboxReport
from storage_gateway.passes import Turn
from tests.gateway import DEADLINE_S, RunningGateway, eventually, open_session, running_gateway
from tests.http.raw import exchange, request
from tests.http.steps import fetch, upload, uploaded
from tests.http.test_replicas import NAMES, Folders, folders, running

__all__ = ["folders"]

pytestmark = pytest.mark.both_databases


async def copies(folders: Folders, gateway: RunningGateway, name: str) -> dict[str, bytes]:
    """Return the copies of manifests in a folder, by their keys."""
    prefix, root = gateway.gateway.parts.prefix, folders.path / name

    def look() -> dict[str, bytes]:
        files = [path for path in (root / prefix).rglob("*") if path.is_file()]
        keys = {str(path.relative_to(root)): path for path in files}
        return {k: path.read_bytes() for k, path in keys.items() if parse_copy_name(prefix, k)}

    return await asyncio.to_thread(look)


async def of_objects(folders: Folders, gateway: RunningGateway, name: str) -> list[str]:
    """Return them as object and generation."""
    found = [key.split("/manifests/") for key in await copies(folders, gateway, name)]
    return sorted(parts[1] for parts in found if len(parts) > 1)


async def is_brought(gateway: RunningGateway) -> bool:
    rows = await gateway.catalog.read(lambda c: c.execute(select(outbox)).all())
    return not rows


async def pass_over_copies(gateway: RunningGateway) -> OutboxReport:
    """Run a pass to its end, once the gateway's own ones let go of their turn."""

    async def ended() -> OutboxReport | None:
        report = await gateway.gateway.upkeep.outbox.run_once(at_once=True)
        return report if report.ended else None

    return cast("OutboxReport", await eventually(ended, what="a pass"))


def object_id_of(urn: str) -> str:
    return urn.rpartition(":")[2]


def refusing(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Have stores refuse copies of manifests, and nothing else."""
    true_put = LocalStore.put

    async def put(self: LocalStore, key: str, data: bytes) -> None:
        if self.name in names and "/manifests/" in key:
            raise BackendUnavailable(f"{self.name} refuses copies")
        await true_put(self, key, data)

    patch.setattr(LocalStore, "put", put)


async def test_a_copy_is_in_every_store_before_the_answer(folders: Folders) -> None:
    async with running(folders, header_copies=3) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        for name in NAMES:
            assert [f"{object_id}/1"] == await of_objects(folders, gateway, name)
        found = await copies(folders, gateway, NAMES[0])
        assert found == await copies(folders, gateway, NAMES[1])
        parts = gateway.gateway.parts
        sealer = CopySealer(parts.copies_identity, parts.deployment_id)
        recovery = recovery_identity(parts.copies_identity)
        said = [decode_copy(sealer.open(k, data, recovery)) for k, data in found.items()]
        stored = await gateway.catalog.read(lambda c: load_copy(c, OBJECT, object_id))
    assert stored in said
    assert isinstance(stored, ObjectCopy)
    assert stored.head is not None
    assert all(stored.head not in data for data in found.values())
    assert 2 == len(said), "the session's, too"


async def test_without_enough_copies_there_is_no_201(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folders, header_copies=2) as (gateway, session):
        with monkeypatch.context() as patch:
            patch.setattr("storage_gateway.outbox.WAIT_S_MAX", 0.3)
            refusing(patch, NAMES[0])
            await uploaded(gateway, session.path("t1"), session.user_token, b"one has it")
            refusing(patch, *NAMES)
            answer = await upload(gateway, session.path("t2"), session.user_token, b"none has it")
            answer.problem(503, "copies_late")
        again = await upload(gateway, session.path("t2"), session.user_token, b"none has it")
        again.problem(409, "slot_taken")
        read = await fetch(gateway, again.json()["urn"], session.user_token)
        assert 200 == read.status
        report = await pass_over_copies(gateway)
        assert (2, 0, True) == (report.brought, report.failed, report.ended)
        assert await is_brought(gateway)
        assert 2 == len(await of_objects(folders, gateway, NAMES[0]))
        assert await copies(folders, gateway, NAMES[0]) == await copies(folders, gateway, NAMES[1])


async def test_stores_of_one_failure_domain_count_once(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = {"kind": "local", "name": "three", "path": str(folders.path / "three")}
    backends = [*({"failure_domain": "rack"} | each for each in folders.backends()), third]
    settings = {"backends": backends, "reserve_bytes": 0, "header_copies": 3}
    async with running_gateway(folders.path, **settings) as gateway:
        session = await open_session(gateway, "101")
        monkeypatch.setattr("storage_gateway.outbox.WAIT_S_MAX", 0.3)
        refusing(monkeypatch, "three")
        answer = await upload(gateway, session.path("t1"), session.user_token, b"in one rack")
        answer.problem(503, "copies_late")


async def test_what_nobody_waits_for_comes_by_itself(folders: Folders) -> None:
    async with running(folders, header_copies=1) as (gateway, session):
        for task in range(5):
            await uploaded(gateway, session.path(f"t{task}"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        assert 5 == len(await of_objects(folders, gateway, NAMES[1]))


async def test_a_pass_by_hand_ends_in_time_and_syncs_not_for_each_copy(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, kept, true_keep = 12, list[str](), Turn.keep

    async def keep(self: Turn, position: str) -> None:
        kept.extend([position] if self._name == NAME else [])
        await true_keep(self, position)

    async with running(folders) as (gateway, session):
        for task in range(count):
            await uploaded(gateway, session.path(f"t{task}"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        ids = await gateway.catalog.read(
            lambda c: c.execute(select(objects.c.object_id)).scalars().all()
        )
        for object_id in ids:
            await gateway.catalog.run(partial(expect_copy, due=Due(OBJECT, object_id, 1)))
        for _ in range(3):  # or one of the gateway's own is at it
            assert OutboxReport() == await gateway.gateway.upkeep.run_pass("copies", 0.0)
        monkeypatch.setattr(Turn, "keep", keep)
        report = await pass_over_copies(gateway)

    assert (count, 0, True) == (report.brought, report.failed, report.ended)
    assert len(kept) < count


async def test_a_session_has_a_copy_whose_name_says_nothing(folders: Folders) -> None:
    async with running(folders, header_copies=2) as (gateway, _):
        await open_session(gateway, "secret.project")
        await eventually(lambda: is_brought(gateway), what="the copies")
        found = await copies(folders, gateway, NAMES[0])
    assert 2 == len(found)
    assert not any("secret" in key or b"secret" in data for key, data in found.items())


async def erased(gateway: RunningGateway, urn: str, token: str) -> None:
    answer = await exchange(gateway.address, request("DELETE", f"/v1/objects/{urn}", token))
    assert 202 == answer.status


async def state_of(gateway: RunningGateway, object_id: str) -> str:
    query = select(objects.c.state).where(objects.c.object_id == object_id)
    return await gateway.catalog.read(lambda c: str(c.execute(query).scalar_one()))


async def test_an_erased_object_leaves_a_tombstone_and_no_head(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await eventually(lambda: is_brought(gateway), what="the copies")

        await erased(gateway, made["urn"], session.user_token)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased"

        await eventually(is_erased, what="the erasure")
        for name in NAMES:
            assert [f"{object_id}/2"] == await of_objects(folders, gateway, name)


async def test_it_is_not_erased_while_no_store_has_the_tombstone(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folders, late_write_horizon_s=0.05) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await eventually(lambda: is_brought(gateway), what="the copies")
        with monkeypatch.context() as patch:
            refusing(patch, *NAMES)
            await erased(gateway, made["urn"], session.user_token)
            began = gateway.gateway.recovery.passes

            async def some_passes() -> bool:
                return gateway.gateway.recovery.passes > began + 3

            await eventually(some_passes, what="recovery")
            assert "erasing" == await state_of(gateway, object_id)

        await pass_over_copies(gateway)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased"

        await eventually(is_erased, what="the erasure")
        assert [f"{object_id}/2"] == await of_objects(folders, gateway, NAMES[1])


async def test_a_copy_that_comes_after_the_tombstone_goes_again(folders: Folders) -> None:
    """As of a process that was paused with it in its hands."""
    async with running(folders, late_write_horizon_s=0.05) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await eventually(lambda: is_brought(gateway), what="the copies")
        late = await copies(folders, gateway, NAMES[0])
        await erased(gateway, made["urn"], session.user_token)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased"

        await eventually(is_erased, what="the erasure")
        for key, data in late.items():
            if f"/{object_id}/" in key:
                await put_late(gateway, key, data)

        assert "erasing" == await state_of(gateway, object_id)
        await eventually(is_erased, what="the erasure")
        for name in NAMES:
            assert [f"{object_id}/2"] == await of_objects(folders, gateway, name)


async def test_a_copy_on_its_way_when_its_object_is_erased_goes_again(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_held, goes_on = asyncio.Event(), asyncio.Event()
    true_put = LocalStore.put

    async def put(self: LocalStore, key: str, data: bytes) -> None:
        if self.name == NAMES[0] and "/manifests/" in key and key.endswith("/1"):
            is_held.set()
            await goes_on.wait()
        await true_put(self, key, data)

    monkeypatch.setattr(LocalStore, "put", put)
    async with running(folders, header_copies=1, late_write_horizon_s=0.05) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await asyncio.wait_for(is_held.wait(), DEADLINE_S)
        await erased(gateway, made["urn"], session.user_token)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased"

        await eventually(is_erased, what="the erasure")
        goes_on.set()
        await gateway.gateway.upkeep.outbox.wait()

        for name in NAMES:
            assert [f"{object_id}/2"] == await of_objects(folders, gateway, name)
        await eventually(is_erased, what="the erasure, once more")


async def put_late(gateway: RunningGateway, key: str, data: bytes) -> None:
    """Put a copy, and do what who brings it does afterwards."""
    parts = gateway.gateway.parts
    for member in parts.members:
        await member.store.put(key, data)
    name = parse_copy_name(parts.prefix, key)
    assert name is not None
    due = Due(name.kind, name.name, name.generation)
    assert not await gateway.catalog.run(lambda c: copy_came(c, due, stores=NAMES))


async def test_one_that_nobody_tells_of_is_found_within_the_horizon(folders: Folders) -> None:
    async with running(folders, late_write_horizon_s=4.0) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await eventually(lambda: is_brought(gateway), what="the copies")
        late = await copies(folders, gateway, NAMES[0])
        await erased(gateway, made["urn"], session.user_token)

        async def is_told() -> bool:
            return [f"{object_id}/2"] == await of_objects(folders, gateway, NAMES[1])

        await eventually(is_told, what="the tombstone")
        for key, data in late.items():
            if f"/{object_id}/" in key:
                await gateway.gateway.parts.members[1].store.put(key, data)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased"

        await eventually(is_erased, what="the erasure")
        for name in NAMES:
            assert [f"{object_id}/2"] == await of_objects(folders, gateway, name)
        left = await gateway.catalog.read(lambda c: c.execute(select(graves)).all())
    assert [] == list(left)


async def test_a_store_that_is_new_gets_all_copies(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        before = await copies(folders, gateway, NAMES[0])
        one = NAMES[1]

        def forget_marker() -> None:
            marker = folders.path / one / gateway.gateway.parts.marker
            for path in (folders.path / one).rglob("*"):
                if path.is_file() and path != marker:
                    path.unlink()

        await asyncio.to_thread(forget_marker)
        statement = "DELETE FROM markers WHERE backend = 'two'"
        await gateway.catalog.run(lambda c: c.execute(text(statement)))
    async with running(folders) as (gateway, _):

        async def are_brought() -> bool:
            await pass_over_copies(gateway)
            return await is_brought(gateway)

        await eventually(are_brought, what="the copies")
        assert before.items() <= (await copies(folders, gateway, one)).items()
