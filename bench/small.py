"""Small objects: requests a second for 4 KiB bodies, on one connection and on sixteen.

For information; there is no floor. Each round sends one request on every connection, then reads
all answers: the server has that many to work on at once, and the load generator needs no threads.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from .figures import Row, Sample
from .machine import cores, pinned
from .plan import Plan
from .servers import PLAINTEXT, SEALED, GatewayServer, gateway
from .thin import Connection

SIZE = 4096
CONNECTIONS = (1, 16)

Ask = Callable[[Connection, int], None]


def measure(plan: Plan) -> list[Row]:
    """Return upload, sealed fetch and plaintext fetch of 4 KiB, in requests a second."""
    load_core, server_core = cores()
    rows: list[Row] = []
    with gateway(server_core, plan.folder / "small") as server, pinned(load_core):
        for connections in CONNECTIONS:
            names: list[str] = []
            asks = _asks(server, connections, names)
            for what, ask in asks.items():
                rate = _rate(plan, server, connections, ask, names)
                plan.say(f"4 KiB {what}, {connections} at once: {rate:,.0f}/s")
                rows.append(Row(f"4 KiB {what}, {connections} at once", "/s", Sample((rate,))))
    return rows


def _asks(server: GatewayServer, connections: int, names: list[str]) -> dict[str, Ask]:
    body = os.urandom(SIZE)

    def upload(connection: Connection, number: int) -> None:
        path = server.slot(f"{connections}_{number}")
        connection.send("POST", path, body, kind=PLAINTEXT)

    def fetch(accept: str) -> Ask:
        def ask(connection: Connection, number: int) -> None:
            name = names[number % len(names)]
            connection.send("GET", f"/v1/objects/{name}", accept=accept)

        return ask

    return {"upload": upload, "sealed fetch": fetch(SEALED), "plaintext fetch": fetch(PLAINTEXT)}


def _rate(plan: Plan, server: GatewayServer, connections: int, ask: Ask, names: list[str]) -> float:
    """Return requests a second; the names of uploaded objects are kept in `names`."""
    rounds = max(1, plan.small_count // connections)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(Connection(server.url, server.token)) for _ in range(connections)
        ]
        answers: list[bytes] = []
        began = time.perf_counter()
        for number in range(rounds):
            for at, connection in enumerate(opened):
                ask(connection, number * connections + at)
            answers += [connection.receive() for connection in opened]
        seconds = time.perf_counter() - began
    if not names:
        names += [json.loads(answer)["urn"] for answer in answers]
    return rounds * connections / seconds
