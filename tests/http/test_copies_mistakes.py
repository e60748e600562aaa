"""Goal: what operators, stores and clocks do wrong costs no copy of a manifest, and no payload.

Method: a real gateway over two folders; what is wrong is done to its catalog, its stores or its
files by hand, then the passes run.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, update

from crypto import CopySealer, X25519Identity, format_identity_file, recovery_identity
from storage_gateway.backends import LocalStore
from storage_gateway.backends.contract import BlobInfo
from storage_gateway.catalog.high_water import high_water, is_behind, set_behind
from storage_gateway.catalog.outbox import Due, copy_came, expect_copy, is_due
from storage_gateway.catalog.tables import intents, objects, outbox, slots
from storage_gateway.compare import Compare, CompareReport
from storage_gateway.custody import COPIES_FILE, recipient_of_copies
from storage_gateway.high_water import mark_key
from storage_gateway.manifest_copies import OBJECT, SESSION, CopyName
from storage_gateway.stores import STORE_FOLDER
from tests.commands import command_beside
from tests.gateway import RunningGateway, eventually, open_session, running_gateway
from tests.http.steps import fetch, uploaded
from tests.http.test_manifest_copies import (
    copies,
    erased,
    is_brought,
    object_id_of,
    of_objects,
    pass_over_copies,
    refusing,
    state_of,
)
from tests.http.test_rebuild import Lost, lost, new_token, rebuilt
from tests.http.test_replicas import NAMES, Folders, folders, placed, running

__all__ = ["folders", "lost"]


async def test_a_payload_whose_manifest_a_store_has_is_not_deleted(folders: Folders) -> None:
    """The database went back under a living gateway: the upload seems to be its own, and open."""
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        files = await folders.payload_files("one")
        object_id, payload_id = object_id_of(made["urn"]), files[0].parent.name
        intent = {"object_id": object_id, "payload_id": payload_id, "fence": 1, "state": "open"}
        owner = {"instance_id": gateway.gateway._instance.instance_id, "created_ms": 0}

        def go_back(connection: Connection) -> None:
            connection.execute(delete(objects))
            connection.execute(insert(intents), intent | owner)

        await gateway.catalog.run(go_back)
        await gateway.gateway.recovery.run_once()
        await gateway.gateway.recovery.run_once()

        assert await gateway.catalog.read(is_behind)
        assert files == await folders.payload_files("one")


async def test_a_pass_takes_no_copy_away(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        before = await copies(folders, gateway, "one")
        due = Due(OBJECT, object_id_of(made["urn"]), 1)
        refusing(monkeypatch, *NAMES)
        await gateway.catalog.run(lambda c: expect_copy(c, due))

        await pass_over_copies(gateway)
        assert await is_brought(gateway)
        assert before == await copies(folders, gateway, "one")


async def test_a_part_of_a_copy_is_made_whole(folders: Folders) -> None:
    """As a crash leaves it."""
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        before = await copies(folders, gateway, "one")
        due = Due(OBJECT, object_id_of(made["urn"]), 1)
        (file,) = (folders.path / "one").rglob(f"manifests/{due.record_id}/1")
        for part in (b"", file.read_bytes()[:100], bytes(file.stat().st_size)):
            await asyncio.to_thread(file.write_bytes, part)
            await gateway.catalog.run(lambda c: expect_copy(c, due))

            await pass_over_copies(gateway)
            assert await is_brought(gateway)
            assert before == await copies(folders, gateway, "one")


async def test_the_mark_is_not_raised_past_a_store_that_is_away(folders: Folders) -> None:
    async with running(folders) as (gateway, _):
        marks = gateway.gateway.upkeep.high_water
        await eventually(marks.seen, what="the gateway's own mark")
        before = await gateway.catalog.read(high_water)
        await folders.vanish("two")
        await marks.raise_mark()
        assert before == await gateway.catalog.read(high_water)
        await folders.come_back("two")
        await marks.raise_mark()
        assert before + 1 == await gateway.catalog.read(high_water)


async def test_a_mark_that_is_made_up_counts_for_nothing(folders: Folders) -> None:
    async with running(folders) as (gateway, _):
        marks, prefix = gateway.gateway.upkeep.high_water, gateway.gateway.parts.prefix
        seen = await eventually(marks.seen, what="the gateway's own mark")
        for key in (mark_key(prefix, 10**17), mark_key(prefix, seen + 1)):
            await gateway.gateway.parts.members[0].store.put(key, b"storage-gateway mark\n")
        assert seen == await marks.seen()
        await marks.check()


async def test_a_copy_that_was_to_come_in_a_year_comes_now(folders: Folders) -> None:
    """The clock had been set forward, and back."""
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        due = Due(OBJECT, object_id_of(made["urn"]), 1)
        await eventually(lambda: is_brought(gateway), what="the copies")
        await gateway.catalog.run(lambda c: expect_copy(c, due))
        later = update(outbox).values(created_ms=outbox.c.created_ms + 365 * 86_400_000)
        await gateway.catalog.run(lambda c: c.execute(later).close())
        await gateway.gateway.recovery.run_once()

        await pass_over_copies(gateway)
        assert await is_brought(gateway)


async def test_who_does_not_know_of_a_store_does_not_say_that_it_has_a_copy(
    folders: Folders,
) -> None:
    """As while gateways are restarted one after the other, with one more store."""
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        due = Due(OBJECT, object_id_of(made["urn"]), 1)

        def by_another(connection: Connection) -> bool:
            expect_copy(connection, due)
            copy_came(connection, due, stores=["one"])
            return is_due(connection, OBJECT, due.record_id)

        assert await gateway.catalog.run(by_another)


async def test_a_head_that_a_restored_store_has_again_is_told_and_removed(
    folders: Folders,
) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        object_id = object_id_of(made["urn"])
        await eventually(lambda: is_brought(gateway), what="the copies")
        kept = await copies(folders, gateway, "two")
        await erased(gateway, made["urn"], session.user_token)

        async def is_erased() -> bool:
            return await state_of(gateway, object_id) == "erased" and await is_brought(gateway)

        await eventually(is_erased, what="the erasure")
        for key, data in kept.items():
            if f"/{object_id}/" in key:
                await gateway.gateway.parts.members[1].store.put(key, data)
    config = folders.path / "gateway.toml"
    lines = [
        f'[[backends]]\nkind = "local"\nname = "{name}"\npath = "{folders.path / name}"'
        for name in NAMES
    ]
    await asyncio.to_thread(config.write_text, "\n".join(lines))
    where = ("--data-dir", folders.path / "data", "--config", config)

    told = await command_beside("check", *where)
    entered = await command_beside("catalog", "verify", *where, "--repair")
    async with running(folders) as (gateway, _):

        async def is_gone() -> bool:
            await pass_over_copies(gateway)
            return [f"{object_id}/2"] == await of_objects(folders, gateway, "two")

        await eventually(is_gone, what="the removal")
    well = await command_beside("catalog", "verify", *where)

    assert (1, 1, 0) == (told.status, entered.status, well.status), (told, entered, well)
    assert b"a copy of its head" in told.out
    assert b"catalog verify --repair" in told.out


async def test_the_wrong_identity_completes_no_catalog(lost: Lost, tmp_path: Path) -> None:
    """It would refuse all that is newer, and call the rest whole."""
    assert 0 == (await rebuilt(lost.data_dir)).status
    identity = lost.data_dir / COPIES_FILE
    right = await asyncio.to_thread(identity.read_text)
    wrong = format_identity_file(X25519Identity.generate(), datetime.now(UTC))
    await asyncio.to_thread(identity.write_text, wrong)
    done = await rebuilt(lost.data_dir)
    assert (1, True) == (done.status, "restore that one" in done.err), done
    await asyncio.to_thread(identity.write_text, right)

    file = tmp_path / "recovery.txt"
    await asyncio.to_thread(file.write_text, wrong)
    await asyncio.to_thread(file.chmod, 0o600)
    done = await rebuilt(lost.data_dir, "--recovery-identity", str(file))
    assert (1, True) == (done.status, "is not the identity of" in done.err), done


async def test_copies_that_were_sealed_to_another_recipient_leave_it_behind(
    lost: Lost, tmp_path: Path
) -> None:
    """`recovery_recipient` was set since."""
    other = X25519Identity.generate()
    file = tmp_path / "recovery.txt"
    await asyncio.to_thread(file.write_text, format_identity_file(other, datetime.now(UTC)))
    await asyncio.to_thread(file.chmod, 0o600)
    arguments = ("catalog", "rebuild", "--data-dir", lost.data_dir, "--json")
    environment = {"GATEWAY_RECOVERY_RECIPIENT": str(other.recipient())}
    options = ("--recovery-identity", file, "--deployment", lost.sealer.deployment)
    done = await command_beside(*arguments, *options, environment=environment)
    assert 1 == done.status
    assert "no store holds a copy" in done.err


async def test_one_file_that_cannot_be_read_keeps_no_other_from_coming_back(
    lost: Lost, tmp_path: Path
) -> None:
    file = lost.file(lost.urn, 1)
    await asyncio.to_thread(file.rename, file.with_name("kept"))
    await asyncio.to_thread(file.symlink_to, file)  # reading it is an error of the disk's

    done = await rebuilt(lost.data_dir, "--json")

    report = json.loads(done.out)
    assert (1, 1, False) == (done.status, report["tombstones"], report["complete"]), report
    assert [] == report["unreachable"], "the store answers"
    await asyncio.to_thread(file.with_name("kept").replace, file)
    again = json.loads((await rebuilt(lost.data_dir, "--json")).out)
    assert (1, True) == (again["objects"], again["complete"])
    async with running_gateway(tmp_path) as gateway:
        assert not await gateway.catalog.read(is_behind)
        await new_token(gateway)


async def test_a_node_among_the_stores_keeps_no_catalog_from_coming_back(lost: Lost) -> None:
    """It holds no manifests, and need not answer."""
    config = lost.data_dir / "gateway.toml"
    lines = [
        '[[backends]]\nkind = "local"\nname = "local"',
        f'path = "{lost.data_dir / STORE_FOLDER}"',
        '[[backends]]\nkind = "ipfs"\nname = "node"\napi = "http://127.0.0.1:9"',
    ]
    await asyncio.to_thread(config.write_text, "\n".join(lines))

    done = await rebuilt(lost.data_dir, "--config", str(config), "--json")

    report = json.loads(done.out)
    assert (0, 1, True) == (done.status, report["objects"], report["complete"]), report


async def test_a_running_gateway_completes_its_old_catalog_by_a_word(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time; what is there already is not touched."""
    monkeypatch.setattr("storage_gateway.rebuild.PAGE", 1)
    async with running(folders) as (gateway, session):
        made = [
            await uploaded(gateway, session.path(f"t{task}"), session.user_token, b"content")
            for task in range(4)
        ]
        await eventually(lambda: is_brought(gateway), what="the copies")
        rebuild = gateway.gateway.upkeep.rebuild
        assert rebuild is not None
        idle = await rebuild.run_once()
        lost = [object_id_of(each["urn"]) for each in made[1:]]

        def go_back(connection: Connection) -> None:
            for table in (objects, slots):
                connection.execute(delete(table).where(table.c.object_id.in_(lost)))
            set_behind(connection)

        await gateway.catalog.run(go_back)
        reports = [await rebuild.run_once(limit=1)]
        while not reports[-1].ended:
            reports.append(await rebuild.run_once(limit=1))
        reads = [await fetch(gateway, each["urn"], session.user_token) for each in made]
        again = await gateway.gateway.upkeep.run_pass("rebuild", 10.0)
        assert not await gateway.catalog.read(is_behind)

    assert (True, 0, 0) == (idle.ended, idle.objects, idle.known)
    assert len(reports) > len(lost)
    assert len(lost) == sum(report.objects for report in reports)
    assert reports[-1].complete
    assert [200] * len(made) == [read.status for read in reads]
    assert isinstance(again, type(idle))
    assert again.complete


