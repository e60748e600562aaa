"""Passes: work through everything there is, a little at a time, by one process at a time."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from sqlalchemy import Connection

from .catalog import Catalog
from .catalog.passes import PassRow, keep_pass, leave_pass, take_pass
from .errors import CatalogUnavailable, GatewayError
from .ids import new_random_id

logger = logging.getLogger(__name__)

LEASE_S = 300.0
"""How long a process that died keeps others from going on."""
HELD_SHARE = 0.25
"""Of that: so long it is held without asking."""
KEPT_EVERY_S = 1.0
"""How much work is done again after a death, at most, where that is as good as done once."""


class TurnLost(Exception):
    """Another process may have it by now, as this one slept: stop at once."""


class Turn:
    """A process's turn at a pass."""

    def __init__(
        self, catalog: Catalog, name: str, turn_id: str, taken: PassRow, lease_s: float
    ) -> None:
        """``taken`` is how far the turn before came."""
        self._catalog = catalog
        self._name = name
        self._turn_id = turn_id
        self._lease_s = lease_s
        self._kept_s = asyncio.get_running_loop().time()
        self.position = taken.position
        """Where to go on; empty at the beginning of a round."""
        self.round_ended_ms = taken.round_ended_ms
        """When all had been gone through the last time, by the catalog's clock."""
        self.now_ms = taken.now_ms
        """When the turn began, by that clock."""
        self.end_s = math.inf
        """When nothing more should be begun, by the monotonic clock."""
        self.ended = False
        """To be set at the end of all there is: the next turn begins in front."""

    @property
    def is_over(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() >= self.end_s

    def is_too_soon(self, pause_s: float) -> bool:
        """Tell whether a round would begin that soon after the last one ended."""
        if self.position or self.round_ended_ms is None:
            return False
        return 0 <= self.now_ms - self.round_ended_ms < pause_s * 1000

    async def keep(self, position: str) -> None:
        """Note how far it came.

        Raises:
            TurnLost, CatalogUnavailable

        """
        self.position = position
        kept = partial(
            keep_pass,
            name=self._name,
            turn_id=self._turn_id,
            lease_s=self._lease_s,
            position=position,
        )
        self._kept_s = asyncio.get_running_loop().time()
        if not await self._catalog.run(kept):
            raise TurnLost

    async def reach(self, position: str) -> None:
        """Note how far it came, and write it down if the last time is a while ago: each time is one
        that the disk has to sync.

        Raises:
            TurnLost, CatalogUnavailable

        """
        self.position = position
        if asyncio.get_running_loop().time() - self._kept_s > KEPT_EVERY_S:
            await self.keep(position)

    async def hold(self) -> None:
        """Keep the turn through work that takes long; to be called again and again.

        Raises:
            TurnLost, CatalogUnavailable

        """
        if asyncio.get_running_loop().time() - self._kept_s > self._lease_s * HELD_SHARE:
            await self.keep(self.position)

    def leave(self, connection: Connection) -> None:
        """Give the turn back, with how far it came; nothing happens where it was lost."""
        if not self.ended:
            keep_pass(connection, self._name, self._turn_id, self._lease_s, self.position)
        leave_pass(connection, self._name, self._turn_id, ended=self.ended)


@asynccontextmanager
async def turn_at(
    catalog: Catalog, name: str, lease_s: float = LEASE_S
) -> AsyncIterator[Turn | None]:
    """Take a turn at a pass, until the end of the block; None while somebody else has it, in this
    process or in another one.

    A turn that is lost ends the block, and nothing else.

    Raises:
        CatalogUnavailable

    """
    turn_id = new_random_id()
    try:
        taken = await catalog.run(partial(take_pass, name=name, turn_id=turn_id, lease_s=lease_s))
    except asyncio.CancelledError:
        # It may be taken all the same, and would keep others out for as long as a death does.
        with suppress(CatalogUnavailable):  # who stops is not to be kept by that
            await catalog.run(partial(leave_pass, name=name, turn_id=turn_id, ended=False))
        raise
    if taken is None:
        yield None
        return
    turn = Turn(catalog, name, turn_id, taken, lease_s)
    try:
        yield turn
    except TurnLost:
        logger.warning("turn at a pass lost", extra={"of": name})
    finally:
        # An error of its own would take the place of a cancellation: a pass that was stopped while
        # the catalog is away would go on as one that failed. The lease runs out by itself.
        with suppress(CatalogUnavailable):
            await catalog.run(turn.leave)


async def run_passes(
    name: str,
    run_once: Callable[[], Awaitable[object]],
    interval_s: float,
    *,
    at_once: bool = False,
) -> None:
    """Run passes until cancelled; one that fails is logged, and the next one tries again."""
    while True:
        if not at_once:
            await asyncio.sleep(interval_s)
        at_once = False
        try:
            await run_once()
        except GatewayError as error:
            logger.warning("pass failed", extra={"of": name, "code": error.code})
        except Exception:
            logger.exception("pass failed unexpectedly", extra={"of": name})
