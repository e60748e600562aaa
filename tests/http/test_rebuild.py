"""Goal: a catalog that was lost, or is an old backup, comes back from the stores: table by table as
it was, but for what no copy holds. What a store made up, or moved, is refused.

Method: a real gateway; its catalog is taken away, or replaced by an earlier state of itself, and
made whole by the command, as an operator would.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from crypto import CopySealer, Identity, X25519Identity, recovery_identity
from retention import Mode, Policy
from storage_gateway.backends import LocalStore
from storage_gateway.catalog import Catalog, now_ms
from storage_gateway.catalog.blind_tables import header_confirmations, kept_headers, reservations
from storage_gateway.catalog.claims import note_terms
from storage_gateway.catalog.high_water import high_water, is_behind, raise_mark
from storage_gateway.catalog.holding import Scope, place_hold, release_hold, scope_of_object
from storage_gateway.catalog.registry import note_change
from storage_gateway.catalog.retention_tables import holds, leases, terms
from storage_gateway.catalog.tables import (
    blocks,
    deployment,
    graves,
    instances,
    intents,
    job_failures,
    jobs,
    key_versions,
    markers,
    metadata,
    objects,
    orphans,
    outbox,
    outcomes,
    parties,
    passes,
    pins,
    placements,
    roots,
    segments,
    sessions,
    slots,
    stress_runs,
    tokens,
    wraps,
)
from storage_gateway.custody import COPIES_FILE, IDENTITY_FILE
from storage_gateway.high_water import parse_mark
from storage_gateway.manifest_copies import OBJECT, CopyName
from storage_gateway.parts import CATALOG_FILE
from storage_gateway.stores import STORE_FOLDER
from tests.commands import Done, command_beside
from tests.databases import databases
from tests.gateway import (
    RunningGateway,
    eventually,
    open_catalog,
    open_session,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, upload, uploaded

pytestmark = pytest.mark.both_databases

COME_BACK = (
    *(sessions, parties, key_versions, wraps, objects, segments, placements, slots),
    *(terms, leases, holds),
)
"""Tables that are as they were."""
COUNTED = ("sessions", "objects", "tombstones", "claims", "refused")
LOST = (
    tokens,
    intents,
    outcomes,
    pins,
    stress_runs,
    passes,
    jobs,
    job_failures,
    instances,
    orphans,
    reservations,
    kept_headers,
    header_confirmations,
)
"""What no copy holds; the command says so. Of heads the newest comes back: one that was replaced,
and was kept for who had not opened the new one, does not."""
MADE_AGAIN = (deployment, markers, graves, roots, blocks, outbox)
"""What the gateway makes of what came back, or of its stores."""


def rows_of(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: [
            dict(row)
            for row in connection.execute(
                select(table).order_by(*table.primary_key.columns)
            ).mappings()
            # The router's own key is registered again from its identity, at another time.
            if row.get("session_id") or "session_id" not in row
        ]
        for table in COME_BACK
    }


def dump(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    catalog = open_catalog(data_dir)
    try:
        return catalog.read_blocking(rows_of)
    finally:
        catalog.close()


def lose_catalog(data_dir: Path) -> None:
    if databases.server is None:
        for file in data_dir.glob(f"{CATALOG_FILE}*"):
            file.unlink()
    else:
        del databases.made[data_dir]


async def outbox_is_empty(catalog: Catalog) -> bool:
    count = select(func.count()).select_from(outbox)
    return await catalog.read(lambda c: c.execute(count).scalar_one()) == 0


async def settled(gateway: RunningGateway, *, erased: int = 0) -> None:
    """Wait until every copy is in its store, and what was erased is gone."""
    await eventually(lambda: outbox_is_empty(gateway.catalog), what="an empty outbox")

    async def is_erased() -> bool:
        gone = select(func.count()).where(objects.c.state == "erased")
        return await gateway.catalog.read(lambda c: c.execute(gone).scalar_one()) == erased

    await eventually(is_erased, what="the erasure")


async def erase(gateway: RunningGateway, urn: str, token: str) -> None:
    answer = await exchange(gateway.address, request("DELETE", f"/v1/objects/{urn}", token))
    assert 202 == answer.status, answer


async def new_token(gateway: RunningGateway, session_id: str = "101") -> str:
    """Return a new one of the user's: no copy holds tokens."""
    asked = request(
        "POST",
        f"/v1/sessions/{session_id}/tokens",
        gateway.operator_token,
        headers=[("Content-Type", "application/json")],
        body=b'{"party": "user"}',
    )
    return str((await exchange(gateway.address, asked)).json()["token"])


