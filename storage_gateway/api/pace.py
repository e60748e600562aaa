"""How slow a client may be: the one rule for those who send and those who read."""

import asyncio

from aiohttp import web

from storage_gateway.config import Config


class Pace:
    """Counts what a client owes against the least rate; a debt of ``idle_s`` seconds is too much.

    Every second waited for it is owed, and every ``rate_min`` bytes pay one back. Nothing is paid
    in advance: whoever was fast for an hour and then stops is given up as soon as anybody else.
    """

    def __init__(self, *, idle_s: float, rate_min: int) -> None:
        """``rate_min`` is bytes a second."""
        self._idle_s = idle_s
        self._rate_min = rate_min
        self._owed_s = 0.0

    def patience_s(self, size: int = 0) -> float:
        """Return how many seconds moving ``size`` bytes more may take."""
        return max(0.0, self._idle_s - self._owed_s) + size / self._rate_min

    def moved(self, size: int, waited_s: float) -> None:
        """Note that ``size`` bytes moved, which the client was waited for ``waited_s`` seconds."""
        self._owed_s = max(0.0, self._owed_s + waited_s - size / self._rate_min)


def pace_of(config: Config) -> Pace:
    """Return the pace that is asked of every client, for one body or download."""
    return Pace(idle_s=config.body_idle_s, rate_min=config.min_rate)


async def wait_read(request: web.Request, config: Config) -> None:
    """Wait until what a connection holds of earlier answers is little; cut off who is too slow.

    aiohttp waits within one answer alone: whoever asks for many small ones in a row and reads none
    would have all of them kept here.

    Raises:
        ConnectionResetError: the client does not read, and is gone now.

    """
    transport = request.transport
    unread = 0 if transport is None else transport.get_write_buffer_size()
    if transport is None or not unread:
        return
    try:
        async with asyncio.timeout(pace_of(config).patience_s(unread)):
            await request.writer.drain()
    except TimeoutError:
        transport.abort()
        raise ConnectionResetError("the reader is too slow") from None
