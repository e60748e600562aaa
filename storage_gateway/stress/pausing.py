"""What the cases of processes that sleep have in common: they are stopped until others claimed."""

import asyncio
import signal
import time
from typing import Any

from sqlalchemy import Connection, select

from storage_gateway.catalog.tables import instances

from .children import Child
from .trial import Trial

LEASES: dict[str, Any] = {"instance_lease_s": 1.5, "instance_renew_s": 0.5}
PASSES_S = 3600.0
"""The paused process makes no recovery passes of its own: it should wake up in an upload."""
CLAIMED_S_MAX = 30.0
STOPS_MAX = 20
FREE_S = 1.0
POLL_S = 0.05


async def stop_between_transactions(trial: Trial, child: Child) -> None:
    """Stop the process; not while it holds the database, which is another edge case."""

    def wait(connection: Connection) -> None:
        # For the one writer of SQLite, or for who renews a lease.
        connection.execute(select(instances.c.instance_id).with_for_update())

    for _ in range(STOPS_MAX):
        child.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(FREE_S):
                await trial.world.catalog.inner.run(wait)
            return
        except TimeoutError:
            child.signal(signal.SIGCONT)
            await trial.world.catalog.inner.run(wait)


async def was_claimed(trial: Trial) -> bool:
    """Wait until the other gateway has cleared the upload away; False when it does not."""
    until = time.monotonic() + CLAIMED_S_MAX
    while "intents" in await trial.world.unsettled():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL_S)
    return True
