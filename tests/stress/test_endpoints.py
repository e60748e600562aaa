"""Goal: the stress endpoints keep their promises: bounded, one run at a time, stoppable, watchable,
answered by every process, and nothing of a run is left. Method: a real gateway, small runs.
"""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from storage_gateway.backend_settings import IPFSBackend, LocalBackend
from storage_gateway.catalog import stress_remains
from storage_gateway.catalog.tables import objects, tokens
from storage_gateway.stress.cases import CASES
from storage_gateway.stress.cases.tiny_objects import TinyObjects
from storage_gateway.stress.control import BODY_BYTES_MAX
from storage_gateway.stress.load import Answer, Customer
from storage_gateway.stress.run_stores import NEAR_NODE, NODE, Need
from storage_gateway.stress.runner import Run
from tests.databases import databases
from tests.gateway import (
    RunningGateway,
    eventually,
    leftovers,
    payload_keys,
    running_gateway,
)
from tests.stress.runs import ask, carried_out, ended, failed, show, start

pytestmark = pytest.mark.both_databases(by_day=False)

LONG_S = 60.0


async def left_of_runs(gateway: RunningGateway) -> list[str]:
    """Return, in words, all that is there of runs: blobs, files, objects."""
    keys = await payload_keys(gateway.catalog, gateway.store)
    folder = gateway.data_dir / "stress"
    below = list(gateway.data_dir.rglob("stress-*"))
    return [
        *(key for key in keys if "/stress-" in key),
        *([str(folder)] if folder.exists() else []),
        *map(str, below),
        *databases.schemas(gateway.data_dir),
        *await leftovers(gateway.catalog, gateway.store),
    ]


async def test_the_list_tells_all_of_a_case(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        answer = await ask(gateway, "GET", "/v1/stress")

        listed = {case["case"]: case for case in answer.json()["cases"]}
        assert set(CASES) == set(listed)
        for case in listed.values():
            schema = case["parameters"]
            assert {"seed", "duration_s", "clients", "sizes"} <= set(schema["properties"])
            assert False is schema["additionalProperties"]
            assert case["edge_case"].endswith(".")
            assert case["invariants"]


async def test_a_case_about_a_backend_that_is_not_there_says_so(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        listed = (await ask(gateway, "GET", "/v1/stress")).json()["cases"]
        needing = {case["case"]: case["needs"] for case in listed if not case["runs_here"]}

        assert {name for name in CASES if name.startswith("ipfs-")} == set(needing)
        for name, needed in needing.items():
            refused = await ask(gateway, "POST", f"/v1/stress/{name}", {})
            assert (
                f"{name} needs {needed} among"
                in refused.problem(409, "stress_backend_needed")["detail"]
            )


@pytest.mark.parametrize(
    ("api", "taken"),
    [
        ("http://127.0.0.1:5001", {NODE, NEAR_NODE}),
        ("http://localhost:5001", {NODE, NEAR_NODE}),
        ("https://127.0.0.1:5001", {NODE}),
        ("https://node.example", {NODE}),
    ],
)
def test_a_case_about_late_imports_needs_a_node_behind_a_proxy(api: str, taken: set[Need]) -> None:
    disk = LocalBackend(name="disk", path=Path("disk"))
    node = IPFSBackend(name="node", api=api)

    assert taken == {need for need in (NODE, NEAR_NODE) if need.is_met((disk, node))}
    assert not NODE.is_met((disk,))


async def test_what_is_over_a_limit_is_refused(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, object], str]] = [
        ({"duration_s": 2.5}, "duration_s"),
        ({"clients": 5}, "clients"),
        ({"sizes": [1, 2001]}, "sizes"),
        ({"sizes": [1600]}, "sizes"),  # written and read back: more than a run may move
        ({"duration_s": 0}, "duration_s"),
        ({"clients": 0}, "clients"),
        ({"sizes": []}, "sizes"),
        ({"sizes": [-1]}, "sizes"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 53}, "seed"),
        ({"speed": 1}, ""),
    ]
    async with running_gateway(
        tmp_path,
        enable_stress=True,
        stress_duration_s_max=2,
        stress_clients_max=4,
        stress_body_bytes_max=2000,
        stress_bytes_max=3000,
    ) as gateway:
        for parameters, field in refused:
            good = {"duration_s": 1, "clients": 1, "sizes": [1]}
            answer = await ask(gateway, "POST", "/v1/stress/tiny-objects", good | parameters)

            assert field in answer.problem(422, "invalid_field")["field"], parameters


