"""What is seen of the processes of a gateway from outside: the workers, and who served what."""

import json
from contextlib import suppress
from pathlib import Path

from tests.gateway import GatewayProcess, eventually


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that have not ended."""
    folders = (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return sorted(int(folder.name) for folder in folders if _state(folder) == (pid, True))


def worker_process(gateway: GatewayProcess, number: int) -> int:
    """Return the process that is the worker of that number now."""
    for pid in children_of(gateway.process.pid):
        with suppress(FileNotFoundError):
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if str(number) in arguments:
                return pid
    raise AssertionError(f"worker {number} does not run")


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, other than one that has ended and nobody asked for."""
    state = _state(Path(f"/proc/{pid}"))
    return state is not None and state[1]


def is_stopped(pid: int) -> bool:
    """Tell whether a process was stopped by a signal and has not gone on."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return stat.split()[0] == "T"


def _state(folder: Path) -> tuple[int, bool] | None:
    """Return the parent of a process, and whether it runs."""
    try:
        # After the name, which may hold anything: state, then parent.
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent), state not in ("Z", "X")


async def workers_of(gateway: GatewayProcess, count: int) -> list[int]:
    """Return the workers, once there are so many that take connections."""

    async def all_ready() -> list[int]:
        running = children_of(gateway.process.pid)
        ready = {line["pid"] for line in log_of(gateway) if line["event"] == "worker ready"}
        return running if len(running) == count and ready.issuperset(running) else []

    return await eventually(all_ready, what=f"{count} workers", within_s=60)


def log_of(gateway: GatewayProcess) -> list[dict[str, object]]:
    """Return the lines of the log that are whole."""
    lines = gateway.log.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def served_by(gateway: GatewayProcess, path: str) -> list[object]:
    """Return the numbers of the workers that answered requests for a path."""
    return [line.get("worker") for line in log_of(gateway) if line.get("path") == path]
