"""Goal: `check --repair` mends what one store has wrong and another right, and nothing else.

Method: a gateway over two folders; files in either are damaged as disks do it, or a folder is away
as if another disk were mounted; then the command, at rest and beside the gateway, and what lies in
the folders afterwards.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from storage_gateway.catalog.passes import keep_pass, leave_pass, take_pass
from storage_gateway.catalog.tables import placements
from storage_gateway.cli import check as command
from storage_gateway.cli import run
from storage_gateway.repair import NAME
from tests.commands import command_beside
from tests.databases import databases
from tests.gateway import OpenSession, RunningGateway
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_replicas import Folders, folders, placed, running

__all__ = ["folders"]

CONTENT = made_bytes(SEGMENT + 1)
NEVER = {"repair_interval_s": 3600, "scrub_interval_s": 3600}
"""What the gateway would do by itself waits."""

Contents = dict[str, bytes]


def settings_of(folders: Folders) -> Path:
    file = folders.path / "gateway.toml"
    tables = []
    for backend in folders.backends():
        lines = [f"{name} = {json.dumps(value)}" for name, value in backend.items()]
        tables += ["[[backends]]", *lines]
    file.write_text("\n".join(["reserve_bytes = 0", *tables, ""]))
    return file


Check = Callable[..., Coroutine[Any, Any, tuple[int, dict[str, Any]]]]


@pytest.fixture
def check(
    folders: Folders, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Check:
    monkeypatch.setattr(command, "configure_logs", lambda _level: None)  # they are the tests'
    for name, value in databases.environment(folders.path / "data").items():
        monkeypatch.setenv(name, value)

    def run_command(*options: str) -> tuple[int, dict[str, Any]]:
        place = ["--data-dir", str(folders.path / "data"), "--config", str(settings_of(folders))]
        capsys.readouterr()
        status = run(["check", *place, "--json", *options])
        return status, json.loads(capsys.readouterr().out)

    return partial(asyncio.to_thread, run_command)


async def contents(folders: Folders, store: str) -> Contents:
    files = await folders.payload_files(store)
    return {"/".join(file.parts[-2:]): file.read_bytes() for file in files}


async def lay(gateway: RunningGateway, session: OpenSession) -> str:
    made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    return str(made["urn"])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)


@pytest.mark.both_databases
async def test_what_is_right_in_the_other_store_is_made_again(
    folders: Folders, check: Check
) -> None:
    """One copy is corrupt here, one is gone there, and one had not come at all."""
    async with running(folders, write_quorum=1, **NEVER) as (gateway, session):
        urn = await lay(gateway, session)
        first = (await folders.payload_files("one"))[0]
        gone = (await folders.payload_files("two"))[1]
        await folders.vanish("two")
        await uploaded(gateway, session.path("t2"), session.user_token, b"later")
        await folders.come_back("two")
    whole = await contents(folders, "one")
    _flip(first)
    await asyncio.to_thread(gone.unlink)

    status, found = await check()
    mended_status, mended = await check("--repair")
    again_status, again = await check("--repair")

    assert (1, {("leaf", urn, 1), ("object", urn, 1)}) == (
        status,
        {(f["kind"], f["urn"], f["copies_left"]) for f in found["findings"]},
    )
    assert all("check --repair" in finding["remedy"] for finding in found["findings"])
    assert (0, [], 0) == (mended_status, mended["findings"], mended["segments_pending"])
    assert (3, 0) == (mended["repair"]["made"], mended["repair"]["left"])
    assert whole == await contents(folders, "one") == await contents(folders, "two")
    assert (0, 0) == (again_status, again["repair"]["made"])


async def test_what_is_right_nowhere_is_left_as_it_is_and_said(
    folders: Folders, check: Check
) -> None:
    async with running(folders, **NEVER) as (gateway, session):
        urn = await lay(gateway, session)
    for name in ("one", "two"):
        _flip((await folders.payload_files(name))[0])
    before = [await contents(folders, name) for name in ("one", "two")]

    status, report = await check("--repair")

    assert 1 == status
    assert {("leaf", urn, 0)} == {
        (f["kind"], f["urn"], f["copies_left"]) for f in report["findings"]
    }
    assert all("backup" in finding["remedy"] for finding in report["findings"])
    assert before == [await contents(folders, name) for name in ("one", "two")]


@pytest.mark.both_databases
async def test_beside_a_gateway_and_behind_where_its_pass_stopped(
    folders: Folders, check: Check
) -> None:
    """What was to be made lies in front of where the next turn at the pass goes on."""
    async with running(folders, **NEVER) as (gateway, session):
        urn = await lay(gateway, session)
        whole = await contents(folders, "one")
        first, second = await folders.payload_files("one")
        _flip(first)
        assert await gateway.catalog.run(lambda c: take_pass(c, NAME, "turn", 60.0))
        far = f"{second.parent.name}/1/two"
        assert await gateway.catalog.run(lambda c: keep_pass(c, NAME, "turn", 60.0, far))
        checking = asyncio.create_task(check("--repair"))
        await asyncio.wait([checking], timeout=0.5)
        await gateway.catalog.run(lambda c: leave_pass(c, NAME, "turn", ended=False))
        status, report = await checking
        read = await fetch(gateway, urn, session.user_token, headers=[PLAINTEXT])
        states = {state for _, _, state in await placed(gateway)}

    assert (0, [], 1) == (status, report["findings"], report["repair"]["made"])
    assert whole == await contents(folders, "one")
    assert CONTENT == read.body
    assert {"placed"} == states


async def test_into_another_disk_in_its_place_nothing_is_written(
    folders: Folders, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folders, **NEVER) as (gateway, session):
        await lay(gateway, session)
        # One copy is to be made there anyway.
        pending = update(placements).where(placements.c.backend == "two", placements.c.segment == 0)
        await gateway.catalog.run(lambda c: c.execute(pending.values(state="pending")))
    await folders.vanish("two")
    await asyncio.to_thread((folders.path / "two").mkdir)

    status, report = await check("--repair")
    left = await asyncio.to_thread(lambda: list((folders.path / "two").iterdir()))
    await asyncio.to_thread((folders.path / "two").rmdir)
    await folders.come_back("two")
    again, after = await check()

    assert (1, True) == (status, "marker" in {f["kind"] for f in report["findings"]})
    assert (0, 1) == (report["repair"]["made"], report["repair"]["left"])
    assert "copy not made" in caplog.text
    assert [] == left
    assert (0, 1, 0) == (again, after["segments_pending"], after["segments_bad"])


async def test_a_person_reads_how_many_copies_are_left(folders: Folders) -> None:
    async with running(folders, **NEVER) as (gateway, session):
        await lay(gateway, session)
    _flip((await folders.payload_files("one"))[0])
    options: list[str | Path] = ["check", "--data-dir", folders.path / "data"]
    options += ["--config", await asyncio.to_thread(settings_of, folders)]

    told = await command_beside(*options)
    mended = await command_beside(*options, "--repair")

    assert (1, True) == (told.status, b"  copies left: 1\n  remedy: run" in told.out), told.out
    assert (0, b"repair: 1 copies made, ") == (mended.status, mended.out[:23]), mended