async def test_an_unknown_case_or_run_is_not_found(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        (await ask(gateway, "POST", "/v1/stress/nonsense", {})).problem(404, "not_found")
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            answer = await ask(gateway, method, f"/v1/stress/runs/{'a' * 32}{path}")
            answer.problem(404, "not_found")


async def test_a_run_stays_within_its_bytes(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True, stress_bytes_max=10_000) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=LONG_S, sizes=[1000], clients=2)

        assert {} == failed(run)
        assert 5 == run["requests"]["upload"]["ok"]


async def test_a_spike_whose_first_wave_is_over_the_bytes_is_refused(tmp_path: Path) -> None:
    wave = {"duration_s": LONG_S, "clients": 3, "sizes": [1000, 100]}
    async with running_gateway(tmp_path, enable_stress=True, stress_bytes_max=4199) as gateway:
        answer = await ask(gateway, "POST", "/v1/stress/queue-spike", wave)

        problem = answer.problem(422, "invalid_field")
        assert "sizes" == problem["field"]
        assert "4200 bytes" in problem["detail"]


async def test_a_spike_ends_with_a_whole_wave_when_its_bytes_are_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun that the end of the bytes would cut off."""
    real = Customer.upload
    begun: list[object] = []
    answered: list[object] = []

    async def upload(self: Customer, *args: Any, **kwargs: Any) -> Answer:  # noqa: ANN401 - passed on
        begun.append(args)
        answer = await real(self, *args, **kwargs)
        answered.append(args)
        return answer

    monkeypatch.setattr(Customer, "upload", upload)
    wave = {"duration_s": LONG_S, "clients": 4, "sizes": [1000]}
    async with running_gateway(tmp_path, enable_stress=True, stress_bytes_max=12_000) as gateway:
        run = await carried_out(gateway, "queue-spike", **wave)

    assert {} == failed(run)
    assert 1 == run["notes"]["waves"]
    assert begun
    assert len(begun) == len(answered)


async def test_overhead_is_left_out_where_the_control_group_has_other_sizes(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        same = await carried_out(gateway, "huge-object", duration_s=0.1, sizes=[BODY_BYTES_MAX])
        other = await carried_out(
            gateway, "huge-object", duration_s=0.1, sizes=[BODY_BYTES_MAX + 1]
        )

    assert {"upload", "fetch"} <= set(same["overhead"])
    assert other["overhead"] is None
    assert [BODY_BYTES_MAX] == same["control"]["sizes"] == other["control"]["sizes"]


async def test_one_run_at_a_time(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        first = await start(gateway, "tiny-objects", duration_s=LONG_S)
        answer = await ask(gateway, "POST", "/v1/stress/partial-write", {})

        assert first["id"] == answer.problem(409, "stress_busy")["run_id"]
        await ask(gateway, "DELETE", f"/v1/stress/runs/{first['id']}")
        await ended(gateway, first["id"])
        second = await carried_out(gateway, "tiny-objects", duration_s=0.2)
        assert {} == failed(second)


async def test_a_run_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")
        assert await left_of_runs(gateway)
        answer = await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")

        assert 202 == answer.status
        over = await ended(gateway, run["id"])
        assert ("stopped", "fail") == (over["state"], over["verdict"])
        assert [] == await left_of_runs(gateway)
        again = await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        assert 200 == again.status


async def _has_stored(gateway: RunningGateway, run_id: str) -> bool:
    return bool((await show(gateway, run_id))["progress"].get("acknowledged"))


async def test_events_tell_progress_and_bring_the_report(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=0.5, seed=7)
        headers = {"Authorization": f"Bearer {gateway.operator_token}"}
        url = f"{gateway.url}/v1/stress/runs/{run['id']}/events"
        async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
            text = await answer.text()

    assert "text/event-stream" == answer.content_type
    events = [event.split("\n") for event in text.strip().split("\n\n")]
    assert {"event: progress"} == {lines[0] for lines in events[:-1]}
    assert "event: end" == events[-1][0]
    report = json.loads(events[-1][1].removeprefix("data: "))
    assert ("done", "pass", 7) == (report["state"], report["verdict"], report["seed"])


async def test_a_gateway_that_stops_clears_its_run_away(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")

    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        assert "stopped" == (await show(gateway, run["id"]))["state"]
        assert [] == await left_of_runs(gateway)


async def test_another_process_answers_for_a_run_and_stops_it(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, enable_stress=True) as owner,
        running_gateway(tmp_path, enable_stress=True) as other,
    ):
        run = await start(owner, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(other, run["id"]), what="progress, seen from outside")
        busy = await ask(other, "POST", "/v1/stress/tiny-objects", {})
        await ask(other, "DELETE", f"/v1/stress/runs/{run['id']}")
        over = await ended(other, run["id"])

        assert 409 == busy.status
        assert "stopped" == over["state"]
        assert [] == await left_of_runs(owner)


async def test_a_report_holds_no_secret(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.3)
        text = json.dumps(run)

        assert not re.search(r"sg_(user|miner|operator)_|AGE-SECRET|Bearer", text)
        assert gateway.operator_token not in text
        assert str(tmp_path) not in text
        for name in ("version", "config_digest", "overhead", "latency_ms", "retries", "leftovers"):
            assert name in run


async def test_control_objects_are_erased_and_their_tokens_revoked(tmp_path: Path) -> None:
    # As long as late writes may come they are not erased to the end, and the session stays.
    async with running_gateway(tmp_path, enable_stress=True, late_write_horizon_s=600) as gateway:
        run = await carried_out(gateway, "tiny-objects", duration_s=0.5)
        answer = await ask(gateway, "GET", f"/v1/sessions/stress.{run['id']}/objects")

        listed = answer.json()["objects"]
        assert listed
        assert "committed" not in {entry["state"] for entry in listed}
        assert len(listed) == run["leftovers"]["removed"]["control_objects"]
        mine = tokens.c.session_id == f"stress.{run['id']}"
        revoked = await gateway.catalog.read(
            lambda c: c.execute(select(tokens.c.revoked_ms).where(mine)).scalars().all()
        )
        assert revoked
        assert None not in revoked


@pytest.mark.both_databases
async def test_an_old_run_is_gone_with_all_that_it_left_in_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress_remains, "RUNS_KEPT", 1)
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        first = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=1)
        assert first == await show(gateway, first["id"])
        await eventually(lambda: _session_is_gone(gateway, first["id"]), what="no session")
        second = await carried_out(gateway, "tiny-objects", duration_s=0.1, clients=1)
        await eventually(lambda: _session_is_gone(gateway, second["id"]), what="no session")
        await eventually(lambda: _run_is_gone(gateway, first["id"]), what="no run")

        assert second == await show(gateway, second["id"])
        tombstones = await gateway.catalog.read(lambda c: c.execute(select(objects)).all())
        assert [] == tombstones
        assert [] == await left_of_runs(gateway)


async def _session_is_gone(gateway: RunningGateway, run_id: str) -> bool:
    answer = await ask(gateway, "GET", f"/v1/sessions/stress.{run_id}/objects")
    return answer.status == 404


async def _run_is_gone(gateway: RunningGateway, run_id: str) -> bool:
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        answer = await ask(gateway, method, f"/v1/stress/runs/{run_id}{path}")
        if answer.status != 404:
            return False
        answer.problem(404, "not_found")
    return True


async def test_a_namespace_that_vanished_is_cleared_as_well(tmp_path: Path) -> None:
    """Clearing is idempotent: what somebody else removed meanwhile does not stop it."""
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")
        (namespace,) = gateway.data_dir.rglob(f"stress-{run['id']}")
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        await asyncio.to_thread(shutil.rmtree, namespace, ignore_errors=True)

        assert "stopped" == (await ended(gateway, run["id"]))["state"]
        assert [] == await left_of_runs(gateway)


async def test_recovery_leaves_alone_what_this_process_begins(tmp_path: Path) -> None:
    """A pass may come between the run's row and the run; a row that nobody works on is cleared."""
    async with running_gateway(tmp_path, enable_stress=True, recovery_interval_s=60) as gateway:
        stress = gateway.gateway.services.stress
        assert stress is not None
        run = Run("a" * 32, CASES["tiny-objects"], TinyObjects(), 1)
        stress._at_work.add(run.run_id)
        await stress._begin(run)

        assert not await stress.recover()
        assert "running" == (await show(gateway, run.run_id))["state"]
        stress._at_work.discard(run.run_id)
        assert await stress.recover()
        assert "stopped" == (await show(gateway, run.run_id))["state"]
