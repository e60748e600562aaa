"""Large uploads and downloads: the gateway against bare aiohttp, with two load generators.

The servers run on one core, the load generator on another. Both servers are up all the time and
are asked in turn.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from crypto import LEAF_PLAINTEXT_SIZE

from . import ordinary
from .figures import MIB, Row, Sample, interleave, one_after_the_other
from .limits import download_limit, upload_limit
from .machine import cores, pinned, require_space
from .plan import Plan
from .servers import PLAINTEXT, SEALED, GatewayServer, Server, bare_server, gateway
from .thin import Connection

RATIO_MIN = 0.5
PIECE = os.urandom(MIB)


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

    def __init__(self, server: GatewayServer, size: int, *, thin: bool) -> None:
        self._server = server
        self._size = size
        self._thin = thin
        self._count = 0
        self.urn = ""

    def transfer(self) -> None:
        self._count += 1
        path = self._server.slot(f"{'thin' if self._thin else 'ordinary'}_{self._count}")
        body = _upload(self._server.url, path, self._server.token, self._size, thin=self._thin)
        answer = json.loads(body)
        assert answer["size"] == self._size
        self.urn = answer["urn"]

    def erase(self) -> None:
        self._server.erase(self.urn)


def measure_uploads(plan: Plan) -> list[Row]:
    """Return uploads with both load generators, and what limits them."""
    require_space(plan.folder, 2 * plan.transfer_size)
    rows: list[Row] = []
    with _both(plan, "uploads") as (ours, bare):
        for thin in (True, False):
            upload = _GatewayUpload(ours, plan.transfer_size, thin=thin)
            sides = {
                "gateway": _Side(ours, plan.transfer_size, upload.transfer, upload.erase),
                "bare": _Side(bare, plan.transfer_size, _bare_upload(bare, plan, thin=thin)),
            }
            limit = upload_limit(plan.folder, os.urandom(LEAF_PLAINTEXT_SIZE), plan.transfer_size)
            rows += _rows(plan, "upload", sides, thin=thin, limit=limit)
    return rows


def measure_downloads(plan: Plan) -> list[Row]:
    """Return sealed downloads with both load generators, what limits them, and plaintext ones."""
    require_space(plan.folder, 2 * plan.transfer_size)
    rows: list[Row] = []
    with _both(plan, "downloads") as (ours, bare):
        upload = _GatewayUpload(ours, plan.transfer_size, thin=True)
        upload.transfer()
        path = f"/v1/objects/{upload.urn}"
        for thin in (True, False):
            sides = {
                "gateway": _download(ours, path, ours.token, plan, SEALED, thin=thin),
                "bare": _download(bare, f"/{plan.transfer_size}", "", plan, "", thin=thin),
            }
            limit = download_limit(plan.folder, plan.transfer_size)
            rows += _rows(plan, "sealed download", sides, thin=thin, limit=limit)
        sides["gateway"] = _download(ours, path, ours.token, plan, PLAINTEXT, thin=False)
        rows += _rows(plan, "plaintext download", sides, thin=False, ratio_min=None)
    return rows


@contextmanager
def _both(plan: Plan, name: str) -> Iterator[tuple[GatewayServer, Server]]:
    load_core, server_core = cores()
    data_dir = plan.folder / name
    with (
        gateway(server_core, data_dir) as ours,
        bare_server(server_core) as bare,
        pinned(load_core),
    ):
        _warm_up(ours, bare, plan)
        yield ours, bare


def _warm_up(ours: GatewayServer, bare: Server, plan: Plan) -> None:
    size = min(plan.transfer_size, 64 * MIB)
    with Connection(ours.url, ours.token) as connection:
        answer = json.loads(connection.upload(ours.slot("warm_up"), PIECE, size))
    ours.erase(answer["urn"])
    with Connection(bare.url) as connection:
        connection.upload("/", PIECE, size)


def _rows(
    plan: Plan,
    what: str,
    sides: dict[str, _Side],
    *,
    thin: bool,
    limit: Callable[[], float] | None = None,
    ratio_min: float | None = RATIO_MIN,
) -> list[Row]:
    client = "thin client" if thin else "aiohttp client"
    name = f"{what} {plan.transfer_size >> 20} MiB, {client}"
    work = {side: each.measure for side, each in sides.items()}
    if thin and limit is not None:
        work["limit"] = limit
    samples = interleave(work, plan.runs, plan.note(name))
    ours, bare = samples["gateway"], samples["bare"]
    cpu = (Sample(tuple(sides["gateway"].cpu)).median, Sample(tuple(sides["bare"].cpu)).median)
    rows = [Row(name, "MB/s", ours, "bare aiohttp", bare, ratio_min=ratio_min, cpu=cpu)]
    if "limit" in samples:
        limits = samples["limit"]
        rows += [
            Row(name, "MB/s", ours, "unavoidable work alone", limits),
            Row(name, "MB/s", ours, "both on one core", one_after_the_other(limits, bare)),
        ]
    return rows


def _bare_upload(bare: Server, plan: Plan, *, thin: bool) -> Callable[[], None]:
    def transfer() -> None:
        body = _upload(bare.url, "/", "", plan.transfer_size, thin=thin)
        assert json.loads(body)["size"] == plan.transfer_size

    return transfer


def _upload(url: str, path: str, token: str, size: int, *, thin: bool) -> bytes:
    if not thin:
        return ordinary.upload(f"{url}{path}", token, PIECE, size)
    with Connection(url, token) as connection:
        return connection.upload(path, PIECE, size)


def _download(
    server: Server, path: str, token: str, plan: Plan, accept: str, *, thin: bool
) -> _Side:
    def transfer() -> None:
        if thin:
            with Connection(server.url, token) as connection:
                size = connection.download(path, accept)
        else:
            size = ordinary.download(f"{server.url}{path}", token, accept or "*/*")
        assert size >= plan.transfer_size

    return _Side(server, plan.transfer_size, transfer)
