"""Goal: every stress case passes on a gateway that is well, and fails on one with a bug that the
case is there for. Method: each is run over HTTP, small by day and with its defaults by night, once
as the code is and once with the bug of `tests.stress.planted`.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_gateway.stress.cases import CASES
from tests.databases import KINDS, databases
from tests.gateway import leftovers, running_gateway
from tests.http.test_ipfs import HORIZON_S, ipfs_backend
from tests.servers.ipfs import IpfsNode
from tests.stress.planted import PLANTED, plant
from tests.stress.runs import carried_out, failed

SMALL: dict[str, dict[str, Any]] = {
    "backend-flapping": {"duration_s": 0.3, "clients": 2, "flap_s": 0.1},
    "backend-full": {"duration_s": 0.1, "clients": 1},
    "backend-lies": {"duration_s": 0.1, "clients": 2},
    "backend-outage": {"duration_s": 0.1, "clients": 1},
    "catalog-lost": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "catalog-rolled-back": {"duration_s": 0.1, "clients": 1, "sizes": [4096]},
    "catalog-stall": {"stall_s": 0.05, "lost_answers": 0.4},
    "clock-jump": {"every_s": 0.3},
    "clock-leap": {"duration_s": 0.1, "clients": 1, "sizes": [4096]},
    "concurrent-same-session": {},
    "crash-after-commit": {"duration_s": 0.1, "clients": 2},
    "crash-before-commit": {"duration_s": 0.1, "clients": 2},
    "crash-in-recovery": {"duration_s": 0.1, "clients": 2},
    "crash-in-rotation": {"sizes": [4096]},
    "crash-in-sweep": {"sizes": [4096], "points": 3},
    "crash-mid-upload": {"duration_s": 0.1, "clients": 2, "sizes": [4096, 1_000_000]},
    "deadline-mismatch": {"duration_s": 0.1, "scale": 0.001},
    "disabled-key": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "duplicate-submit": {"clients": 2},
    "erase-with-backend-down": {"duration_s": 0.1, "clients": 1, "sizes": [4096]},
    "expired-while-reading": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "flipped-bit": {"duration_s": 0.1, "clients": 2},
    "foreign-deployment": {"duration_s": 0.1, "clients": 1},
    "forged-manifest-copy": {"duration_s": 0.1, "clients": 2},
    "hang-after-headers": {"duration_s": 0.1, "clients": 2, "hang_s": 0.1},
    "hold-against-erase": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "huge-object": {"sizes": [(20 << 20) + 1]},
    "ipfs-gc-race": {"duration_s": 0.1, "clients": 2},
    "ipfs-gone": {"duration_s": 0.1, "clients": 2, "sizes": [4096, 1_000_000]},
    "ipfs-shared-cid": {"sizes": [1_000_000]},
    "ipfs-slow-pin": {"late": [0.1]},
    "key-provider-down": {"duration_s": 0.1, "sizes": [4096]},
    "late-copy-after-erase": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "late-write-after-abort": {"duration_s": 0.1},
    "lost-acknowledgement": {"duration_s": 0.1, "clients": 2, "sizes": [4096, 1_000_000]},
    "missing-blob": {"duration_s": 0.1, "clients": 2},
    "orphan-blob": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "partial-replica": {"duration_s": 0.1, "clients": 1},
    "partial-write": {"torn_bodies": 0.5, "torn_writes": 0.5},
    "partial-write-recovery": {
        "duration_s": 0.1,
        "clients": 2,
        "sizes": [4096],
        "phases": ["repair"],
        "points": 1,
    },
    "paused-process": {"duration_s": 0.1},
    "poisoned-header": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "queue-spike": {"duration_s": 0.1, "clients": 30},
    "repair-under-load": {"duration_s": 0.1, "clients": 2, "sizes": [4096, 1_000_000]},
    "replica-disagreement": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "reseal-under-load": {"duration_s": 0.1, "clients": 2, "sizes": [4096]},
    "result-before-object": {"duration_s": 0.1, "clients": 2, "slow_s": 0.1},
    "retry-storm": {"duration_s": 0.1, "clients": 4},
    "rotation-under-load": {"duration_s": 0.1, "clients": 2},
    "slow-client": {"duration_s": 0.1, "clients": 2, "slow_clients": 2, "idle_s": 0.3},
    "slow-trickle": {"duration_s": 0.1, "clients": 8, "slow_s": 2.0},
    "stale-key-reader": {"duration_s": 0.1, "clients": 2},
    "stale-key-writer": {"duration_s": 0.1, "clients": 2, "retiring_s": 0.3},
    "swapped-header": {"duration_s": 0.1, "clients": 2},
    "swapped-payload": {"duration_s": 0.1, "clients": 2},
    "timeout-read": {"duration_s": 0.1, "hang_s": 0.1, "clients": 2},
    "timeout-write": {"hang_s": 0.2},
    "tiny-objects": {"clients": 8},
    "truncated-blob": {"duration_s": 0.1, "clients": 2, "sizes": [4096, 1_000_000]},
}
"""What a case is given by day, beside the duration."""
SMALLER: dict[str, dict[str, Any]] = {
    "crash-in-sweep": {"points": 1},
    "partial-write-recovery": {"phases": ["one-store"]},
}
"""What is enough for a bug to be seen."""
ON_POSTGRES_BY_DAY = {"crash-after-commit", "crash-before-commit", "tiny-objects"}
"""The others run there by night: on both databases all of them take minutes."""
BY_NIGHT = {"ipfs-gone", "ipfs-slow-pin"}
"""What waits for deadlines and rests that nothing shortens."""
PLANTED_BY_NIGHT = BY_NIGHT | {
    "catalog-rolled-back",
    "crash-in-rotation",
    "ipfs-gc-race",
    "late-write-after-abort",
    "partial-write-recovery",
}
"""Of the runs that must fail, what waits, too, or what takes longest."""
DURATION_S = 0.6
EVIDENCE = {
    "deadline-mismatch": " objects",
    "late-write-after-abort": "orphan",
    "partial-write-recovery": "orphan",
    "paused-process": "was committed by a process that had lost it",
    "swapped-header": "was read with another object's head",
}
"""Words of what must have been seen, where something else would break the same invariant."""
PLANTED_SEED = 1
"""Of the runs that must fail: each case provokes what it is about at once, with any luck."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every case on SQLite, and on PostgreSQL by night; by day most, and there some."""
    if "case" not in metafunc.fixturenames:
        return
    everything = metafunc.config.getoption("nightly")
    is_planted = metafunc.function is test_a_case_fails_on_its_planted_bug
    by_night = set() if everything else PLANTED_BY_NIGHT if is_planted else BY_NIGHT
    pairs = [
        (case, kind)
        for kind in KINDS
        for case in CASES
        if case not in by_night
        if kind == "sqlite" or everything or case in ON_POSTGRES_BY_DAY
    ]
    metafunc.parametrize(("case", "database"), pairs, indirect=["database"], scope="module")


