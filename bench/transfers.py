"""Large uploads and downloads: the gateway against bare aiohttp, with several load generators.

The servers run on one core, the load generator on another. Both servers are up all the time and
are asked in turn.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from crypto import LEAF_PLAINTEXT_SIZE

from .figures import MIB, Row, Sample, interleave, made_up, one_after_the_other
from .limits import download_limit, upload_limit
from .machine import cores, pinned, require_space
from .ordinary import Ordinary
from .plan import Plan
from .servers import PLAINTEXT, SEALED, GatewayServer, Server, bare_server, gateway
from .thin import Thin

RATIO_MIN = 0.5
_NUMBERS = itertools.count(1)
"""Of tasks: each upload needs a slot of its own."""


class LoadGenerator(Protocol):
    """A client; see `Thin` and `Ordinary`."""

    name: str

    def upload(self, url: str, path: str, token: str) -> bytes:
        """Send the body that it was made with; return the answer's body."""

    def download(self, url: str, path: str, token: str, accept: str) -> int:
        """Fetch a body; return its size."""


@dataclass(slots=True)
class _Side:
    """One server and one kind of transfer; keeps the CPU time of each run, in seconds a GB."""

    server: Server
    size: int
    transfer: Callable[[], None]
    clean: Callable[[], None] = lambda: None
    cpu: list[float] = field(default_factory=list)

    def measure(self) -> float:
        """Transfer once; return MB/s."""
        before = self.server.cpu_s()
        began = time.perf_counter()
        self.transfer()
        seconds = time.perf_counter() - began
        self.cpu.append((self.server.cpu_s() - before) / (self.size / 1e9))
        self.clean()
        return self.size / seconds / 1e6


class _GatewayUpload:
    """Uploads into a new slot each time, and erases what it uploaded."""

    def __init__(self, server: GatewayServer, load: LoadGenerator, size: int) -> None:
        """`size` is that of the load generator's body."""
        self._server = server
        self._load = load
        self._size = size
        self.urn = ""

    def transfer(self) -> None:
        server, path = self._server, self._server.slot(f"upload_{next(_NUMBERS)}")
        answer = json.loads(self._load.upload(server.url, path, server.token))
        assert answer["size"] == self._size
        self.urn = answer["urn"]

    def erase(self) -> None:
        self._server.erase(self.urn)


def measure_uploads(plan: Plan) -> list[Row]:
    """Return uploads with each load generator, and what limits them."""
    require_space(plan.folder, 3 * plan.transfer_size)
    limit = upload_limit(plan.folder, os.urandom(LEAF_PLAINTEXT_SIZE), plan.transfer_size)
    rows: list[Row] = []
    with _both(plan, "uploads") as (ours, bare):
        for load in _load_generators(plan, made_up(plan.transfer_size)):
            upload = _GatewayUpload(ours, load, plan.transfer_size)
            sides = {
                "gateway": _Side(ours, plan.transfer_size, upload.transfer, upload.erase),
                "bare": _Side(bare, plan.transfer_size, _bare_upload(bare, load, plan)),
            }
            rows += _rows(plan, "upload", load, sides, limit=limit)
    return rows


def measure_downloads(plan: Plan) -> list[Row]:
    """Return sealed downloads with each load generator, what limits them, and plaintext ones."""
    require_space(plan.folder, 3 * plan.transfer_size)
    limit = download_limit(plan.folder, plan.transfer_size)
    rows: list[Row] = []
    with _both(plan, "downloads") as (ours, bare):
        body = made_up(plan.transfer_size)
        upload = _GatewayUpload(ours, Thin(body), len(body))
        upload.transfer()
        path = f"/v1/objects/{upload.urn}"
        for load in _load_generators(plan, body):
            sides = {
                "gateway": _download(ours, load, path, SEALED, plan),
                "bare": _download(bare, load, "/", "", plan),
            }
            rows += _rows(plan, "sealed download", load, sides, limit=limit)
        load = Thin(body)
        sides = {
            "gateway": _download(ours, load, path, PLAINTEXT, plan),
            "bare": _download(bare, load, "/", "", plan),
        }
        rows += _rows(plan, "plaintext download", load, sides, ratio_min=None)
    return rows


def _load_generators(plan: Plan, body: bytes) -> tuple[LoadGenerator, ...]:
    return Thin(body), Ordinary(body), Ordinary(body, plan.folder)


@contextmanager
def _both(plan: Plan, name: str) -> Iterator[tuple[GatewayServer, Server]]:
    load_core, server_core = cores()
    with (
        gateway(server_core, plan.folder / name) as ours,
        bare_server(server_core, plan.transfer_size) as bare,
        pinned(load_core),
    ):
        body = made_up(min(plan.transfer_size, 64 * MIB))
        warm_up = _GatewayUpload(ours, Thin(body), len(body))
        warm_up.transfer()
        warm_up.erase()
        Thin(body).upload(bare.url, "/", "")
        yield ours, bare


def _rows(
    plan: Plan,
    what: str,
    load: LoadGenerator,
    sides: dict[str, _Side],
    *,
    limit: Callable[[], float] | None = None,
    ratio_min: float | None = RATIO_MIN,
) -> list[Row]:
    name = f"{what} {plan.transfer_size >> 20} MiB, {load.name}"
    work = {side: each.measure for side, each in sides.items()}
    # The limit has no client: it stands beside the client that hides least.
    if limit is not None and isinstance(load, Thin):
        work["limit"] = limit
    samples = interleave(work, plan.runs, plan.note(name))
    ours, bare = samples["gateway"], samples["bare"]
    cpu = (Sample(tuple(sides["gateway"].cpu)).median, Sample(tuple(sides["bare"].cpu)).median)
    rows = [Row(name, "MB/s", ours, "bare aiohttp", bare, ratio_min=ratio_min, cpu=cpu)]
    if "limit" in samples:
        limits = samples["limit"]
        rows += [
            Row(name, "MB/s", ours, "the unavoidable work alone", limits),
            Row(name, "MB/s", ours, "that and bare aiohttp", one_after_the_other(limits, bare)),
        ]
    return rows


def _bare_upload(bare: Server, load: LoadGenerator, plan: Plan) -> Callable[[], None]:
    def transfer() -> None:
        answer = json.loads(load.upload(bare.url, "/", ""))
        assert answer["size"] == plan.transfer_size

    return transfer


def _download(server: Server, load: LoadGenerator, path: str, accept: str, plan: Plan) -> _Side:
    token = server.token if isinstance(server, GatewayServer) else ""

    def transfer() -> None:
        assert load.download(server.url, path, token, accept) >= plan.transfer_size

    return _Side(server, plan.transfer_size, transfer)
