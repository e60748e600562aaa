"""One simulated gateway process after the other: the real `Gateway`, over simulated parts."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from storage_gateway.app import Gateway
from storage_gateway.config import Config
from storage_gateway.errors import GatewayError
from storage_gateway.keyring import Keyring
from storage_gateway.parts import Parts

from .database import Database, SimulatedCatalog
from .deployment import DEPLOYMENT, ROUTER
from .faults import Faults
from .loop import ProcessLoop
from .network import Link
from .store import Shelf, SimulatedStore
from .world import Process, World

LEASE_S = 5.0
HORIZON_S = 8.0
PAUSE_S = 4.0
LONG_PAUSE = 0.3
DOWN_S = 1.0
CONFIG = Config(
    data_dir=Path(tempfile.gettempdir()),  # asked for its free space only
    reserve_bytes=0,
    instance_lease_s=LEASE_S,
    instance_renew_s=2.5,
    recovery_interval_s=4.0,
    late_write_horizon_s=HORIZON_S,
    body_idle_s=4.0,
    drain_s=3.0,
    object_bytes_max=1 << 20,
)


@dataclass(slots=True)
class Node:
    """A place where a gateway process runs, one after the other."""

    world: World
    name: str
    database: Database
    shelf: Shelf
    faults: Faults
    process: Process = field(init=False)
    starts: int = 0
    _loops: list[ProcessLoop] = field(default_factory=list)
    _gateway: Gateway = field(init=False)

    @property
    def up(self) -> bool:
        """Whether it answers: alive, not paused, listening."""
        listening = self._loops[-1].listener is not None
        return listening and self.process.alive and not self.process.paused

    @property
    def idle(self) -> bool:
        """Whether it is up, answers no request just now, and has nothing to bury that it alone
        knows of: the catalog's answer to that was lost, and its next pass asks again.
        """
        if not self.up:
            return False
        services = self._gateway.services
        return services.under_way._count == 0 and not services.uploads._settler._unburied

    def start(self) -> None:
        """Start a process."""
        self.starts += 1
        self.process = process = Process(self.world, f"{self.name}.{self.starts}")
        loop = ProcessLoop(self.world, process)  # type: ignore[abstract] # only in typeshed
        self._loops.append(loop)
        process.on_step = self._step
        parts = Parts(
            catalog=SimulatedCatalog(self.database, process),
            store=SimulatedStore(self.shelf, process),
            keyring=Keyring.of(ROUTER),
            copies_identity=ROUTER,
            deployment_id=DEPLOYMENT,
        )
        self._gateway = gateway = Gateway(CONFIG, parts)
        loop.call_soon(lambda: loop.create_task(self._boot(gateway)))

    def kill(self, why: str) -> None:
        """Kill the process."""
        if self.process.alive:
            self.world.note(self.process.name, f"dies: {why}")
            self.process.kill()

    def pause(self) -> None:
        """Pause the process for a while."""
        if self.process.alive and not self.process.paused:
            self.process.pause()
            length_s = self.world.delay(PAUSE_S)
            # Long enough to be claimed, buried and forgotten. Where processes also die, one could
            # write at its awakening and die before it buries that: decision 0010 leaves that open.
            if not self.faults.kills and self.world.chance(LONG_PAUSE):
                length_s += LEASE_S + HORIZON_S
            self.world.held_up_s += length_s
            self.world.at(length_s, self.process.resume)

    def drain(self) -> None:
        """Tell the process to stop (SIGTERM), and start it again once it has."""
        if self.up:
            self.world.note(self.process.name, "is told to stop")
            loop, gateway = self._loops[-1], self._gateway
            loop.call_soon(lambda: loop.create_task(self._stop(gateway)))

    def restart_later(self) -> None:
        """Start again after a while, unless somebody else does before."""

        def start_again() -> None:
            if not self.process.alive:
                self.start()

        self.world.at(self.world.delay(DOWN_S), start_again)

    def accept(self, link: Link) -> bool:
        """Take a connection; False when nobody listens."""
        listener = self._loops[-1].listener
        if not self.process.alive or listener is None:
            return False
        self.process.deliver(lambda: link.transport.open(listener()))
        return True

    def dispose(self) -> None:
        """End what is left of all its processes."""
        self.process.alive = False
        for loop in self._loops:
            loop.dispose()

    def _step(self) -> None:
        if self.world.chance(self.faults.kill_at_step):
            self.kill("killed at a step")
            self.restart_later()
        elif self.world.chance(self.faults.pause_at_step):
            self.pause()

    async def _boot(self, gateway: Gateway) -> None:
        try:
            await gateway.start()
        except GatewayError as error:
            self.kill(f"cannot start: {error.code}")
            self.restart_later()
        else:
            self.world.note(self.process.name, "listens")

    async def _stop(self, gateway: Gateway) -> None:
        try:
            await gateway.stop()
        except GatewayError as error:
            self.kill(f"cannot stop: {error.code}")
        else:
            self.kill("it was told to")
        self.restart_later()
