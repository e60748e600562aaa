"""Goal: what a run does beside its case is watched, and ends with it. Method: a real gateway whose
uploads or control group misbehave, and a folder with a foreign package where the command is given.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from storage_gateway.api import object_handlers
from storage_gateway.api.body import read_pieces
from storage_gateway.api.services import SERVICES
from storage_gateway.backends import SegmentWriter
from storage_gateway.backends.faulty import FaultyStore
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.sessions import NewToken, insert_token
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.records import Manifest, TokenKind
from storage_gateway.stress import catalogs, run_parts, runner
from storage_gateway.stress.bodies import MARK_SIZE
from storage_gateway.stress.cases import CASES
from storage_gateway.stress.control import ControlGroup
from storage_gateway.stress.parameters import Parameters
from storage_gateway.stress.trial import Trial
from tests.gateway import DEADLINE_S, RunningGateway, eventually, running_gateway
from tests.stress.runs import ask, carried_out, ended, failed, show, start

UNHARMED = "the serving gateway is unharmed"
LATE_S = 4.0
"""Longer than a stopped run takes to be cleared away."""


@pytest.mark.parametrize("refused", [True, False])
async def test_a_control_group_that_saw_nothing_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """It was refused throughout, or broke off: in both cases nobody knows of any harm."""

    async def once(self: ControlGroup, _number: int, _size: int) -> None:
        if not refused:
            raise LookupError("planted")
        self._refused("an upload", "busy")

    monkeypatch.setattr(ControlGroup, "_once", once)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=2, sizes=[4096])

    assert "fail" == run["verdict"]
    assert {UNHARMED} == set(failed(run))


async def test_a_control_upload_under_way_at_the_stop_is_erased_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as late writes may come, an erased object and its session stay.
    async with running_gateway(tmp_path, enable_stress=True, late_write_horizon_s=600) as gateway:
        uploads = gateway.gateway._uploads
        real, under_way = uploads.seal, asyncio.Event()
        stored = asyncio.Event()

        async def seal(*args: Any, **kwargs: Any) -> Manifest:  # noqa: ANN401 - passed on
            under_way.set()
            await asyncio.sleep(LATE_S)
            manifest = await real(*args, **kwargs)
            stored.set()
            return manifest

        monkeypatch.setattr(uploads, "seal", seal)
        run = await start(gateway, "tiny-objects", duration_s=60)
        await asyncio.wait_for(under_way.wait(), 30)
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        over = await ended(gateway, run["id"])
        await asyncio.wait_for(stored.wait(), 30)
        answer = await ask(gateway, "GET", f"/v1/sessions/stress.{run['id']}/objects")

    assert "stopped" == over["state"]
    states = {entry["state"] for entry in answer.json()["objects"]}
    assert states
    assert "committed" not in states


async def test_what_the_deployment_promises_others_binds_no_run(tmp_path: Path) -> None:
    """Else a control group could not erase what it made, and would be there for ever."""
    kept = [{"name": "strict", "default_s": 86400, "mode": "compliance"}]
    settings: dict[str, object] = {"retention_policies": kept, "retention_policy": "strict"}
    async with running_gateway(tmp_path, enable_stress=True, **settings) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.5, clients=2, sizes=[4096])

        async def is_gone() -> bool:
            answer = await ask(gateway, "GET", f"/v1/sessions/stress.{run['id']}")
            return answer.status == 404

        assert {} == failed(run)
        await eventually(is_gone, what="the end of the control group's session")


async def test_a_folder_called_like_a_package_of_ours_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "crypto"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('foreign code was run')\n")
    monkeypatch.chdir(tmp_path)
    async with running_gateway(tmp_path / "data", enable_stress=True) as gateway:
        run = await carried_out(gateway, "crash-after-commit", duration_s=0.1, clients=1)

    assert {} == failed(run)


async def test_a_body_on_a_disk_and_a_head_in_the_store_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bugs: a body is spooled to a file, the head is stored beside its segments."""
    heads: set[asyncio.Future[None]] = set()
    real = FaultyStore.create

    def create(self: FaultyStore, key: str) -> SegmentWriter:
        heads.add(asyncio.ensure_future(self.inner.put(f"{key}h", b"age-encryption.org/v1\n")))
        return real(self, key)

    async def read(request: web.Request, **limits: Any) -> AsyncGenerator[bytes]:  # noqa: ANN401 - passed on
        async with aclosing(read_pieces(request, **limits)) as pieces:
            async for piece in pieces:
                spool = request.app[SERVICES].config.data_dir / "spool"
                await asyncio.to_thread(spool.write_bytes, piece)
                yield piece

    monkeypatch.setattr(FaultyStore, "create", create)
    monkeypatch.setattr(object_handlers, "read_pieces", read)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=2, sizes=[4096])

    assert {"3", "4"} <= set(failed(run)), run


@pytest.mark.both_databases
async def test_a_body_in_a_row_of_the_catalog_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: what comes in is noted in the catalog, too."""

    async def read(request: web.Request, **limits: Any) -> AsyncGenerator[bytes]:  # noqa: ANN401 - passed on
        catalog = request.app[SERVICES].catalog
        async with aclosing(read_pieces(request, **limits)) as pieces:
            async for piece in pieces:
                noted = NewToken(piece[:MARK_SIZE], TokenKind.USER, None)
                note = partial(insert_token, token=noted, session_id=None, lifetime_s=None)
                await catalog.run(note)
                yield piece

    monkeypatch.setattr(object_handlers, "read_pieces", read)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=2, sizes=[4096])

    assert "table tokens holds plaintext" in str(failed(run)["4"])


@pytest.mark.both_databases
async def test_a_catalog_that_is_being_opened_at_the_stop_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalogs.open_run_catalog
    inside, go = threading.Event(), threading.Event()
    opened: list[Catalog] = []

    def slowly(*args: Any) -> Catalog:  # noqa: ANN401 - passed on
        inside.set()
        go.wait(DEADLINE_S)
        opened.append(real(*args))
        return opened[0]

    monkeypatch.setattr(run_parts, "open_run_catalog", slowly)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=60)
        assert await asyncio.to_thread(inside.wait, DEADLINE_S)
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        await eventually(lambda: _is_stopping(gateway, run["id"]), what="the stop")
        go.set()
        over = await ended(gateway, run["id"])
        await eventually(lambda: _found(opened), what="the catalog")

        assert "stopped" == over["state"]
        with pytest.raises(CatalogUnavailable, match="closed"):
            await opened[0].run(lambda _connection: None)


async def _is_stopping(gateway: RunningGateway, run_id: str) -> bool:
    """Tell whether a run is being cancelled, or has ended already."""
    cancelled = any(task.cancelling() for task in asyncio.all_tasks())
    return cancelled or (await show(gateway, run_id))["state"] != "running"


async def _found(opened: list[Catalog]) -> bool:
    return bool(opened)


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_case_that_hangs_is_told_from_one_in_which_something_took_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    async def run(_trial: Trial, _parameters: Parameters) -> None:
        async with asyncio.timeout(None if hangs else 0.01):
            await asyncio.sleep(60)

    case = replace(CASES["tiny-objects"], run=run, expected_s=0.1)
    monkeypatch.setitem(CASES, "tiny-objects", case)
    monkeypatch.setattr(runner, "OVERTIME_S", 0.3)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        report = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=1)

    in_time = "the run ends in time"
    carried = "the run could be carried out"
    expected = {in_time} if hangs else {carried}
    assert expected == failed(report).keys() & {in_time, carried}
