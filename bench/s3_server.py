"""The S3 server under the S3 figures: the tests' SeaweedFS, the fastest of those that can be had.

The tests' own starter starts it: it finds free ports, tells nobody, and leaves nothing behind.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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

    seaweedfs: SeaweedFS

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far."""
        process = self.seaweedfs.process
        assert process is not None
        return Server(self.seaweedfs.endpoint, process.pid).cpu_s()

    def wait_quiet(self) -> None:
        """Wait until it has done what it does after its answers: it deletes later than it says."""
        until = time.monotonic() + QUIET_WITHIN_S
        before, now = -math.inf, self.cpu_s()
        while now - before >= QUIET_CPU_S and time.monotonic() < until:
            time.sleep(QUIET_LOOK_S)
            before, now = now, self.cpu_s()

    def new_bucket(self) -> str:
        """Make a bucket that has got what a first write waits for."""
        bucket = self.seaweedfs.new_bucket()
        self.seaweedfs.store(bucket, "warm-up", bytes(WARM_UP_SIZE))
        self.seaweedfs.remove(bucket, "warm-up")
        return bucket

    def login(self, port: int | None = None) -> dict[str, str]:
        """Return where the server is, or a proxy before it, and who may ask."""
        return {
            "endpoint": f"http://127.0.0.1:{port or self.seaweedfs.port}",
            "access_key": self.seaweedfs.access_key,
            "secret_key": self.seaweedfs.secret_key,
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
