"""A run's own processes, from the run's side: started, ordered, stopped, killed."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

import storage_gateway
from crypto import Secret
from storage_gateway.backend_settings import OFFCHAIN
from storage_gateway.config import ENVIRONMENT_PREFIX
from storage_gateway.database_url import DatabaseURL
from storage_gateway.key_settings import SEED_VARIABLE

from .clearing import start_time
from .orders import Order, Spec, Told
from .world import STRESS_FOLDER, World

# The very code that this process runs, wherever it was found; never a folder that happens to be
# called `crypto` where the command was given.
HOME = str(Path(storage_gateway.__file__).parent.parent)
PROGRAM = (
    f"import sys; sys.path.insert(0, {HOME!r});"
    " from storage_gateway.cli.stress_child import main; main()"
)
COMMAND: tuple[str, ...] = (sys.executable, "-P", "-c", PROGRAM)
START_S_MAX = 60.0
POINT_S_MAX = 60.0
LOG_FILE = "children.log"
LOG_SHOWN_BYTES_MAX = 4096
"""Of the processes' log, which goes with the run, so much is kept when one of them failed."""

logger = logging.getLogger(__name__)

RecordChildren = Callable[[list[list[int]]], Awaitable[None]]
"""Puts process ids and start times where they are found when this process is dead."""


class ChildFailed(Exception):
    """A process did not come up, or ended without being told to."""


class Child:
    """One process. It is a `GatewayLike` as far as clients are concerned."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Use `children`."""
        self._process = process
        self.url = ""
        self.killed_at: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def order(self, order: Order | Spec) -> None:
        """Send a line down."""
        stdin = self._process.stdin
        if stdin is None:
            raise ChildFailed("the process has no pipe")
        with contextlib.suppress(ConnectionError):
            stdin.write(msgspec.json.encode(order, enc_hook=DatabaseURL.expose_url) + b"\n")
            await stdin.drain()

    async def told(self, within_s: float) -> Told:
        """Return the next line up.

        Raises:
            ChildFailed: none came.

        """
        stdout = self._process.stdout
        if stdout is None:
            raise ChildFailed("the process has no pipe")
        try:
            async with asyncio.timeout(within_s):
                line = await stdout.readline()
        except TimeoutError:
            raise ChildFailed(f"nothing was told in {within_s:g} s") from None
        if not line:
            raise ChildFailed("the process ended by itself; its log has the reason")
        return msgspec.json.decode(line, type=Told)

    async def wait_ready(self) -> None:
        """Wait until it takes requests.

        Raises:
            ChildFailed: it does not.

        """
        while not self.url:
            self.url = (await self.told(START_S_MAX)).url or ""

    async def wait_at_point(self, within_s: float = POINT_S_MAX) -> str:
        """Wait until it waits at the point that was ordered.

        Raises:
            ChildFailed: it does not get there.

        """
        while True:
            told = await self.told(within_s)
            self.url = told.url or self.url
            if told.reached:
                return told.reached

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it; returns when it is dead."""
        self.killed_at = time.monotonic()
        self.signal(signal.SIGKILL)
        await self._process.wait()

    def is_dead(self) -> bool:
        """Tell whether it has ended."""
        return self._process.returncode is not None


class Children:
    """All processes of one run; those that live are known to the catalog."""

    def __init__(self, world: World, run_id: str, seed: int, record: RecordChildren) -> None:
        """Nothing is started yet."""
        self._world = world
        self._run_id = run_id
        self._seed = seed
        self._record = record
        self._all: list[Child] = []

    @asynccontextmanager
    async def child(
        self,
        *,
        at: str | None = None,
        nth: int = 1,
        **settings: Any,  # noqa: ANN401 - of Config
    ) -> AsyncIterator[Child]:
        """Start a process, maybe with the point at which it is to wait; at the end it is killed.

        It may wait at that point before it takes requests: `Child.wait_ready` is the caller's.
        """
        world = self._world
        config = msgspec.structs.replace(world.config, **settings)
        if world.folder.parent.name != STRESS_FOLDER:
            raise ChildFailed("the run's folder is not where it should be")
        log = await asyncio.to_thread(os.open, world.folder / LOG_FILE, _LOG_FLAGS, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # a terminal's signals are the serving process's affair
            )
        finally:
            os.close(log)
        child = Child(process)
        self._all.append(child)
        try:
            await self._record_living()
            await child.order(
                Spec(
                    run_id=self._run_id,
                    deployment_id=world.parts.deployment_id,
                    config=msgspec.json.encode(config, enc_hook=_to_text),
                    seed=self._seed,
                    parent_pid=os.getpid(),
                    database=world.database,
                    at=at,
                    nth=nth,
                )
            )
            yield child
        except ChildFailed:
            said = await asyncio.to_thread(_end_of_log, world.folder / LOG_FILE)
            logger.exception("process failed", extra={"run_id": self._run_id, "its_log": said})
            raise
        finally:
            await asyncio.shield(self._end(child))

    async def _end(self, child: Child) -> None:
        if not child.is_dead():
            await child.kill()
        self._all.remove(child)
        await self._record_living()

    async def _record_living(self) -> None:
        living = [child.pid for child in self._all if not child.is_dead()]
        started = await asyncio.to_thread(lambda: [[pid, start_time(pid)] for pid in living])
        await self._record(started)


def _environment() -> dict[str, str]:
    """Return this process's environment without the settings, some of which may hold secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ENVIRONMENT_PREFIX) and name not in {*OFFCHAIN, SEED_VARIABLE}
    }


def _end_of_log(path: Path) -> str:
    return path.read_bytes()[-LOG_SHOWN_BYTES_MAX:].decode(errors="replace")


_LOG_FLAGS = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


def _to_text(value: object) -> str:
    """Return what the process itself gets, over its pipe: secrets as they are."""
    return value.expose().decode() if isinstance(value, Secret) else str(value)
