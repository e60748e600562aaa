"""Simulated time: one queue of events, processes that die and are paused, one source of chance.

Nothing here waits. When no process has anything to do, time jumps to the next event, so a minute
of virtual time costs what happens in it. Which process runs first, how long an operation takes and
what goes wrong comes from the seed alone.
"""

import asyncio
import hashlib
import heapq
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Action = Callable[[], object]

EPOCH_MS = 1_700_000_000_000


def _nothing() -> None:
    """Do nothing."""


class StuckError(AssertionError):
    """Something that must end has not ended, or nothing is left that could end it."""


@dataclass(slots=True)
class Complaint:
    """What an event loop was told that nobody handled."""

    process: str
    text: str


class Process:
    """Something that runs, is paused (SIGSTOP) and is killed (SIGKILL): a queue of callbacks."""

    def __init__(self, world: "World", name: str) -> None:
        """It lives from now on."""
        self.world = world
        self.name = name
        self.alive = True
        self.paused = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.finalizer: Callable[[Any], None] | None = None
        """Told of asynchronous generators that nobody iterates any more."""
        self.on_death: list[Action] = []
        self.on_step: Action = _nothing
        """Done whenever something that the process asked for has taken effect."""
        self.ready: deque[asyncio.Handle] = deque()
        self._deferred: list[Action | asyncio.TimerHandle] = []

    def enqueue(self, handle: asyncio.Handle) -> None:
        """Have a callback run soon; what a dead process would do is not done."""
        if not self.alive:
            return
        self.ready.append(handle)
        if len(self.ready) == 1 and not self.paused:
            self.world.awake.append(self)

    def deliver(self, action: "Action | asyncio.TimerHandle") -> None:
        """Do what is due in this process now, or once it goes on."""
        if not self.alive:
            return
        if self.paused:
            self._deferred.append(action)
        elif isinstance(action, asyncio.TimerHandle):
            self.enqueue(action)
        else:
            action()

    def pause(self) -> None:
        """Stop it in its tracks: time goes on without it."""
        self.world.note(self.name, "is paused")
        self.paused = True

    def resume(self) -> None:
        """Let it go on; all that came due meanwhile comes at once."""
        if not (self.alive and self.paused):
            return
        self.world.note(self.name, "goes on")
        self.paused = False
        if self.ready:
            self.world.awake.append(self)
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            self.deliver(action)

    def kill(self) -> None:
        """End it without a word. What it asked others to do may be done all the same."""
        if not self.alive:
            return
        self.alive = False
        self.ready.clear()
        self._deferred.clear()
        for action in self.on_death:
            action()


@dataclass(slots=True)
class World:
    """Virtual time and everything that is due in it."""

    seed: int
    now: float = 0.0
    awake: list[Process] = field(default_factory=list)
    trace: list[tuple[float, str, str]] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    random: Random = field(init=False)
    held_up_s: float = 0.0
    """For how long processes were paused, or the catalog stood still, all in all."""
    _events: list[tuple[float, float, int, Process | None, Action | asyncio.TimerHandle]] = field(
        default_factory=list
    )
    _numbers: int = 0

    def __post_init__(self) -> None:
        """All chance comes from the seed."""
        self.random = Random(self.seed)

    def number(self) -> int:
        """Return the next of all numbers."""
        self._numbers += 1
        return self._numbers

    def clock_ms(self, _database_ms: int = 0) -> int:
        """Return virtual time as the database tells it."""
        return EPOCH_MS + int(self.now * 1000)

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        self.trace.append((self.now, who, what))

    def digest(self) -> str:
        """Return what two runs have in common when they did the same."""
        whole = hashlib.sha256()
        for when, who, what in self.trace:
            whole.update(f"{when!r} {who} {what}\n".encode())
        return whole.hexdigest()

    def at(self, delay_s: float, action: Action, process: Process | None = None) -> None:
        """Have something happen later: in a process, if it still lives then, or outside of all."""
        self.push(self.now + delay_s, action, process)

    def push(
        self, when: float, action: "Action | asyncio.TimerHandle", process: Process | None
    ) -> None:
        """As `at`, for a point in time. Of what is due at one time, any may come first."""
        self._numbers += 1
        entry = (when, self.random.random(), self._numbers, process, action)
        heapq.heappush(self._events, entry)

    def delay(self, mean_s: float) -> float:
        """Return how long something takes: mostly about the mean, sometimes much longer."""
        return self.random.expovariate(1.0) * mean_s

    def chance(self, probability: float) -> bool:
        """Return whether it happens."""
        return self.random.random() < probability

    def run(self, done: Callable[[], bool], *, until_s: float) -> None:
        """Let things happen until it is done.

        Raises:
            StuckError: it is not done at ``until_s``, or nothing more can happen.

        """
        while not done():
            if self.awake:
                chosen = self.random.randrange(len(self.awake)) if len(self.awake) > 1 else 0
                process = self.awake.pop(chosen)
                if process.alive and not process.paused:
                    self._turn(process)
            elif not self._jump(until_s):
                raise StuckError(f"not done at {self.now:.3f} s of virtual time")

    def _jump(self, until_s: float) -> bool:
        """Go to the next event and let it happen; False when there is none in time."""
        while self._events:
            when, _, _, process, action = heapq.heappop(self._events)
            if isinstance(action, asyncio.TimerHandle) and action.cancelled():
                continue
            if when > until_s:
                heapq.heappush(self._events, (when, 0.0, 0, process, action))
                return False
            self.now = max(self.now, when)
            if process is not None:
                process.deliver(action)
            elif not isinstance(action, asyncio.TimerHandle):
                action()
            return True
        return False

    def _turn(self, process: Process) -> None:
        """Run what was ready in a process when its turn came, in the order that asyncio promises.

        Only what happens outside (network, store, catalog) lets one process see another, and all of
        that takes time: so there is nothing to gain from a turn in between.
        """
        asyncio._set_running_loop(process.loop)
        sys.set_asyncgen_hooks(finalizer=process.finalizer)
        try:
            for _ in range(len(process.ready)):
                if not process.ready:
                    break
                handle = process.ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
        if process.ready and process.alive and not process.paused:
            self.awake.append(process)
