"""One history: a deployment, some clients, a few faults, then healing, rest, and the checks."""

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypeVar
from unittest import mock

from aiohttp import web_app
from sqlalchemy import Connection

from storage_gateway import drafts, indexing, placing, producing, read, recovery, write
from storage_gateway.catalog import Clock, blocks, objects, outcomes, sessions, work
from storage_gateway.leaves import Measure
from urn import DAGBuilder

from . import chance
from .checks import check_deeds, check_rest, is_busy
from .clients import Clients, Walk, slots_of, writer_of
from .database import Database, Memory
from .deeds import SlotKey
from .deployment import Member, prepare
from .faults import Faults, draw_faults, end_faults
from .network import NETWORK_S
from .node import HORIZON_S, Node
from .store import Shelf
from .world import StuckError, World

T = TypeVar("T")

CHUNK = 65_536
SEALED_CHUNK = CHUNK + 16
SEGMENT_CHUNKS = 2
"""Leaves of one chunk and segments of two here: an object of many segments is then quickly made."""

SMALL = {
    "LEAF_CHUNKS": 1,
    "LEAF_PLAINTEXT_SIZE": CHUNK,
    "LEAF_SIZE": SEALED_CHUNK,
    "SEGMENT_LEAVES": SEGMENT_CHUNKS,
    "SEGMENT_SIZE": SEGMENT_CHUNKS * SEALED_CHUNK,
}
HISTORIES_UNCOLLECTED_MAX = 50
ACTION_S = 0.5
IN_FLIGHT_S = 1.0
SETTLED_S = 4.0
"""After a catalog that stood still: leases have been renewed again by then."""
WALK_S_MAX = 600.0
REST_S_MAX = 120.0
VERIFY_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a history."""

    seed: int
    faults: Faults
    trouble: list[str]
    trace: list[tuple[float, str, str]] = field(repr=False)
    digest: str
    requests: int
    answered: int
    created: int
    virtual_s: float


@dataclass(frozen=True, slots=True)
class Climate:
    """What may go wrong, and where the store is."""

    faults: Faults
    elsewhere: bool


class Simulator:
    """Runs histories, one after the other. A context manager: it changes the process while it is
    in use (no logs, small leaves, no collection of garbage but between histories).
    """

    def __init__(self) -> None:
        """Make the database that every history begins with."""
        self.memory = Memory()
        self._changes: Any = None
        self._since_collection = 0

    def __enter__(self) -> Self:
        """Prepare."""
        chance.install()
        self._changes = _small_and_silent()
        self._changes.__enter__()
        with chance.seeded(0):
            self.memory.create()
            self.memory.use_clock(lambda _ms: World(0).clock_ms())
            self.memory.transact(prepare)
            self.memory.keep()
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def __exit__(self, *_error: object) -> None:
        """Put everything back."""
        gc.enable()
        gc.unfreeze()
        self._changes.__exit__(None, None, None)
        self.memory.close()

    def run(self, seed: int, climate: Climate | None = None) -> Outcome:
        """Run the history of a seed, in the given climate if not in one that the seed draws."""
        with self.deployment(seed, climate) as history:
            return history.run()

    @contextmanager
    def deployment(self, seed: int, climate: Climate | None = None) -> "Iterator[History]":
        """Make a deployment of a seed's world; it is cleared away at the end."""
        self.memory.restore()
        with chance.seeded(seed):
            history = History(seed, self.memory, climate)
            hook = sys.unraisablehook
            try:
                yield history
            finally:
                # Coroutines of dead processes complain when they are not let finish.
                sys.unraisablehook = lambda _complaint: None
                history.dispose()
                del history
                self._collect()
                sys.unraisablehook = hook
                sys.set_asyncgen_hooks(finalizer=None)

    def _collect(self) -> None:
        """Collect garbage, now and then: within a history, it would disturb its order."""
        self._since_collection += 1
        if self._since_collection >= HISTORIES_UNCOLLECTED_MAX:
            self._since_collection = 0
            # It holds the handlers of some hundred gateways, and so their whole worlds.
            web_app._cached_build_middleware.cache_clear()
            gc.collect()


