"""Goal: the cases about stores pass where the deployment's own store is a bucket, whose network
then does what goes wrong, and leave nothing there.

Method: a real gateway over a real S3 server; the case is run over HTTP, and asks the server through
the run's own proxy. By day some, by night all.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage_gateway.stress.cases import CASES
from tests.gateway import running_gateway
from tests.http.test_s3 import HORIZON_S, s3_backend
from tests.servers.seaweedfs import SeaweedFS
from tests.stress.runs import carried_out, failed
from tests.stress.test_cases import parameters_of

ABOUT_STORES = sorted(n for n, c in CASES.items() if c.stores > 1 and c.needs is None)
BY_DAY = {"flipped-bit", "timeout-write"}
ON_THE_WIRE = {
    "hang-after-headers",
    "lost-acknowledgement",
    "slow-trickle",
    "timeout-read",
    "timeout-write",
}
"""Those whose faults are of the network."""


@pytest.fixture
async def bucket(s3_server: SeaweedFS) -> AsyncIterator[str]:
    made = await asyncio.to_thread(s3_server.new_bucket)
    yield made
    await asyncio.to_thread(s3_server.drop, made)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "case",
    [
        name if name in BY_DAY else pytest.param(name, marks=pytest.mark.nightly)
        for name in ABOUT_STORES
    ],
)
async def test_a_case_passes_on_a_bucket(
    tmp_path: Path, s3_server: SeaweedFS, bucket: str, case: str, seed: int, nightly: bool
) -> None:
    async with running_gateway(
        tmp_path,
        enable_stress=True,
        backends=[s3_backend(s3_server, bucket)],
        late_write_horizon_s=HORIZON_S,
    ) as gateway:
        run = await carried_out(gateway, case, **parameters_of(case, seed, nightly=nightly))
        left = [blob.key async for blob in gateway.gateway.parts.store.list("")]

    assert {} == failed(run), json.dumps(run, indent=1)
    assert [key for key in left if "/stress-" in key] == []
    if case in ON_THE_WIRE:
        assert run["faults"].get("bucket: on connections", 0) > 0, run["faults"]