async def rebuilt(data_dir: Path, *arguments: str) -> Done:
    return await command_beside("catalog", "rebuild", "--data-dir", data_dir, *arguments)


def claim(connection: Connection, object_ids: list[str]) -> None:
    """Claim three objects, as each kind of claim does it; the last is let go again."""
    now = now_ms(connection)
    for mode in Mode:
        terms_id = note_terms(connection, Policy(mode.value, 3600, None, 60, mode))
        of_mode = sessions.c.session_id == ("101" if mode is Mode.COMPLIANCE else "a.b")
        connection.execute(update(sessions).where(of_mode).values(terms_id=terms_id))
        note_change(connection, "101" if mode is Mode.COMPLIANCE else "a.b")
    for object_id in object_ids:
        lease = {"object_id": object_id, "holder": "user", "until_ms": now + 10**7}
        connection.execute(insert(leases), lease | {"renewed_ms": now})
        ends = {"keep_until_ms": now + 10**6, "expires_ms": now + 10**7}
        raised = {"claims_generation": objects.c.claims_generation + 1}
        here = update(objects).where(objects.c.object_id == object_id)
        connection.execute(here.values(ends | raised))
        scope = scope_of_object(connection, object_id)
        place_hold(connection, scope, hold_id=f"held {object_id[:20]}", who="court", why="case 7")
    release_hold(connection, scope, f"held {object_ids[-1][:20]}", who="court", why="it is over")
    for number in (1, 2):
        scope = Scope("101")
        place_hold(connection, scope, hold_id=f"all, {number}", who="court", why="case 8")
    for number in (1, 2):
        release_hold(connection, scope, f"all, {number}", who="court", why="it is over")
    place_hold(connection, Scope("a.b"), hold_id="other", who="court", why="case 9")


def test_every_table_is_known_to_come_back_or_not() -> None:
    """A new table must be thought of."""
    assert {*metadata.tables} == {t.name for t in (*COME_BACK, *LOST, *MADE_AGAIN)}


async def test_a_lost_catalog_comes_back_table_by_table(tmp_path: Path) -> None:
    body = made_bytes(SEGMENT + 1000)
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        await open_session(gateway, "a.b")
        large = await uploaded(gateway, session.path("t1"), session.user_token, body)
        empty = await uploaded(gateway, session.path("t2"), session.user_token, b"")
        out = session.path("t1", "output")
        result = await uploaded(gateway, out, session.miner_token, b"result")
        gone = await uploaded(gateway, session.path("t3"), session.user_token, b"gone")
        ids = [made["urn"].rpartition(":")[2] for made in (large, empty, gone)]
        await gateway.catalog.run(partial(claim, object_ids=ids))
        await erase(gateway, gone["urn"], session.user_token)
        await settled(gateway, erased=1)
    before = await asyncio.to_thread(dump, gateway.data_dir)
    assert all(before.values()), "no table is empty"
    await asyncio.to_thread(lose_catalog, gateway.data_dir)

    done = await rebuilt(gateway.data_dir, "--json")

    assert 0 == done.status, done
    report = json.loads(done.out)
    counts = {name: report[name] for name in COUNTED}
    assert {"sessions": 2, "objects": 3, "tombstones": 1, "claims": 3, "refused": 0} == counts
    after = await asyncio.to_thread(dump, gateway.data_dir)
    for row in after["objects"]:
        if row["state"] == "erasing":
            row["state"] = "erased"  # until the stores were seen clean once more
    assert before == after
    async with running_gateway(tmp_path) as gateway:
        await settled(gateway, erased=1)
        assert before == await gateway.catalog.read(rows_of)
        token = await new_token(gateway)
        for made, content in ((large, body), (empty, b""), (result, b"result")):
            answer = await fetch(gateway, made["urn"], token, headers=[PLAINTEXT])
            assert (200, content) == (answer.status, answer.body)
        again = await upload(gateway, session.path("t3"), token, b"again")
        again.problem(409, "slot_taken")
        checked = await command_beside("check", "--data-dir", gateway.data_dir)
    assert 0 == checked.status, checked


