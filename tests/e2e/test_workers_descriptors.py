"""Goal: a parent process that runs out of descriptors goes on with what it has, and is whole again
once there are some; where there are too few to start, it says so.

Method: the real command; the parent's limit is taken down to what it holds, from outside, and up
again, while connections come and workers die. Linux, for `prlimit`.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.gateway import (
    REPOSITORY,
    START_S,
    GatewayProcess,
    eventually,
    gateway_process,
)
from tests.http.raw import connected, request
from tests.processes import is_running, log_of, worker_process, workers_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="not tested: workers, elsewhere than Linux"),
    pytest.mark.timeout(240),
]

WORKERS = 2
ASK = request("GET", "/healthz")
FIRST_FREE = 3
"""After the standard streams: with this limit no number is left for another descriptor."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path / "data", workers=WORKERS) as running:
        yield running


@contextmanager
def descriptors_left(pid: int, count: int) -> Iterator[None]:
    """Let so many be opened and no more; what is open stays.

    Who may not look into the process leaves none.
    """
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = descriptors(pid)
    free = [number for number in range(before[0]) if number not in held]
    limit = free[count] if held else FIRST_FREE
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def descriptors(pid: int) -> set[int]:
    """Return the numbers of those that are open; none for who may not look into the process."""
    folder = Path(f"/proc/{pid}/fd")
    looks = os.access(folder, os.R_OK | os.X_OK)
    return {int(path.name) for path in folder.iterdir()} if looks else set()


async def test_connections_wait_until_there_are_descriptors(gateway: GatewayProcess) -> None:
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(connected(gateway.address))
        await old.send(ASK)
        assert 200 == (await old.answer()).status
        with descriptors_left(gateway.process.pid, 0):
            new = await stack.enter_async_context(connected(gateway.address))
            await new.send(ASK)
            await eventually(lambda: _said(gateway, "no connection accepted"))
            await old.send(ASK)
            assert 200 == (await old.answer()).status
        assert 200 == (await new.answer()).status


@pytest.mark.parametrize("left", [0, 2], ids=["none for a line", "none for a process"])
async def test_a_worker_that_dies_meanwhile_is_replaced_afterwards(
    gateway: GatewayProcess, left: int
) -> None:
    """The line to a worker takes four descriptors; the dead one gives two back."""
    parent = gateway.process.pid
    await workers_of(gateway, WORKERS)
    before = len(descriptors(parent))

    async with connected(gateway.address) as old:
        await old.send(ASK)
        assert 200 == (await old.answer()).status
        (served,) = [line["worker"] for line in log_of(gateway) if line.get("path") == "/healthz"]
        victim = worker_process(gateway, 3 - int(str(served)))
        with descriptors_left(parent, left):
            os.kill(victim, signal.SIGKILL)
            await eventually(lambda: _said(gateway, "worker not started"), what="a failed start")
            await old.send(ASK)
            assert 200 == (await old.answer()).status

    assert not is_running(victim)
    assert victim not in await workers_of(gateway, WORKERS)
    await eventually(lambda: _holds(parent, before), what="the end of lost descriptors")


async def _said(gateway: GatewayProcess, event: str) -> bool:
    return event in {line["event"] for line in log_of(gateway)}


async def _holds(pid: int, count: int) -> bool:
    return len(descriptors(pid)) == count


@pytest.mark.parametrize("workers", [1, WORKERS])
@pytest.mark.parametrize("limit", [8, 63])
def test_with_too_few_to_start_it_says_so(tmp_path: Path, limit: int, workers: int) -> None:
    serve = [sys.executable, "-m", "storage_gateway", "serve", "--port", "0"]
    serve += ["--data-dir", str(tmp_path / "data"), "--workers", str(workers)]

    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', *serve],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"storage-gateway serve: the limit on open files is {limit},")
    assert 1 == done.stderr.count("\n")
    assert [] == list(tmp_path.iterdir())
