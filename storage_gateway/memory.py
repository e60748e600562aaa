"""A budget of bytes that many transfers share, so that what they hold together has a limit.

A transfer is admitted with a *floor* that is its own until it ends: with that much it can always go
on, if slowly, whatever the others hold. Beyond its floor it takes what is there at the moment and
never waits for it. So nobody who was admitted waits for anybody else, and nothing can lock up.
Only admission waits: in the order of arrival, for a bounded time. Half of the budget is for floors
alone: a few who hold much, and are slow, do not keep the others out.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .errors import Busy


class Budget:
    """So many bytes for all transfers of one kind in this process."""

    def __init__(self, size: int, *, wait_s: float) -> None:
        """``wait_s`` is how long a transfer waits to be admitted."""
        self._size = size
        self._wait_s = wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.taken = 0

    @asynccontextmanager
    async def admit(self, floor: int) -> AsyncIterator["Account"]:
        """Give a transfer its floor, and take all that it holds back at its end.

        Raises:
            Busy: there was no room for it in time, or ever.

        """
        await self._reserve(floor)
        account = Account(self, floor)
        try:
            yield account
        finally:
            self.free(max(floor, account.held))

    def take_more(self, size: int) -> bool:
        """Take bytes beyond a floor; False when there are none, or others wait to be admitted."""
        return self._take(size, self._size // 2)

    def free(self, size: int) -> None:
        """Give bytes back; whoever waits is admitted in turn."""
        self.taken -= size
        while self._waiting and self.taken + self._waiting[0][0] <= self._size:
            floor, admitted = self._waiting.popleft()
            if not admitted.done():  # it may have given up a moment ago
                self.taken += floor
                admitted.set_result(None)

    def _take(self, size: int, limit: int) -> bool:
        if self._waiting or self.taken + size > limit:
            return False
        self.taken += size
        return True

    async def _reserve(self, floor: int) -> None:
        if self._take(floor, self._size):
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (floor, admitted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._wait_s):
                await admitted
        except BaseException as error:
            if admitted.done() and not admitted.cancelled():
                self.free(floor)  # admitted in the very moment in which it gave up
            else:
                with suppress(ValueError):
                    self._waiting.remove(entry)
                self.free(0)  # what stands behind it may need less
            if isinstance(error, TimeoutError):
                raise Busy("the memory for transfers of this process is in use") from None
            raise


class Account:
    """What one admitted transfer holds of a budget."""

    def __init__(self, budget: Budget, floor: int) -> None:
        """Made by `Budget.admit` alone, which has taken the floor."""
        self._budget = budget
        self._floor = floor
        self._given = asyncio.Event()
        self.held = 0

    def take(self, size: int) -> bool:
        """Hold ``size`` bytes more; False, and nothing is taken, when they are not to be had now.

        Never False as long as no more than the floor is held.
        """
        beyond = max(self._floor, self.held + size) - max(self._floor, self.held)
        if beyond and not self._budget.take_more(beyond):
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Give back what is not held any more."""
        beyond = max(self._floor, self.held) - max(self._floor, self.held - size)
        self.held -= size
        self._given.set()
        if beyond:
            self._budget.free(beyond)

    async def wait_given(self) -> None:
        """Wait until something is given back after this call began."""
        self._given.clear()
        await self._given.wait()
