"""Small objects: requests a second for 4 KiB, against bare aiohttp that moves as many bytes.

Each round sends one request on every connection, then reads all answers: the server has that many
to work on at once, and the load generator needs no threads. An upload is sealed, and durable before
it is answered; the peer reads the body and answers JSON.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from .figures import Row, Sample, interleave
from .machine import cores, pinned
from .plan import Plan
from .servers import PLAINTEXT, SEALED, GatewayServer, Server, bare_server, gateway
from .thin import Connection

SIZE = 4096
AT_ONCE = 16
CONNECTIONS = (1, AT_ONCE)
RATIO_MIN = {"upload": 1 / 40, "sealed fetch": 1 / 15, "plaintext fetch": 1 / 25}
"""With sixteen at once; one at a time waits for the disk, whatever the server does."""
CPU_UNIT = "requests/CPU s"
_NUMBERS = itertools.count(1)
"""Of tasks: each upload needs a slot of its own."""

Ask = Callable[[Connection], None]


@dataclass(slots=True)
class Requests:
    """One server and one kind of request; keeps the CPU time of each run."""

    server: Server
    ask: Ask
    connections: int
    count: int
    cpu: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    def measure(self) -> float:
        """Ask as often as is wanted; return requests a second."""
        rounds = max(1, self.count // self.connections)
        token = self.server.token if isinstance(self.server, GatewayServer) else ""
        with ExitStack() as stack:
            opened = [
                stack.enter_context(Connection(self.server.url, token))
                for _ in range(self.connections)
            ]
            self.answers.clear()
            before, began = self.server.cpu_s(), time.perf_counter()
            for _ in range(rounds):
                for connection in opened:
                    self.ask(connection)
                self.answers += [connection.receive() for connection in opened]
            seconds = time.perf_counter() - began
            cpu_s = self.server.cpu_s() - before
        requests = rounds * self.connections
        self.cpu_s.append(cpu_s)
        self.cpu.append(requests / cpu_s if cpu_s else 0.0)
        return requests / seconds


def measure(plan: Plan) -> list[Row]:
    """Return upload, sealed and plaintext fetch of 4 KiB; then with one worker and with two."""
    return [*_against_bare(plan), *_workers(plan)]


def _against_bare(plan: Plan) -> list[Row]:
    load_core, server_core = cores()
    rows: list[Row] = []
    with gateway(server_core, plan.folder / "small") as server, pinned(load_core):
        names, sealed_size = stored(server)
        with (
            bare_server(server_core, SIZE) as bare,
            bare_server(server_core, sealed_size) as larger,
        ):
            peers = {"upload": (bare, _post), "sealed fetch": (larger, _get)}
            for connections in CONNECTIONS:
                for what, ask in _asks(server, names).items():
                    peer, peer_ask = peers.get(what, (bare, _get))
                    sides = {
                        "gateway": Requests(server, ask, connections, plan.small_count),
                        "bare aiohttp": Requests(peer, peer_ask, connections, plan.small_count),
                    }
                    floor = RATIO_MIN[what] if connections == AT_ONCE else None
                    rows.append(row_of(plan, f"4 KiB {what}, {connections} at once", sides, floor))
    return rows


def _workers(plan: Plan) -> list[Row]:
    """Compare one worker and two on all cores, of which the load generator needs a part."""
    load_core, _ = cores()
    rows: list[Row] = []
    with _gateway_of(plan, 2) as two, _gateway_of(plan, 1) as one, pinned(load_core):
        asks = {server.url: _asks(server, stored(server)[0]) for server in (two, one)}
        for what in RATIO_MIN:
            sides = {
                name: Requests(server, asks[server.url][what], AT_ONCE, plan.small_count)
                for name, server in (("2 workers", two), ("1 worker", one))
            }
            name = f"4 KiB {what}, {AT_ONCE} at once, 2 workers, all cores"
            rows.append(row_of(plan, name, sides))
    return rows


@contextmanager
def _gateway_of(plan: Plan, workers: int) -> Iterator[GatewayServer]:
    with gateway(None, plan.folder / f"small{workers}", workers=workers) as server:
        yield server


def row_of(plan: Plan, name: str, sides: dict[str, Requests], floor: float | None = None) -> Row:
    """Measure two sides in turn; return how the first compares with the second."""
    samples = interleave(
        {side: each.measure for side, each in sides.items()},
        plan.runs,
        lambda side, value: plan.say(f"{name}: {side} {value:,.0f}/s"),
    )
    (_, ours), (peer_name, peer) = samples.items()
    first, second = (Sample(tuple(side.cpu)).median for side in sides.values())
    return Row(
        name,
        "/s",
        ours,
        peer_name,
        peer,
        ratio_min=floor,
        cpu=(first, second),
        cpu_unit=CPU_UNIT,
    )


def stored(
    server: GatewayServer, size: int = SIZE, count: int = 8 * AT_ONCE
) -> tuple[list[str], int]:
    """Upload some objects; return their names and the size of each as a sealed file."""
    side = Requests(server, upload_to(server, size), AT_ONCE, count)
    side.measure()
    documents = [json.loads(answer) for answer in side.answers]
    return [document["urn"] for document in documents], documents[0]["sealed_size"]


def _asks(server: GatewayServer, names: list[str]) -> dict[str, Ask]:
    return {
        "upload": upload_to(server),
        "sealed fetch": fetch_from(names, SEALED),
        "plaintext fetch": fetch_from(names, PLAINTEXT),
    }


def upload_to(server: GatewayServer, size: int = SIZE) -> Ask:
    """Return what uploads into a new slot each time."""
    body = os.urandom(size)

    def ask(connection: Connection) -> None:
        connection.send("POST", server.slot(f"small_{next(_NUMBERS)}"), body, kind=PLAINTEXT)

    return ask


def fetch_from(names: list[str], accept: str) -> Ask:
    """Return what fetches one object after the other."""
    turns = itertools.cycle(names)

    def ask(connection: Connection) -> None:
        connection.send("GET", f"/v1/objects/{next(turns)}", accept=accept)

    return ask


def _post(connection: Connection) -> None:
    connection.send("POST", "/", bytes(SIZE), kind=PLAINTEXT)


def _get(connection: Connection) -> None:
    connection.send("GET", "/")
