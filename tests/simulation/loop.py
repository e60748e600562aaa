"""An event loop in virtual time: what asyncio needs of one, without a selector or a thread.

Callbacks of one loop run in the order that asyncio promises; work for threads runs at a later step
that the seed chooses, so that whatever two threads could do in either order is done in either.
"""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, cast

from .world import Complaint, Process, World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREAD_S = 0.002
"""How long work for a thread takes on average."""
CLOSINGS_MAX = 100


class _Numbered(asyncio.Future[T]):
    """What sets hold in the same order every time: hashed by a number, drawn when first asked."""

    number = 0

    def __hash__(self) -> int:
        if not self.number:
            self.number = cast("ProcessLoop", self.get_loop()).world.number()
        return self.number


class SimulatedFuture(_Numbered[T]):
    """A future with a number."""


class SimulatedTask(_Numbered[T], asyncio.Task[T]):
    """A task with a number."""


class _Server(asyncio.AbstractServer):
    """What listens."""

    def __init__(self, loop: "ProcessLoop", address: tuple[str, int]) -> None:
        self._loop = loop
        self._address = address

    @property
    def sockets(self) -> "list[_Server]":
        """Itself, in the place of a socket."""
        return [self]

    def getsockname(self) -> tuple[str, int]:
        """Return where it listens."""
        return self._address

    def close(self) -> None:
        """Listen no more."""
        self._loop.listener = None

    async def wait_closed(self) -> None:
        """Return at once."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return its loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Tell whether it listens."""
        return self._loop.listener is not None

    async def start_serving(self) -> None:
        """Nothing: it listens from the beginning."""

    async def serve_forever(self) -> None:
        """Nothing."""


class ProcessLoop(asyncio.AbstractEventLoop):
    """The loop of one simulated process."""

    def __init__(self, world: World, process: Process) -> None:
        """Give the process its loop."""
        self.world = world
        self.process = process
        self.listener: Callable[[], asyncio.BaseProtocol] | None = None
        """Makes the protocol of a new connection, while the process listens."""
        process.loop = self
        process.finalizer = self._end_generator

    def time(self) -> float:
        """Return virtual time."""
        return self.world.now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Run a callback at the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self.process.enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As `call_soon`: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback later."""
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.push(when, handle, self.process)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: it is passed over when it comes due."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return SimulatedFuture(loop=self)

    def create_task(
        self,
        coro: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401 - as typeshed has it
    ) -> asyncio.Task[Any]:
        """Return a task of this loop."""
        return SimulatedTask(coro, loop=self, **options)

    def run_in_executor(
        self,
        _executor: Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Do a thread's work at a later step; once a thread has begun, it cannot be cancelled."""
        future: asyncio.Future[T] = self.create_future()
        begun = self.world.chance(0.5)

        def work() -> None:
            if future.cancelled() and not begun:
                return
            try:
                answer = func(*args)
            except BaseException as error:  # noqa: BLE001 - it is for whoever waits
                self.call_soon(_fail, future, error)
            else:
                self.call_soon(_answer, future, answer)

        self.world.at(self.world.delay(THREAD_S), work, self.process)
        return future

    async def create_server(  # type: ignore[override] # what a TCP site asks for
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        **_options: object,
    ) -> asyncio.AbstractServer:
        """Listen to simulated connections."""
        self.listener = protocol_factory
        return _Server(self, (host, port or 80))

    def get_debug(self) -> bool:
        """No."""
        return False

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self.process.alive

    def is_closed(self) -> bool:
        """Tell whether the process is dead."""
        return not self.process.alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody handled."""
        if self.process.alive:
            told = (
                traceback.format_exception(context["exception"]) if "exception" in context else []
            )
            text = f"{context.get('message')}: {''.join(told)}"
            self.world.complaints.append(Complaint(self.process.name, text))

    def _end_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """As asyncio: what was iterated half-way gets to run its `finally`."""
        if self.process.alive:
            self.call_soon(self.create_task, generator.aclose())

    def dispose(self) -> None:
        """End the coroutines of a process that is over, so that none goes on when collected."""
        asyncio._set_running_loop(self)
        try:
            while tasks := asyncio.all_tasks(self):
                for task in tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _end(task)
        finally:
            asyncio._set_running_loop(None)


def _end(task: asyncio.Task[Any]) -> None:
    """Close a task's coroutine however often it waits for something in its `finally`."""
    coroutine: Any = task.get_coro()
    for _ in range(CLOSINGS_MAX):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112 - nobody is there any more to care
            continue
        break
    # The task itself never learns of it: it must not stay in the list of all tasks.
    asyncio._unregister_task(task)


def _answer(future: asyncio.Future[T], answer: T) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
