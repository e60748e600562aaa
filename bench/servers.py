"""Server processes under measurement: started on a core of their own, watched through /proc."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from crypto import X25519Identity

from .machine import NotMeasurable, pinned
from .thin import Connection

STOP_TIMEOUT_S = 60
QUIET_WITHIN_S = 60.0
QUIET_LOOKS, QUIET_LOOK_S = 3, 0.5
QUIET_CPU_S = 0.05
"""What timers alone use in the time of a look."""
SESSION = "bench"
SEALED = "application/age"
PLAINTEXT = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, user and system, by it and its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return sum(_cpu_s(pid) for pid in (self.pid, *map(int, children.split())))

    def peak_memory(self) -> int:
        """Return the highest resident size so far, VmHWM, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise NotMeasurable("/proc tells no VmHWM")

    def wait_quiet(self) -> None:
        """Wait until the process uses no CPU time for a while: it waits for others then."""
        quiet, before = 0, -1.0
        until = time.monotonic() + QUIET_WITHIN_S
        while quiet < QUIET_LOOKS and time.monotonic() < until:
            now = self.cpu_s()
            quiet = quiet + 1 if now - before < QUIET_CPU_S else 0
            before = now
            time.sleep(QUIET_LOOK_S)


def _cpu_s(pid: int) -> float:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    # Fields 14 and 15 of proc(5), counted from behind the name, which may hold anything.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class GatewayServer(Server):
    """A running gateway with an open session, and the token of the session's user."""

    operator_token: str = field(repr=False)
    token: str = field(repr=False)

    def slot(self, task: str) -> str:
        """Return the path to upload an input to."""
        return f"/v1/sessions/{SESSION}/tasks/{task}/input"

    def erase(self, urn: str) -> None:
        """Erase an object, so that a run leaves no bytes on the disk."""
        with Connection(self.url, self.operator_token) as connection:
            connection.request("DELETE", f"/v1/objects/{urn}")


@contextmanager
def bare_server(core: int, size: int) -> Iterator[Server]:
    """Run the peer; it sends `size` bytes."""
    with running(["-m", "bench.bare", str(size)], core) as (url, pid):
        yield Server(url, pid)


@contextmanager
def gateway(core: int | None, data_dir: Path, **settings: object) -> Iterator[GatewayServer]:
    """Run a gateway on a data folder, new or kept from before; settings are those of its config.

    Without a `core` it may use all of them.
    """
    with gateway_of("storage_gateway", core, data_dir, settings) as server:
        yield server


@contextmanager
def gateway_of(
    module: str, core: int | None, data_dir: Path, settings: Mapping[str, object]
) -> Iterator[GatewayServer]:
    """Run a gateway, as `gateway` does, that is another program than ours."""
    command = ["-m", module, "serve", "--data-dir", str(data_dir)]
    # One line of log a request: part of what a server does, so it is written, to a file.
    command += ["--log-level", "info"]
    environment = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    with running(command, core, data_dir.with_suffix(".log"), environment) as served:
        url, pid = served
        operator = (data_dir / "operator-token").read_text(encoding="ascii").strip()
        yield GatewayServer(url, pid, operator, session_token(url, operator, data_dir))


@contextmanager
def running(
    command: list[str],
    core: int | None,
    log: Path = Path(os.devnull),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[str, int]]:
    """Run a Python program until the end of the block; yield its first line and its process id."""
    place = nullcontext() if core is None else pinned(core)
    with log.open("ab") as log_file, place:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            env={**os.environ, **environment},
        )
    try:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            raise NotMeasurable(f"{' '.join(command)} did not start; {log} may say why")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


def session_token(url: str, operator: str, data_dir: Path) -> str:
    """Open the session, or return the token of the one that this folder has already."""
    kept = data_dir / "bench-token"
    if kept.exists():
        return kept.read_text(encoding="ascii")
    document = {
        "session_id": SESSION,
        "parties": {
            "user": {"recipient": str(X25519Identity.generate().recipient())},
            "miners": [
                {
                    "id": "0x00000000000000000000000000000000000000a1",
                    "recipient": str(X25519Identity.generate().recipient()),
                }
            ],
        },
    }
    with Connection(url, operator) as connection:
        body = json.dumps(document).encode()
        answer = connection.request("POST", "/v1/sessions", body, kind="application/json")
    token: str = json.loads(answer)["tokens"]["user"]
    kept.write_text(token, encoding="ascii")
    return token
