"""Goal: a run whose process was killed is cleared away by the next one, and `check` knows a run's
blobs as long as they may be there. Method: SIGKILL of a real gateway in the midst of a run.
"""

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import pytest

from storage_gateway.stress import clearing
from tests.commands import command_beside
from tests.databases import databases
from tests.gateway import (
    GatewayProcess,
    eventually,
    gateway_process,
)
from tests.stress.runs import ended, show, start

pytestmark = pytest.mark.both_databases

SETTINGS = {"enable_stress": True, "instance_lease_s": 1, "instance_renew_s": 0.3}


async def _has_stored(gateway: GatewayProcess, run_id: str) -> bool:
    return bool((await show(gateway, run_id))["progress"].get("acknowledged"))


async def _nothing_of_runs(data_dir: Path) -> bool:
    folders = [*data_dir.glob("store/*/stress-*"), *data_dir.glob("stress")]
    return not folders and not databases.schemas(data_dir)


async def check(data_dir: Path) -> list[dict[str, str]]:
    """Return what ``storage-gateway check`` finds."""
    done = await command_beside("check", "--data-dir", data_dir, "--json")
    findings: list[dict[str, str]] = json.loads(done.out)["findings"]
    return findings


async def test_a_run_of_a_killed_process_is_cleared_away(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with gateway_process(data_dir, **SETTINGS) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=60)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")
        beside = await check(data_dir)
        gateway.send_signal(signal.SIGKILL)
        await gateway.wait()
    dead = await check(data_dir)
    schemas = databases.schemas(data_dir)
    blobs = list((data_dir / "store").rglob(f"stress-{run['id']}/payloads/*/0"))

    assert blobs
    assert ([f"stress_{run['id']}"] if databases.kind == "postgresql" else []) == schemas
    assert [] == beside
    assert [] == dead
    # Cleared away also when runs are not enabled any more.
    async with gateway_process(data_dir, **SETTINGS | {"enable_stress": False}):
        await eventually(lambda: _nothing_of_runs(data_dir), what="the end of the dead run")
    assert [] == await check(data_dir)
    async with gateway_process(data_dir, **SETTINGS) as gateway:
        over = await ended(gateway, run["id"])
    assert ("stopped", "fail", True) == (over["state"], over["verdict"], over["recovered"])


async def test_the_processes_of_a_run_die_with_the_one_that_started_them(tmp_path: Path) -> None:
    """A gateway is killed while a process of its run waits at a point, or is stopped."""
    data_dir = tmp_path / "data"
    async with gateway_process(data_dir, **SETTINGS) as gateway:
        await start(gateway, "paused-process", duration_s=60)
        pids = await eventually(lambda: _children_of(gateway.process.pid), what="a child")
        gateway.send_signal(signal.SIGKILL)
        await gateway.wait()
        await eventually(lambda: _are_gone(pids), what="the end of the children")
    async with gateway_process(data_dir, **SETTINGS):
        await eventually(lambda: _nothing_of_runs(data_dir), what="the end of the dead run")
    assert [] == await check(data_dir)


async def _children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text(encoding="ascii").split()]


async def _are_gone(pids: list[int]) -> bool:
    """Tell whether all have ended; who inherited them may not have looked after them yet."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
            if state.split()[0] != "Z":
                return False
    return True


async def test_a_process_is_killed_only_if_it_is_still_the_one_that_was_recorded() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        started = await asyncio.to_thread(clearing.start_time, process.pid)

        assert started > 0
        assert not await asyncio.to_thread(clearing.end_process, process.pid, started + 1)
        assert not await asyncio.to_thread(clearing.end_process, process.pid, 0)
        assert await asyncio.to_thread(clearing.end_process, process.pid, started)
        assert -signal.SIGKILL == await process.wait()
        assert not await asyncio.to_thread(clearing.end_process, process.pid, started)
    finally:
        if process.returncode is None:
            process.kill()
