"""Goal: a run on a deployment with several stores works in all of them, and leaves nothing in any.

Method: a real gateway over two folders; what lies in them is looked at during a run and after it.
"""

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest

from storage_gateway.config import Config
from storage_gateway.repair import Repair, RepairReport
from storage_gateway.stress.cases import CASES
from storage_gateway.stress.contract import bytes_of_a_body
from storage_gateway.stress.judge import AGE_VERSION_LINE, judge
from storage_gateway.stress.run_stores import Ailment, RunStore
from storage_gateway.stress.trial import Trial
from storage_gateway.stress.world import GatewayLike, bytes_max
from tests.gateway import eventually, running_gateway
from tests.servers.ipfs import IpfsNode
from tests.stress.runs import ask, carried_out, ended, failed, show, start
from tests.stress.test_cases import node, parameters_of, settings

__all__ = ["node"]

NAMES = ("one", "two")
SEARCHED = 1 << 16
LATE_S = 2.0
NEEDING_SEVERAL = [n for n, case in CASES.items() if case.bytes_min is not bytes_of_a_body]


async def test_a_run_is_in_every_store_and_then_in_none(tmp_path: Path) -> None:
    def stored(name: str) -> list[Path]:
        files = (file for file in (tmp_path / name).rglob("*") if file.is_file())
        return [file for file in files if any("stress-" in part for part in file.parts)]

    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in NAMES]
    async with running_gateway(tmp_path, enable_stress=True, backends=backends) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=60)

        async def has_stored() -> bool:
            return bool((await show(gateway, run["id"]))["progress"].get("acknowledged"))

        await eventually(has_stored, what="a stored object")
        during = [await asyncio.to_thread(stored, name) for name in NAMES]
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        await ended(gateway, run["id"])
        after = [await asyncio.to_thread(stored, name) for name in NAMES]
        whole = await carried_out(
            gateway, "crash-after-commit", duration_s=1, clients=2, sizes=[1000], seed=1
        )

    assert all(during)
    assert [[], []] == after
    assert ("pass", {}) == (whole["verdict"], failed(whole))
    assert not (tmp_path / "data" / "store").exists()


async def test_a_head_in_a_store_of_the_run_itself_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These stores lie in the run's folder, and what else is there may hold heads."""

    async def planted(trial: Trial, gateway: GatewayLike) -> None:
        monkeypatch.setattr("storage_gateway.stress.judge.SEARCHED_BYTES_MAX", SEARCHED)
        own = trial.world.stores[-1].store
        await own.put(trial.world.prefix + "a", AGE_VERSION_LINE)
        await own.put(trial.world.prefix + "b", bytes(SEARCHED + 1))
        await judge(trial, gateway)

    monkeypatch.setattr("storage_gateway.stress.runner.judge", planted)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "flipped-bit", duration_s=0.1, clients=1, sizes=[100])

    assert ["holds an age header" in said for said in failed(run)["3"]] == [True]


async def test_blobs_are_searched_however_large_the_catalog_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def planted(trial: Trial, gateway: GatewayLike) -> None:
        monkeypatch.setattr("storage_gateway.stress.judge.SEARCHED_BYTES_MAX", 0)
        await trial.world.stores[0].store.put(trial.world.prefix + "a", AGE_VERSION_LINE)
        await judge(trial, gateway)

    monkeypatch.setattr("storage_gateway.stress.runner.judge", planted)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=1, sizes=[100])

    assert ["holds an age header" in said for said in failed(run)["3"]] == [True]


async def test_nothing_is_mended_while_a_case_looks_at_what_it_broke(tmp_path: Path) -> None:
    """Method: the deployment itself mends all the time."""
    async with running_gateway(
        tmp_path, enable_stress=True, repair_interval_s=0.01, scrub_interval_s=0.01
    ) as gateway:
        run = await carried_out(gateway, "missing-blob", duration_s=1, clients=2, sizes=[4096])

    assert {} == failed(run)