@dataclass(frozen=True, slots=True)
class Lost:
    """A deployment whose catalog is gone."""

    data_dir: Path
    urn: str
    erased_urn: str
    sealer: CopySealer = field(repr=False)
    recovery: Identity = field(repr=False)
    prefix: str

    def file(self, urn: str, generation: int) -> Path:
        """Return the file of an object's copy."""
        object_id = urn.rpartition(":")[2]
        name = CopyName(OBJECT, object_id, generation).below(self.prefix)
        return self.data_dir / STORE_FOLDER / name

    def key(self, file: Path) -> str:
        return str(file.relative_to(self.data_dir / STORE_FOLDER))


@pytest.fixture
async def lost(tmp_path: Path) -> Lost:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        made = await uploaded(gateway, session.path("t1"), session.user_token, b"content")
        gone = await uploaded(gateway, session.path("t2"), session.user_token, b"gone")
        await eventually(lambda: outbox_is_empty(gateway.catalog), what="the copies")
        parts = gateway.gateway.parts
        lost = Lost(
            gateway.data_dir,
            made["urn"],
            gone["urn"],
            CopySealer(parts.copies_identity, parts.deployment_id),
            recovery_identity(parts.copies_identity),
            parts.prefix,
        )
        kept = await asyncio.to_thread(lost.file(gone["urn"], 1).read_bytes)
        await erase(gateway, gone["urn"], session.user_token)
        await settled(gateway, erased=1)
    # What a store may have kept, and shows again.
    await asyncio.to_thread(lost.file(gone["urn"], 1).write_bytes, kept)
    await asyncio.to_thread(lose_catalog, gateway.data_dir)
    return lost


def by_a_stranger(lost: Lost, file: Path) -> bytes:
    """What somebody makes who knows the recipient and what is in a copy."""
    content = lost.sealer.open(lost.key(file), file.read_bytes(), lost.recovery)
    stranger = CopySealer(X25519Identity.generate(), lost.sealer.deployment)
    newer = file.with_name("9")
    content = content.replace(b'"generation":1', b'"generation":9')
    return stranger.seal(lost.key(newer), content, lost.recovery.recipient())


def moved(_lost: Lost, file: Path) -> bytes:
    """A true copy, under the name of a newer one."""
    return file.read_bytes()


def of_another_deployment(lost: Lost, file: Path) -> bytes:
    content = lost.sealer.open(lost.key(file), file.read_bytes(), lost.recovery)
    other = CopySealer(lost.sealer.identity, "o" * 32)
    return other.seal(lost.key(file.with_name("9")), content, lost.recovery.recipient())


def that_says_another_generation(lost: Lost, file: Path) -> bytes:
    """Signed for its name; no gateway makes it."""
    content = lost.sealer.open(lost.key(file), file.read_bytes(), lost.recovery)
    return lost.sealer.seal(lost.key(file.with_name("9")), content, lost.recovery.recipient())


def that_says_another_object(lost: Lost, file: Path) -> bytes:
    """Signed for its name; no gateway makes it."""
    content = lost.sealer.open(lost.key(file), file.read_bytes(), lost.recovery)
    own, other = (urn.rpartition(":")[2].encode() for urn in (lost.urn, lost.erased_urn))
    content = content.replace(own, other).replace(b'"generation":1', b'"generation":9')
    return lost.sealer.seal(lost.key(file.with_name("9")), content, lost.recovery.recipient())


