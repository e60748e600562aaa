"""Whether the disks have room for another segment: asked seldom, and once for all who ask."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import Executor

from .records import Wanted

FRESH_S = 0.1
"""How long an answer holds. What comes in that time may take some of the reserve."""


class Room:
    """What `check` said a moment ago."""

    def __init__(self, check: Callable[[Wanted], None], threads: Executor) -> None:
        """``check`` raises StorageFull when no further segment should be begun; it may block."""
        self._check = check
        self._threads = threads
        self._until_s: dict[Wanted, float] = {}
        self._asked: dict[Wanted, asyncio.Future[None]] = {}

    async def require(self, wanted: Wanted) -> None:
        """Return when there is room in the stores that are wanted.

        Raises:
            StorageFull

        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._until_s.get(wanted, -math.inf):
            return
        asked = self._asked.get(wanted)
        if asked is None:
            # Many small uploads find it out of date together: each with a hop of its own to a
            # thread, they would ask nearly every time.
            asked = loop.run_in_executor(self._threads, self._check, wanted)
            self._asked[wanted] = asked
            asked.add_done_callback(lambda done: self._note(wanted, done))
        # Shielded: one who is cancelled must not take the answer from the others.
        try:
            await asyncio.shield(asked)
        finally:
            del asked  # its error holds this frame; see `raising`

    def _note(self, wanted: Wanted, asked: "asyncio.Future[None]") -> None:
        del self._asked[wanted]
        if not asked.cancelled() and asked.exception() is None:
            self._until_s[wanted] = asyncio.get_running_loop().time() + FRESH_S
