"""The parent process of ``serve --workers N``: starts workers, replaces those that die, ends all.

It holds the listening sockets, opens neither catalog nor store, reads no identity, serves nothing
itself. A worker is a program of its own, never a fork: what threads hold is not copied.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import storage_gateway
from storage_gateway.config import Config, cannot_listen, url_of
from storage_gateway.line import AGAIN, open_line

from .balancer import Balancer, Member, bind
from .output import EXIT_FAILED, EXIT_OK, give_up_stdout
from .process import stop_on_signals

logger = logging.getLogger(__name__)

START_S = 60.0
"""What a worker gets to be ready; a catalog that another process holds makes it wait."""
STOP_S = 10.0
"""What a worker gets to end, beyond the drain."""
STEADY_S = 10.0
"""A worker that lived for so long is replaced at once when it dies."""
RESTART_DELAY_S_MIN = 0.1
RESTART_DELAY_S_MAX = 5.0
FAILED_STARTS_MAX = 5


async def supervise(config: Config, *, file: Path | None, options: Mapping[str, object]) -> int:
    """Run ``config.workers`` workers until SIGTERM or SIGINT; return the exit status.

    The first line on stdout is the base URL, printed when all of them are ready. ``config`` was
    made from ``file`` and ``options``, and each worker makes its own from the same.

    Raises:
        ConfigError: the address cannot be listened on.

    """
    stop = stop_on_signals()
    try:
        listeners = await bind(config.host, config.port)
    except OSError as error:
        raise cannot_listen(config, error) from error
    url = url_of(config, listeners[0].getsockname())
    balancer = Balancer(listeners)
    asked = {name: value for name, value in options.items() if value is not None}
    told = json.dumps({"url": url, "file": file, "options": asked}, default=str)
    supervisor = _Supervisor(config, balancer, told.encode(), stop)
    try:
        if await supervisor.start():
            try:
                balancer.listen()
            except OSError as error:
                raise cannot_listen(config, error) from error
            print(url)
            give_up_stdout()  # a server goes on when nobody reads that line
            await stop.wait()
    finally:
        balancer.stop()
        await supervisor.stop()
    return EXIT_FAILED if supervisor.failed else EXIT_OK


class _Supervisor:
    def __init__(
        self, config: Config, balancer: Balancer, told: bytes, stop: asyncio.Event
    ) -> None:
        """``told`` is what each worker reads on its stdin."""
        self._config = config
        self._balancer = balancer
        self._told = told
        self._stop = stop
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._served = False
        self.failed = False

    async def start(self) -> bool:
        """Start all workers; False when one could not start, or a stop was asked for."""
        all_numbers = range(1, self._config.workers + 1)
        # The first alone: what is to be made at first start is made, and what is wrong is told,
        # by one of them.
        for numbers in (all_numbers[:1], all_numbers[1:]):
            started = [asyncio.Event() for _ in numbers]
            self._tasks += [
                asyncio.create_task(self._keep(number, event))
                for number, event in zip(numbers, started, strict=True)
            ]
            waiting = [asyncio.create_task(_all(events)) for events in (started, [self._stop])]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            if self._stop.is_set():
                return False
        return True

    async def stop(self) -> None:
        """End all workers: each finishes what it is at, within the drain."""
        self._stop.set()
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        _, late = await asyncio.wait(self._tasks, timeout=self._config.drain_s + STOP_S)
        if late:
            logger.error("workers did not end in time", extra={"workers": len(late)})
            self.failed = True
            for process in self._processes.values():
                _signal(process, signal.SIGKILL)
        await asyncio.gather(*self._tasks)

    async def _keep(self, number: int, started: asyncio.Event) -> None:
        """Keep one worker running until the stop."""
        loop = asyncio.get_running_loop()
        short_lives = failed_starts = 0
        while not self._stop.is_set():
            began = loop.time()
            try:
                code, was_ready = await self._run(number, started)
            except OSError:  # no process or descriptor is left in the system
                logger.exception("worker not started", extra={"number": number})
                code, was_ready = EXIT_FAILED, False
            if self._stop.is_set():
                return
            logger.error("worker ended", extra={"number": number, "exit_code": code})
            failed_starts = 0 if was_ready else failed_starts + 1
            # While others serve, this one is tried for ever: half a service is better than none.
            hopeless = failed_starts >= FAILED_STARTS_MAX and not self._ready
            if hopeless or (failed_starts and not started.is_set()):
                self._give_up(number, code, failed_starts)
                return
            short_lives = 0 if loop.time() - began > STEADY_S else short_lives + 1
            delay = RESTART_DELAY_S_MIN * 2 ** min(short_lives, 10)
            await self._pause(min(delay, RESTART_DELAY_S_MAX) if short_lives > 1 else 0)

    def _give_up(self, number: int, code: int, failed_starts: int) -> None:
        self.failed = True
        self._stop.set()
        if failed_starts > 1 or code < 0:
            ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            print(
                f"storage-gateway serve: worker {number} ended {ended} before it was ready,"
                f" {failed_starts} times in a row: its log says why",
                file=sys.stderr,
            )

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _run(self, number: int, started: asyncio.Event) -> tuple[int, bool]:
        """Run one process to its end; return its exit code and whether it was ever ready."""
        end, down, reports = open_line()
        try:
            process = await self._spawn(number, down.fileno(), reports, replaces=started.is_set())
        except OSError:
            end.close()
            raise
        finally:
            down.close()
            os.close(reports)
        self._processes[number] = process
        member = self._balancer.add(end)
        watch = asyncio.create_task(self._watch_start(number, process, member, started))
        try:
            if self._stop.is_set():
                _signal(process, signal.SIGTERM)
            code = await process.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self._ready.discard(number)
            del self._processes[number]
            self._balancer.remove(member)
        return code, member.ready.is_set()

    async def _watch_start(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        member: Member,
        started: asyncio.Event,
    ) -> None:
        try:
            # The first of all may move a large catalog to another schema, and that takes its time.
            async with asyncio.timeout(START_S if self._served else None):
                await member.ready.wait()
        except TimeoutError:
            logger.warning("worker was not ready in time", extra={"number": number})
            _signal(process, signal.SIGKILL)
            return
        self._ready.add(number)
        self._served = True
        started.set()
        logger.info("worker ready", extra={"number": number, "pid": process.pid})

    async def _spawn(
        self, number: int, down: int, reports: int, *, replaces: bool
    ) -> asyncio.subprocess.Process:
        # The very code that this process runs, wherever it was found; never a folder that happens
        # to be called `crypto` where the command was given.
        home = str(Path(storage_gateway.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "storage_gateway.cli.worker"),
            *(str(number), str(down), str(reports), *[AGAIN] * replaces),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(down, reports),
            env={**os.environ, "PYTHONPATH": path},
        )
        if process.stdin is not None:
            process.stdin.write(self._told)
            process.stdin.close()
        return process


async def _all(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)