def garbage(_lost: Lost, _file: Path) -> bytes:
    return b"age-encryption.org/v1\n"


@pytest.mark.parametrize(
    "forge",
    [
        by_a_stranger,
        moved,
        of_another_deployment,
        that_says_another_generation,
        that_says_another_object,
        garbage,
    ],
)
async def test_a_copy_that_is_not_ours_is_refused_and_told(
    lost: Lost, tmp_path: Path, forge: Callable[[Lost, Path], bytes]
) -> None:
    true = lost.file(lost.urn, 1)
    data = await asyncio.to_thread(forge, lost, true)
    await asyncio.to_thread(true.with_name("9").write_bytes, data)

    done = await rebuilt(lost.data_dir, "--json")

    report = json.loads(done.out)
    assert (1, 1, 1, 1) == (
        done.status,
        report["refused"],
        report["objects"],
        report["tombstones"],
    )
    (finding,) = [f for f in report["findings"] if "/9 in store local" in f["where"]]
    assert finding["remedy"].startswith("nothing of it was used")
    async with running_gateway(tmp_path) as gateway:
        token = await new_token(gateway)
        answer = await fetch(gateway, lost.urn, token, headers=[PLAINTEXT])
        assert (200, b"content") == (answer.status, answer.body)


async def test_an_older_copy_brings_nothing_erased_back(lost: Lost, tmp_path: Path) -> None:
    assert await asyncio.to_thread(lost.file(lost.erased_urn, 1).exists)

    done = await rebuilt(lost.data_dir)

    assert 0 == done.status, done
    async with running_gateway(tmp_path) as gateway:
        token = await new_token(gateway)
        (await fetch(gateway, lost.erased_urn, token)).problem(410, "erased")
        await settled(gateway, erased=1)
        assert not await asyncio.to_thread(lost.file(lost.erased_urn, 1).exists)


@pytest.mark.parametrize("name", [COPIES_FILE, IDENTITY_FILE])
async def test_without_an_identity_there_is_no_rebuild(lost: Lost, name: str) -> None:
    identity = lost.data_dir / name
    await asyncio.to_thread(identity.rename, identity.with_name("elsewhere"))
    done = await rebuilt(lost.data_dir)
    assert (1, b"") == (done.status, done.out)
    assert "restore it from a backup" in done.err


async def test_with_another_identity_of_copies_nothing_is_taken_for_ours(
    lost: Lost, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path / "other"):
        pass
    other = tmp_path / "other" / "data" / COPIES_FILE
    await asyncio.to_thread(other.replace, lost.data_dir / COPIES_FILE)
    done = await rebuilt(lost.data_dir)
    assert 1 == done.status
    assert "name the right one with --deployment" in done.err


