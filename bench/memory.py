"""Peak memory of the gateway process over its idle peak (VmHWM), under one transfer and under many.

Each is measured on a freshly started process, since a peak never comes down.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .figures import MIB, Row, Sample
from .machine import cores, pinned, require_space
from .plan import Plan
from .servers import PLAINTEXT, SEALED, GatewayServer, gateway
from .thin import Connection

OVER_IDLE_MAX_MIB = 64.0
"""For one transfer; with many, over idle and the budget."""
AT_ONCE = 16
SLOW_STEP = 64 << 10
SLOW_STEPS = 14
"""Just short of a leaf: as much as one who sends slowly can make a gateway wait with."""
SMALL_ROOM = 4 << 10

Task = Callable[[GatewayServer], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to hold memory, and how much over idle it may come to."""

    name: str
    task: Task
    most_mib: float


def measure(plan: Plan) -> list[Row]:
    """Return peak over idle, in MiB, of each case."""
    require_space(plan.folder, plan.memory_size)
    return [
        Row(
            f"peak memory over idle, {case.name}",
            "MiB",
            Sample((peak_over_idle(plan, case),)),
            ours_max=case.most_mib,
        )
        for case in cases(plan)
    ]


def cases(plan: Plan) -> list[Case]:
    """Return the cases; each needs what those before it left in the data folder."""
    size, clients = plan.memory_size, plan.memory_clients
    one, many = OVER_IDLE_MAX_MIB, OVER_IDLE_MAX_MIB + plan.memory_budget / MIB
    names: list[str] = []
    alone = [
        Case(f"upload {size >> 20} MiB", lambda server: names.append(_upload(server, size)), one),
        Case("its sealed download", lambda server: _download(server, names[0]), one),
    ]
    if clients == 0:
        return alone
    return [
        *alone,
        Case(f"{AT_ONCE} uploads at once", lambda s: _at_once(s, size // AT_ONCE), many),
        Case(f"{clients} slow uploads", lambda server: _slow_uploads(server, clients), many),
        Case(
            f"{clients} downloads that are not read",
            lambda server: _slow_downloads(server, clients, names[0]),
            many,
        ),
    ]


def peak_over_idle(plan: Plan, case: Case) -> float:
    """Return how much higher VmHWM is after the case than before it, in MiB."""
    load_core, server_core = cores()
    budgets = {
        "write_memory_bytes": plan.memory_budget,
        "read_memory_bytes": plan.memory_budget,
        "memory_wait_s": 1,
    }
    with gateway(server_core, plan.folder / "memory", **budgets) as server, pinned(load_core):
        idle = server.peak_memory()
        case.task(server)
        over = (server.peak_memory() - idle) / MIB
    plan.say(f"memory, {case.name}: idle {idle / MIB:.1f} MiB, {over:.1f} MiB more at the peak")
    return over


def _upload(server: GatewayServer, size: int) -> str:
    with Connection(server.url, server.token) as connection:
        answer = connection.upload(server.slot("large"), os.urandom(MIB), size)
    urn: str = json.loads(answer)["urn"]
    return urn


def _download(server: GatewayServer, urn: str) -> None:
    with Connection(server.url, server.token) as connection:
        connection.download(f"/v1/objects/{urn}", SEALED)


def _at_once(server: GatewayServer, size: int) -> None:
    """Send a MiB on each connection in turn, as fast as the slowest of them takes it."""
    part = os.urandom(min(MIB, size))
    with _connections(server, AT_ONCE) as connections:
        for number, connection in enumerate(connections):
            connection.begin(server.slot(f"at_once_{number}"), size)
        for sent in range(0, size, len(part)):
            for connection in connections:
                connection.send_part(part[: size - sent])
        answers = [json.loads(connection.receive()) for connection in connections]
    for answer in answers:
        server.erase(answer["urn"])


def _slow_uploads(server: GatewayServer, clients: int) -> None:
    """Have so many bodies stop within their first leaf, all at one time."""
    part = os.urandom(SLOW_STEP)
    with _connections(server, clients) as connections:
        for number, connection in enumerate(connections):
            connection.begin(server.slot(f"slow_{number}"), 1 << 30)
        for _ in range(SLOW_STEPS):
            for connection in connections:
                connection.send_part(part)
        server.wait_quiet()


def _slow_downloads(server: GatewayServer, clients: int, urn: str) -> None:
    """Have so many ask for a large object, and read none of it."""
    with _connections(server, clients) as connections:
        for number, connection in enumerate(connections):
            accept = PLAINTEXT if number % 2 else SEALED
            connection.send("GET", f"/v1/objects/{urn}", accept=accept)
        server.wait_quiet()


@contextmanager
def _connections(server: GatewayServer, count: int) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(Connection(server.url, server.token, room=SMALL_ROOM))
            for _ in range(count)
        ]