def _simulated_now_ms(connection: Connection) -> int:
    clock: Clock = connection.info["storage_gateway.clock"]
    return clock(0)


@contextmanager
def _small_and_silent() -> Iterator[None]:
    """Make leaves and segments small, and keep logs from being written."""
    small_dag = partial(DAGBuilder, leaf_size=SEALED_CHUNK)
    changes: list[Any] = [
        *(
            mock.patch.object(module, name, small)
            for module in (placing, producing, read, write, indexing, blocks)
            for name, small in SMALL.items()
            if hasattr(module, name)
        ),
        mock.patch.object(write, "IN_CLEAR", Measure(CHUNK, CHUNK)),
        mock.patch.object(write, "AS_SEALED", Measure(SEALED_CHUNK, SEALED_CHUNK)),
        *(mock.patch.object(module, "DAGBuilder", small_dag) for module in (drafts, indexing)),
        *(
            # The database's clock is asked in SQL, in every third statement of all.
            mock.patch.object(module, "now_ms", _simulated_now_ms)
            for module in (objects, outcomes, sessions, work, recovery)
        ),
    ]
    for change in changes:
        change.start()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        for change in changes:
            change.stop()


class History:
    """The deployment, the clients and the mishaps of one seed."""

    def __init__(self, seed: int, memory: Memory, climate: Climate | None = None) -> None:
        """Draw what kind of history it is."""
        self.world = World(seed)
        climate = climate or Climate(draw_faults(self.world), elsewhere=self.world.chance(0.6))
        self.drawn = climate.faults
        self.faults = replace(climate.faults)
        self.database = Database(self.world, memory, self.faults, embedded=self.world.chance(0.5))
        self.shelf = Shelf(
            self.world,
            self.faults,
            elsewhere=climate.elsewhere,
            late_s_max=HORIZON_S * 0.9,
        )
        names = ("gateway-1", "gateway-2", "gateway-3")[: self.world.random.choice((1, 2, 2, 2, 3))]
        self.nodes = [
            Node(self.world, name, self.database, self.shelf, self.faults) for name in names
        ]
        self.clients = Clients(
            self.world, self.nodes, self.faults, in_pieces=self.world.chance(0.5)
        )
        self.slots = slots_of("A", self.world.random.randint(1, 2))
        if self.world.chance(0.3):
            self.slots += slots_of("B", 1)
        self.trouble: list[str] = []
        self._acting = True

    def run(self) -> Outcome:
        """Live through it, then check."""
        try:
            self._live()
            self._heal()
            self._rest()
            self._verify()
        except StuckError as error:
            self.trouble.append(f"stuck: {error}: {self._unfinished()}")
        self.trouble += check_deeds(self.clients.deeds, self.drawn, self.world.held_up_s)
        self.trouble += check_rest(self.database, self.shelf)
        self.trouble += [f"{c.process}: {c.text}" for c in self.world.complaints]
        deeds = self.clients.deeds
        return Outcome(
            seed=self.world.seed,
            faults=self.drawn,
            trouble=self.trouble,
            trace=self.world.trace,
            digest=self.world.digest(),
            requests=len(deeds),
            answered=sum(deed.status != 0 for deed in deeds),
            created=sum(deed.is_upload and deed.status == 201 for deed in deeds),
            virtual_s=self.world.now,
        )

    def dispose(self) -> None:
        """End whatever still waits."""
        for node in self.nodes:
            node.dispose()
        self.clients.process.alive = False
        self.clients.loop.dispose()

    def start(self) -> None:
        """Start every gateway, and wait until all answer."""
        for node in self.nodes:
            if not (node.starts and node.process.alive):
                node.start()
        limit_s = self.world.now + VERIFY_S_MAX
        self.world.run(lambda: all(node.up for node in self.nodes), until_s=limit_s)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the clients do something, and return its answer once it is done."""
        task: asyncio.Task[T] = self.clients.loop.create_task(work)
        self.world.run(task.done, until_s=self.world.now + VERIFY_S_MAX)
        return task.result()

    def _in_clients(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return self.clients.loop.create_task(work)

    def _live(self) -> None:
        for node in self.nodes:
            node.start()
        self.world.note("history", f"{self.faults}")
        walks = [
            self._in_clients(Walk(self.clients, self.slots).walk(self.world.random.randint(2, 4)))
            for _ in range(self.world.random.choice((1, 2, 2, 3)))
        ]
        self.world.at(ACTION_S, self._act)
        for walk in walks:
            self.world.run(walk.done, until_s=WALK_S_MAX)
            walk.result()

    def _act(self) -> None:
        """Let processes and power fail now and then."""
        if not self._acting:
            return
        world, faults = self.world, self.faults
        for node in self.nodes:
            if not node.process.alive:
                continue
            if world.chance(faults.kill * ACTION_S):
                node.kill("killed")
                node.restart_later()
            elif world.chance(faults.drain * ACTION_S):
                node.drain()
            elif world.chance(faults.pause * ACTION_S):
                node.pause()
        if world.chance(faults.power_cut * ACTION_S):
            world.note("history", "the power is cut")
            for node in self.nodes:
                node.kill("no power")
                node.restart_later()
            self.shelf.cut_power()
        if world.chance(faults.catalog_stall * ACTION_S):
            self.database.stall()
        world.at(ACTION_S, self._act)

    def _heal(self) -> None:
        self.world.note("history", "healed")
        self._acting = False
        end_faults(self.faults)
        self.clients.healed = True
        for node in self.nodes:
            node.process.resume()
            if not node.process.alive:
                node.start()

    def _rest(self) -> None:
        """Wait until recovery has nothing left to do."""
        rested: list[bool] = []

        def look() -> None:
            # A process that was draining when all was healed has to be there again, too.
            for node in self.nodes:
                if not node.process.alive:
                    node.start()
            settled = self.database.stalled_until + SETTLED_S < self.world.now
            idle = settled and all(node.idle for node in self.nodes)
            if idle and not is_busy(self.database):
                rested.append(True)
            else:
                self.world.at(1.0, look)

        self.world.at(IN_FLIGHT_S, look)
        try:
            self.world.run(lambda: bool(rested), until_s=self.world.now + REST_S_MAX)
        except StuckError:
            self.trouble.append("recovery does not come to rest")

    def _verify(self) -> None:
        """Read everything once more, everywhere; what is free must be free to take."""
        self.world.note("history", "at rest")
        work = self._in_clients(self._look_at_everything())
        self.world.run(work.done, until_s=self.world.now + VERIFY_S_MAX)
        work.result()

    async def _look_at_everything(self) -> None:
        clients = self.clients
        taken = set(clients.known.values())
        for slot in self.slots:
            # Where nothing was tried, nothing can be in the way.
            tried = any(deed.slot == slot for deed in clients.deeds)
            if slot not in taken and tried:
                deed = await clients.upload(
                    writer_of(clients, slot, operator=True), slot, b"at last"
                )
                taken.add(slot)
                if deed.status not in (201, 409):
                    self.trouble.append(f"{deed} after all was healed -> {deed.outcome()}")
        for urn, slot in list(clients.known.items()):
            user = self._user_of(slot)
            if user is None:
                continue
            deed = await clients.fetch(user, urn, sealed=self.world.chance(0.5))
            if deed.status == 410:
                await clients.manifest(user, urn)
        for session_id in sorted({slot.session_id for slot in self.slots}):
            user = self._user_of(SlotKey(session_id, "", "", ""))
            if user is not None:
                await clients.list_all(user, session_id, 2)

    def _user_of(self, slot: SlotKey) -> Member | None:
        return next(
            (m for m in self.clients.members if m.session_id == slot.session_id and not m.miner),
            None,
        )

    def _unfinished(self) -> str:
        waiting = [str(deed) for deed in self.clients.deeds if deed.ended == float("inf")]
        return "; ".join(waiting) or f"{NETWORK_S}"