async def test_a_running_gateway_is_not_rebuilt_under(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        done = await rebuilt(gateway.data_dir)
    assert 1 == done.status
    assert "stop them" in done.err


def snapshot(data_dir: Path) -> Callable[[], None]:
    """Keep the catalog as it is; return what puts it back."""
    if databases.server is None:
        file = data_dir / CATALOG_FILE
        kept = file.with_name("kept")
        shutil.copy(file, kept)

        def put_back() -> None:
            lose_catalog(data_dir)
            shutil.copy(kept, file)

        return put_back
    name = databases.server.new_database(databases.made[data_dir])
    return partial(databases.made.__setitem__, data_dir, name)


@pytest.mark.parametrize("told_by", ["the mark", "a copy"])
async def test_last_nights_backup_destroys_nothing_and_is_completed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, told_by: str
) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        early = await uploaded(gateway, session.path("t1"), session.user_token, b"early")
        erased = await uploaded(gateway, session.path("t2"), session.user_token, b"erased")
        await eventually(lambda: outbox_is_empty(gateway.catalog), what="the copies")
    put_back = await asyncio.to_thread(snapshot, gateway.data_dir)
    async with running_gateway(tmp_path) as gateway:
        await eventually(lambda: is_marked(gateway, 2), what="the mark")
        late = await uploaded(gateway, session.path("t3"), session.user_token, b"late")
        other = await open_session(gateway, "102")
        more = await uploaded(gateway, other.path("t1"), other.user_token, b"more")
        await erase(gateway, erased["urn"], session.user_token)
        await settled(gateway, erased=1)
        (row,) = [
            row
            for row in (await gateway.catalog.read(rows_of))["objects"]
            if row["object_id"] == late["urn"].rpartition(":")[2]
        ]
    before = await asyncio.to_thread(dump, gateway.data_dir)
    await asyncio.to_thread(put_back)
    await asyncio.to_thread(as_if_under_way, gateway.data_dir, row)
    if told_by == "a copy":
        await asyncio.to_thread(forget_marks, gateway.data_dir)

    async with running_gateway(tmp_path) as gateway:  # as it is: nothing is to be destroyed
        assert (told_by == "the mark") is gateway.gateway.upkeep.high_water.is_behind

        async def is_noticed() -> bool:
            return await gateway.catalog.read(is_behind)

        await eventually(is_noticed, what="the notice")
        assert await gateway.catalog.run(raise_mark) is None
        began = gateway.gateway.recovery.passes

        async def some_passes() -> bool:
            return gateway.gateway.recovery.passes > began + 3

        await eventually(some_passes, what="recovery")
        read = await fetch(gateway, early["urn"], session.user_token, headers=[PLAINTEXT])
        assert b"early" == read.body
        report = await gateway.gateway.upkeep.collect.run_once()
        assert report.behind
    assert any("older than the stores" in record.message for record in caplog.records)

    done = await rebuilt(gateway.data_dir)

    assert 0 == done.status, done
    async with running_gateway(tmp_path) as gateway:
        await settled(gateway, erased=1)
        assert not await gateway.catalog.read(is_behind)
        assert before == await gateway.catalog.read(rows_of)
        for made, content, session_id in ((late, b"late", "101"), (more, b"more", "102")):
            token = await new_token(gateway, session_id)
            answer = await fetch(gateway, made["urn"], token, headers=[PLAINTEXT])
            assert (200, content) == (answer.status, answer.body)
        checked = await command_beside("check", "--data-dir", gateway.data_dir)
    assert 0 == checked.status, checked


async def test_the_mark_is_in_the_catalog_before_any_store_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process that died in between would have made an old one of the newest catalog."""
    seen: list[tuple[int, int]] = []
    true_put = LocalStore.put
    async with running_gateway(tmp_path) as gateway:
        await eventually(lambda: is_marked(gateway, 1), what="the mark")

        async def put(self: LocalStore, key: str, data: bytes) -> None:
            if (mark := parse_mark(gateway.gateway.parts.prefix, key)) is not None:
                seen.append((mark, await gateway.catalog.read(high_water)))
            await true_put(self, key, data)

        monkeypatch.setattr(LocalStore, "put", put)
        await gateway.gateway.upkeep.high_water.raise_mark()

    assert [(2, 2)] == seen


async def is_marked(gateway: RunningGateway, mark: int) -> bool:
    return await gateway.gateway.upkeep.high_water.seen() >= mark


def forget_marks(data_dir: Path) -> None:
    for file in (data_dir / STORE_FOLDER).glob("*/main/high-water/*"):
        file.unlink()


def as_if_under_way(data_dir: Path, row: dict[str, Any]) -> None:
    """Enter an upload that was under way when the backup was made, and was committed since."""
    names = ("session_id", "task_id", "direction", "miner", "object_id", "payload_id")
    ids = {"object_id": row["object_id"], "payload_id": row["payload_id"]}

    def unit(connection: Connection) -> None:
        connection.execute(insert(slots), {name: row[name] for name in names})
        intent = {"instance_id": "dead", "fence": 1, "state": "open", "created_ms": 0}
        connection.execute(insert(intents), ids | intent)
        connection.execute(insert(segments), {"payload_id": row["payload_id"], "segment": 0})

    catalog = open_catalog(data_dir)
    try:
        catalog.run_blocking(unit)
    finally:
        catalog.close()