async def test_copies_that_cannot_be_made_whole_before_the_damage_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: each pass of repair fails at a copy, and the first one stops before the end."""
    passes = itertools.count()

    async def run_once(_self: Repair) -> RepairReport:
        return RepairReport(failed=1, ended=next(passes) > 0)

    monkeypatch.setattr(Repair, "run_once", run_once)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "flipped-bit", duration_s=0.1, clients=1, sizes=[100])

    criterion = "every store has what it is to have before anything is damaged"
    assert {criterion: ["repair, in 2 passes, left 2 copies undone"]} == failed(run)


async def test_writes_hang_before_a_case_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: the first store to suffer does so only after the shortest load would be over, as one
    that rests.
    """
    real = RunStore.suffer
    late: list[asyncio.Task[None]] = []

    async def suffer(self: RunStore, ailment: Ailment) -> None:
        if late:
            await real(self, ailment)
        else:
            late.append(asyncio.create_task(suffer_late(self, ailment)))

    async def suffer_late(store: RunStore, ailment: Ailment) -> None:
        await asyncio.sleep(LATE_S)
        await real(store, ailment)

    monkeypatch.setattr(RunStore, "suffer", suffer)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(
            gateway, "timeout-write", duration_s=0.1, clients=1, sizes=[100], hang_s=0.2
        )

    assert late
    assert {} == failed(run)


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", ["backend-full", "retry-storm", "timeout-write"])
async def test_no_quorum_is_left_whatever_stores_there_are(tmp_path: Path, case: str) -> None:
    """Method: four stores in three failure domains."""
    backends = [
        {"kind": "local", "name": n, "failure_domain": d, "path": str(tmp_path / n)}
        for n, d in (("one", "here"), ("two", "here"), ("three", "there"), ("four", "far"))
    ]
    async with running_gateway(tmp_path, enable_stress=True, backends=backends) as gateway:
        run = await carried_out(gateway, case, **parameters_of(case, 1, nightly=False))

    assert {} == failed(run)


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", NEEDING_SEVERAL)
async def test_a_case_passes_with_the_least_it_needs(
    tmp_path: Path, case: str, node: IpfsNode | None
) -> None:
    parameters = parameters_of(case, 1, nightly=False)
    least = CASES[case].bytes_min(msgspec.convert(parameters, CASES[case].parameters))
    async with running_gateway(
        tmp_path, enable_stress=True, stress_bytes_max=least, **settings(node)
    ) as gateway:
        run = await carried_out(gateway, case, **parameters)

    assert {} == failed(run)


async def test_a_run_whose_own_stores_have_no_room_is_refused(tmp_path: Path) -> None:
    """Method: a reserve that no disk has."""
    async with running_gateway(tmp_path, enable_stress=True, reserve_bytes=1 << 60) as gateway:
        refused = await ask(gateway, "POST", "/v1/stress/flipped-bit", {"sizes": [100]})

    assert (422, "sizes") == (refused.status, refused.json()["field"])
    config = Config(data_dir=tmp_path, reserve_bytes=1 << 60)
    assert config.stress_bytes_max == bytes_max(config, stores=1), "it has none of its own"


async def test_a_run_leaves_the_mount_point_of_a_lost_disk_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it wrote there would make the gateway take the mount point for the disk."""
    mounted, disk = tmp_path / "one", tmp_path / "disk"
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in NAMES]
    async with running_gateway(
        tmp_path, enable_stress=True, write_quorum=1, backends=backends
    ) as gateway:
        await asyncio.to_thread(mounted.rename, disk)
        await asyncio.to_thread(mounted.mkdir)
        run = await start(gateway, "tiny-objects", duration_s=1)

        async def is_over() -> bool:
            state = (await show(gateway, run["id"]))["state"]
            return state != "running" or "not cleared away yet" in caplog.text

        await eventually(is_over, what="a run that broke off")
        written = await asyncio.to_thread(lambda: list(mounted.iterdir()))
        still = (await show(gateway, run["id"]))["state"]
        await asyncio.to_thread(mounted.rmdir)
        await asyncio.to_thread(disk.rename, mounted)
        end = await ended(gateway, run["id"])

    assert [] == written
    assert "running" == still, "it is not cleared away before the disk was seen clean"
    assert "fail" == end["verdict"]
