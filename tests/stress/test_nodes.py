"""Goal: the cases pass where the deployment's own store is an IPFS node, whose network then does
what goes wrong, and leave no pin there.

Method: a real gateway over a real node; the case is run over HTTP, and asks the node through the
run's own proxy. By day some, by night all.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage_gateway.stress.cases import CASES
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.http.test_ipfs import HORIZON_S, disk_backend, ipfs_backend
from tests.servers.ipfs import IpfsNode
from tests.stress.planted import Plant
from tests.stress.planted_nodes import VACUOUS_BUGS
from tests.stress.runs import ask, carried_out, ended, failed, show, start
from tests.stress.test_buckets import ON_THE_WIRE
from tests.stress.test_cases import parameters_of

ANYWHERE = [name for name, case in CASES.items() if case.needs is None]
"""The others are in test_cases.py."""
SMALL_BY_NIGHT = {"huge-object", "queue-spike"}
"""The tests' node takes minutes for gigabytes, and for hundreds at one time."""
BY_DAY = {"replica-disagreement"}


@asynccontextmanager
async def over(
    path: Path, *backends: dict[str, object], **settings: object
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with stress cases over these stores."""
    async with running_gateway(
        path,
        enable_stress=True,
        backends=list(backends),
        late_write_horizon_s=HORIZON_S,
        **settings,
    ) as gateway:
        yield gateway


@pytest.fixture
def node(ipfs: IpfsNode) -> Iterator[IpfsNode]:
    yield ipfs
    ipfs.revive()
    ipfs.clear()


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("quorum", [1, 2])
@pytest.mark.parametrize("case", [name for name in CASES if name not in ANYWHERE])
async def test_a_case_about_nodes_passes_beside_another_store(
    tmp_path: Path, node: IpfsNode, case: str, quorum: int, seed: int
) -> None:
    async with over(
        tmp_path, disk_backend(tmp_path), ipfs_backend(node), write_quorum=quorum
    ) as gateway:
        run = await carried_out(gateway, case, **parameters_of(case, seed, nightly=False))
        left = await asyncio.to_thread(node.pins)

    assert {} == failed(run), json.dumps(run, indent=1)
    assert 1 == len(left), "the marker's"


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("plant_bug", "case", "broken"), VACUOUS_BUGS.values(), ids=VACUOUS_BUGS)
async def test_a_case_without_anything_to_look_at_in_the_node_fails(
    tmp_path: Path,
    node: IpfsNode,
    monkeypatch: pytest.MonkeyPatch,
    plant_bug: Plant,
    case: str,
    broken: str,
) -> None:
    """Method: the other store has everything, so that no upload fails."""
    async with over(
        tmp_path, disk_backend(tmp_path), ipfs_backend(node), write_quorum=1
    ) as gateway:
        plant_bug(monkeypatch)
        run = await carried_out(gateway, case, **parameters_of(case, 1, nightly=False))
        monkeypatch.undo()

    assert broken in failed(run), json.dumps(run, indent=1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "case",
    [
        name if name in BY_DAY else pytest.param(name, marks=pytest.mark.nightly)
        for name in ANYWHERE
    ],
)
async def test_a_case_passes_on_a_node(
    tmp_path: Path, node: IpfsNode, case: str, seed: int, nightly: bool
) -> None:
    async with over(tmp_path, ipfs_backend(node)) as gateway:
        before = await asyncio.to_thread(node.pins)
        run = await carried_out(
            gateway,
            case,
            **parameters_of(case, seed, nightly=nightly and case not in SMALL_BY_NIGHT),
        )
        left = await asyncio.to_thread(node.pins) - before

    assert {} == failed(run), json.dumps(run, indent=1)
    assert set() == left
    if case in ON_THE_WIRE:
        assert run["faults"].get("node: on connections", 0) > 0, run["faults"]


@pytest.mark.nightly
@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", [name for name in CASES if name not in ANYWHERE])
async def test_a_run_that_is_stopped_leaves_no_pin(
    tmp_path: Path, node: IpfsNode, case: str, seed: int
) -> None:
    async with over(tmp_path, ipfs_backend(node)) as gateway:
        run = await start(gateway, case, seed=seed)

        async def has_stored() -> bool:
            return bool((await show(gateway, run["id"]))["progress"].get("acknowledged"))

        await eventually(has_stored, what="a stored object")
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        end = await ended(gateway, run["id"])
        left = await asyncio.to_thread(node.pins)

    assert "stopped" == end["state"]
    assert 1 == len(left), "the marker's"
