"""A gateway of a run in a process of its own, which says where it is and waits there to be killed.

It ends with the pipe that its orders come through, and on Linux also by the kernel's hand, when the
process that started it dies: a stopped process reads no pipe.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from crypto import Secret
from storage_gateway.backends import KeyedStore
from storage_gateway.backends.faulty import FaultyStore, StoreFaults
from storage_gateway.catalog.faulty import CatalogFaults, FaultyCatalog
from storage_gateway.config import Config
from storage_gateway.database_url import DatabaseURL, parse_database_url

from .orders import Order, Spec, Told, point_of
from .run_parts import open_run_parts
from .world import MakeGateway

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 3


class Points:
    """Waits at the point that was ordered. Shared by all threads of the process."""

    def __init__(self, out: BinaryIO, spec: Spec) -> None:
        """``out`` is what the run reads."""
        self._out = out
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._at, self._left = spec.at, spec.nth

    def tell(self, told: Told) -> None:
        """Send a line up."""
        with self._lock:
            self._out.write(msgspec.json.encode(told) + b"\n")
            self._out.flush()

    def obey(self, order: Order) -> None:
        """Take an order."""
        with self._lock:
            self._at, self._left = order.at, order.nth
        if order.go:
            self._go.set()

    def reach(self, point: str) -> None:
        """Pass a point; at the one that was ordered, say so and wait."""
        with self._lock:
            if point != self._at:
                return
            self._left -= 1
            if self._left:
                return
            self._at = None
            self._go.clear()
        self.tell(Told(reached=point))
        self._go.wait()


async def serve_run(make_gateway: MakeGateway, orders: BinaryIO, out: BinaryIO) -> None:
    """Serve a run's gateway until the orders end; never returns."""
    spec = msgspec.json.decode(
        await asyncio.to_thread(orders.readline), type=Spec, dec_hook=_from_text
    )
    _die_with(spec.parent_pid)
    points = Points(out, spec)
    threading.Thread(target=_obey, args=(points, orders), daemon=True).start()
    config = msgspec.json.decode(spec.config, type=Config, dec_hook=_from_text)
    async with AsyncExitStack() as opened:
        plain = await open_run_parts(
            config,
            spec.deployment_id,
            spec.run_id,
            opened,
            database=spec.database,
            before=lambda store: _telling(store, points, spec.seed),
        )
        store = FaultyStore(plain.store, seed=spec.seed)
        store.faults = StoreFaults(at_point=points.reach)
        catalog = FaultyCatalog(plain.catalog, seed=spec.seed)
        catalog.faults = CatalogFaults(at_point=points.reach)
        gateway = make_gateway(config, plain.over(catalog, store))
        await gateway.start()
        points.tell(Told(url=gateway.url))
        await asyncio.Event().wait()


def _telling(store: KeyedStore, points: Points, seed: int) -> KeyedStore:
    """Return one of the stores, whose steps are points, too: each told with the store's name."""
    telling = FaultyStore(store, seed=seed)
    telling.faults = StoreFaults(at_point=lambda step: points.reach(point_of(store.name, step)))
    return telling


def _from_text(kind: type, value: object) -> object:
    if kind is DatabaseURL:
        return parse_database_url(str(value))
    if kind is Secret:
        return Secret(str(value).encode())
    return Path(str(value)) if kind is Path else value


def _obey(points: Points, orders: BinaryIO) -> None:
    for line in orders:
        points.obey(msgspec.json.decode(line, type=Order))
    os._exit(EXIT_ORPHANED)


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies. Source: PR_SET_PDEATHSIG(2const)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before
        os._exit(EXIT_ORPHANED)
