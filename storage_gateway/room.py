"""Whether the disks have room for another segment: asked seldom, and once for all who ask."""

import asyncio
import math
import os
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from pathlib import Path

from .config import Config, LocalBackend
from .errors import StorageFull
from .records import ALL_OPEN, Wanted

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


def require_room(config: Config, wanted: Wanted = ALL_OPEN, full: Collection[str] = ()) -> None:
    """Keep the reserve: a full disk would leave no way to erase what fills it. Blocks.

    ``full`` are stores that said so themselves. What waits in spools is seen, as any file is. What
    uploads under way may still write is not promised to them: two segments for each would refuse
    many small ones on a disk that has gigabytes free, and one that fills ends uploads with 507,
    whose spools then vanish.

    Raises:
        StorageFull

    """
    if not _has_room(config.data_dir, config.reserve_bytes):
        raise StorageFull("less than the reserve is free under the data folder")
    backends = [
        backend
        for backend in config.stores
        if wanted.backends is None or backend.name in wanted.backends
    ]
    roomy = {
        backend.domain
        for backend in backends
        if backend.name not in full
        and (
            # A bucket says that it is full when it is.
            not isinstance(backend, LocalBackend) or _has_room(backend.path, config.reserve_bytes)
        )
    }
    if backends and len(roomy) < (wanted.write_quorum or config.quorum):
        raise StorageFull("less than the reserve is free in too many stores")


def _has_room(folder: Path, reserve: int) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return True  # not full, but gone or out of order: whoever writes there is told
    return found.f_bavail * found.f_frsize >= reserve
