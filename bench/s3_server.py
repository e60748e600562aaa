"""The S3 servers under the S3 figures. The tests' SeaweedFS is the fastest of those that can be had
with small objects. JuiceFS, which the tests have too, takes a third of its CPU time for large ones.

The tests' own starters start them: they find free ports, tell nobody, and leave nothing behind.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers import juicefs
from tests.servers.juicefs import JuiceFS
from tests.servers.seaweedfs import HOW, SeaweedFS, installed, seaweedfs

from .machine import cores, pinned
from .plan import Plan
from .servers import Server

WARM_UP_SIZE = 64 << 10
QUIET_WITHIN_S = 30.0
QUIET_LOOK_S = 0.1
QUIET_CPU_S = 0.03
"""What its timers may use in the time of a look."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server, and buckets of it."""

    server: SeaweedFS | JuiceFS

    @property
    def seaweedfs(self) -> SeaweedFS:
        """The server, where more is asked of it than its buckets."""
        assert isinstance(self.server, SeaweedFS)
        return self.server

    @property
    def port(self) -> int:
        """The port of the S3 API."""
        return self.server.port

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far."""
        process = self.server.process
        assert process is not None
        return Server(self.server.endpoint, process.pid).cpu_s()

    def wait_quiet(self) -> None:
        """Wait until it has done what it does after its answers: it deletes later than it says."""
        until = time.monotonic() + QUIET_WITHIN_S
        before, now = -math.inf, self.cpu_s()
        while now - before >= QUIET_CPU_S and time.monotonic() < until:
            time.sleep(QUIET_LOOK_S)
            before, now = now, self.cpu_s()

    def new_bucket(self) -> str:
        """Make a bucket that has got what a first write waits for."""
        bucket = self.server.new_bucket()
        if isinstance(self.server, SeaweedFS):
            self.server.store(bucket, "warm-up", bytes(WARM_UP_SIZE))
            self.server.remove(bucket, "warm-up")
        return bucket

    def login(self, port: int | None = None) -> dict[str, str]:
        """Return where the server is, or a proxy before it, and who may ask."""
        return {
            "endpoint": f"http://127.0.0.1:{port or self.port}",
            "access_key": self.server.access_key,
            "secret_key": self.server.secret_key,
        }

    def backend(self, name: str = "bucket", port: int | None = None) -> dict[str, str]:
        """Return the gateway's settings of a new bucket."""
        # A deployment wants its bucket empty, which one that was warmed up is again.
        return {"kind": "s3", "name": name, "bucket": self.new_bucket(), **self.login(port)}


def on(*backends: dict[str, str]) -> dict[str, str]:
    """Return the setting of a gateway whose payloads lie in these."""
    return {"backends": json.dumps(backends)}


@contextmanager
def s3_server(plan: Plan, what: str) -> Iterator[S3Server | None]:
    """Run a server on the load generator's core; None, and a note, where there is none."""
    if installed() is None:
        plan.notes.append(f"{what}: NOT MEASURED, there is no SeaweedFS (to get it: {HOW})")
        yield None
        return
    load_core, _ = cores()
    with pinned(load_core), seaweedfs() as server:
        yield S3Server(server)


@contextmanager
def cheap_server(plan: Plan, what: str, otherwise: S3Server) -> Iterator[S3Server]:
    """Run, on the same core, the server that takes least for a large object; without it, and with
    a note, it is the other one.
    """
    if juicefs.installed() is None:
        plan.notes.append(f"{what}: on SeaweedFS, there is no JuiceFS (to get it: {juicefs.HOW})")
        yield otherwise
        return
    load_core, _ = cores()
    with pinned(load_core), juicefs.juicefs() as server:
        yield S3Server(server)