def parameters_of(case: str, seed: int, *, nightly: bool) -> dict[str, Any]:
    """Return a case's parameters for this tier."""
    return {"seed": seed} | ({} if nightly else {"duration_s": DURATION_S} | SMALL[case])


def test_every_case_has_a_planted_bug() -> None:
    assert set(CASES) == set(PLANTED) == set(SMALL)


@pytest.fixture
def node(request: pytest.FixtureRequest, case: str) -> Iterator[IpfsNode | None]:
    """Return the deployment's node, where the case needs one."""
    if CASES[case].needs is None:
        yield None
        return
    node: IpfsNode = request.getfixturevalue("ipfs")
    yield node
    node.clear()


def settings(node: IpfsNode | None) -> dict[str, Any]:
    """Return what a deployment with that node, or with the default store, is given."""
    if node is None:
        return {}
    return {"backends": [ipfs_backend(node)], "late_write_horizon_s": HORIZON_S}


@pytest.mark.timeout(900)  # by night the bodies have their full sizes
async def test_a_case_passes(
    tmp_path: Path, case: str, node: IpfsNode | None, seed: int, nightly: bool
) -> None:
    async with running_gateway(tmp_path, enable_stress=True, **settings(node)) as gateway:
        run = await carried_out(gateway, case, **parameters_of(case, seed, nightly=nightly))

        assert {} == failed(run), json.dumps(run, indent=1)
        assert ("done", "pass") == (run["state"], run["verdict"])
        assert {str(number) for number in CASES[case].invariants} <= {
            str(entry["number"]) for entry in run["invariants"]
        }
        assert seed == run["seed"]
        store = gateway.gateway.parts.members[0].bare
        assert [] == await leftovers(gateway.catalog, store)
        assert not (gateway.data_dir / "stress").exists()
        assert [] == databases.schemas(gateway.data_dir)
        if node is not None:
            assert 1 == len(await asyncio.to_thread(node.pins)), "the marker's"


async def test_a_case_fails_on_its_planted_bug(
    tmp_path: Path, case: str, node: IpfsNode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = PLANTED[case][1]
    async with running_gateway(tmp_path, enable_stress=True, **settings(node)) as gateway:
        plant(case, monkeypatch)
        parameters = parameters_of(case, PLANTED_SEED, nightly=False) | SMALLER.get(case, {})
        run = await carried_out(gateway, case, **parameters)
        monkeypatch.undo()

        assert ("done", "fail") == (run["state"], run["verdict"])
        assert broken in failed(run), json.dumps(run, indent=1)
        assert EVIDENCE.get(case, "") in str(failed(run)[broken])