async def test_what_comes_back_without_a_store_is_to_come_to_it(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not seen to be ours at the start, and is not asked of each object."""
    asked, true_stat = list[str](), LocalStore.stat

    async def stat(self: LocalStore, key: str) -> BlobInfo:
        asked.extend([key] if self.name == "two" and "/manifests/" in key else [])
        return await true_stat(self, key)

    async with running(folders, write_quorum=1) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        await eventually(lambda: is_brought(gateway), what="the copies")
        object_id = object_id_of(made["urn"])

        def go_back(connection: Connection) -> None:
            for table in (objects, slots):
                connection.execute(delete(table).where(table.c.object_id == object_id))
            set_behind(connection)

        await gateway.catalog.run(go_back)
        await folders.vanish("two")
        gateway.gateway.parts.members[1].ready = False
        monkeypatch.setattr(LocalStore, "stat", stat)
        rebuild = gateway.gateway.upkeep.rebuild
        assert rebuild is not None
        report = await rebuild.run_once()

        assert (1, ["two"], False) == (report.objects, report.unreachable, report.complete)
        assert await gateway.catalog.read(lambda c: is_due(c, OBJECT, object_id))
        assert [(0, "one", "placed"), (0, "two", "pending")] == await placed(gateway)
        assert [] == asked
        await folders.come_back("two")


async def compared(gateway: RunningGateway) -> CompareReport:
    parts = gateway.gateway.parts
    return await Compare(
        catalog=parts.catalog,
        stores=[member.store for member in parts.members],
        sealer=CopySealer(parts.copies_identity, parts.deployment_id),
        recipient=recipient_of_copies(gateway.gateway._config, parts.copies_identity),
        recovery=recovery_identity(parts.copies_identity),
        prefix=parts.prefix,
    ).run()


async def test_a_session_that_is_opened_meanwhile_is_known(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_list, opened = LocalStore.list, list[str]()

    async with running(folders) as (gateway, _):

        async def listed(
            self: LocalStore, prefix: str, *, after: str = ""
        ) -> AsyncIterator[BlobInfo]:
            if prefix.endswith("/sessions/") and not opened:
                opened.append("later")
                await open_session(gateway, "101")
                await eventually(lambda: is_brought(gateway), what="the copies")
            async for blob in true_list(self, prefix, after=after):
                yield blob

        monkeypatch.setattr(LocalStore, "list", listed)
        beside = await compared(gateway)
        made_up = CopyName(SESSION, "2" * 32, 1).below(gateway.gateway.parts.prefix)
        await gateway.gateway.parts.members[0].store.put(made_up, b"forged")
        after = await compared(gateway)

    assert ["later"] == opened
    assert (0, []) == (beside.unknown, beside.findings)
    assert (1, f"{made_up} in store one") == (after.unknown, after.findings[0].where)
