"""Goal: a hold that is answered while a sweep is at it is not lost to it.

Method: a transaction that holds a session, and ends when the sweep waits for it.
"""

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, update

from storage_gateway.catalog.sessions import lock_session
from storage_gateway.catalog.tables import sessions
from tests.databases import ON_POSTGRESQL, databases
from tests.gateway import DEADLINE_S, eventually
from tests.http.sweep_world import GRACE_MS, HOUR_MS, World, world

__all__ = ["world"]

NONE: dict[str, Any] = {}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@ON_POSTGRESQL
@pytest.mark.parametrize("is_expired", [False, True], ids=["expire", "erase"])
async def test_a_session_that_is_held_at_the_same_time_loses_nothing(
    world: World, is_expired: bool
) -> None:
    now = await world.now()
    over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
    (object_id,) = await world.make(ends_in_ms=-HOUR_MS, **(over if is_expired else NONE))
    before = (await world.rows())[object_id]
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        lock_session(connection, "101")
        change = update(sessions).where(sessions.c.session_id == "101").values(holds=1)
        connection.execute(change)
        held.set()
        assert go_on.wait(DEADLINE_S)

    async def waits() -> bool:
        ((count,),) = await asyncio.to_thread(databases.query, world.gateway.data_dir, WAITING)
        return count == 1

    holding = asyncio.create_task(world.gateway.catalog.run(hold))
    assert await asyncio.to_thread(held.wait, DEADLINE_S)
    sweeping = asyncio.create_task(world.sweep.run_once())
    try:
        await eventually(waits, what="a sweep that waits for the hold")
    finally:
        go_on.set()
    report = await sweeping
    await holding

    assert (0, 0, 1) == (report.expired, report.erased, report.changed)
    assert before == (await world.rows())[object_id]
