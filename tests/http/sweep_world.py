"""A gateway with a sweep whose clocks a test sets, and objects of which rows are made as they would
be after commits, leases and holds.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, insert, select, update

from retention import Policy
from storage_gateway.catalog import Catalog, now_ms
from storage_gateway.catalog.claims import note_terms
from storage_gateway.catalog.retention_tables import leases
from storage_gateway.catalog.tables import deployment, objects, sessions
from storage_gateway.erase import Erasure
from storage_gateway.ids import new_random_id
from storage_gateway.settle import Settler
from storage_gateway.sweep import Sweep
from tests.databases import databases
from tests.gateway import (
    OpenSession,
    RunningGateway,
    eventually,
    open_session,
    running_gateway,
)
from tests.http.raw import exchange, request
from tests.http.steps import uploaded

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
GRACE_S = 7 * 86400
GRACE_MS = GRACE_S * 1000
POLICY = Policy("short", 60, None, GRACE_S)
LEAP_S = 600.0
QUIET: dict[str, object] = {"sweep_interval_s": 3600.0}
"""The gateway's own sweep looks once, at the start."""

VERDICTS = "/v1/admin/retention/verdicts"

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class World:
    """A gateway with an object in a session, two clocks, and a sweep that goes by them."""

    gateway: RunningGateway
    session: OpenSession
    catalog: Catalog
    sweep: Sweep
    clocks: dict[str, int] = field(default_factory=dict)

    def leap(self, ms: float) -> None:
        """Set the catalog's clock forward, or back."""
        self.clocks["wall"] += int(ms)

    def pass_by(self, ms: float) -> None:
        """Let time pass, on all clocks."""
        self.clocks["wall"] += int(ms)
        self.clocks["steady"] += int(ms)

    async def now(self) -> int:
        return await self.catalog.read(now_ms)

    async def swept(self) -> int | None:
        query = select(deployment.c.swept_ms)
        return await self.catalog.read(lambda c: c.execute(query).scalar_one())

    async def leap_behind(self, ms: int) -> None:
        """Have the last sweep been so long ago, for a process that has not seen the time pass."""
        change = update(deployment).values(swept_ms=await self.now() - ms)
        await self.catalog.run(lambda c: c.execute(change).rowcount)

    async def make(
        self,
        count: int = 1,
        *,
        ends_in_ms: int | None = None,
        session_id: str | None = None,
        leased_until_ms: int | None = None,
        **columns: object,
    ) -> list[str]:
        """Make objects whose lifetime ends then, and return their ids."""
        now = await self.now()
        end = None if ends_in_ms is None else now + ends_in_ms
        times = {"keep_until_ms": end, "expires_ms": leased_until_ms or end}
        return await self.catalog.run(
            lambda c: _insert(c, count, leased_until_ms, session_id, times | columns)
        )

    async def rows(self) -> Rows:
        """Return all objects by id."""

        def unit(connection: Connection) -> Rows:
            found = connection.execute(select(objects)).mappings()
            return {row["object_id"]: dict(row) for row in found}

        return await self.catalog.read(unit)

    async def set(self, object_id: str, **columns: object) -> None:
        change = update(objects).where(objects.c.object_id == object_id).values(**columns)
        await self.catalog.run(lambda c: c.execute(change).rowcount)

    async def clear(self) -> None:
        """Forget all objects that live, but the first."""
        lives = (objects.c.state == "committed", objects.c.terms_id.is_not(None))
        await self.catalog.run(lambda c: c.execute(delete(objects).where(*lives)).rowcount)

    async def hold_session(self, session_id: str) -> None:
        change = update(sessions).where(sessions.c.session_id == session_id).values(holds=1)
        await self.catalog.run(lambda c: c.execute(change).rowcount)


def _insert(
    connection: Connection,
    count: int,
    leased_until_ms: int | None,
    session_id: str | None,
    columns: dict[str, object],
) -> list[str]:
    first = select(objects).order_by(objects.c.sequence).limit(1)
    pattern = dict(connection.execute(first).mappings().one())
    newest = connection.execute(select(func.max(objects.c.sequence))).scalar_one()
    pattern |= {"terms_id": note_terms(connection, POLICY)}
    made = []
    for number in range(count):
        object_id = new_random_id()
        own: dict[str, object] = {
            "object_id": object_id,
            "payload_id": new_random_id(),
            "task_id": object_id,
        }
        own |= {"file_key_print": os.urandom(32), "sequence": newest + 1 + number}
        if session_id is not None:
            own["session_id"] = session_id
        made.append(pattern | own | columns)
        if leased_until_ms is not None:
            lease = {"object_id": object_id, "holder": "user", "until_ms": leased_until_ms}
            connection.execute(insert(leases).values(renewed_ms=0, **lease))
    connection.execute(insert(objects), made)
    return [str(row["object_id"]) for row in made]


def sweep_of(gateway: RunningGateway, catalog: Catalog, clocks: dict[str, int]) -> Sweep:
    """Return a sweep as the gateway has it, over a catalog whose clock is set apart."""
    parts = gateway.gateway.parts
    settler = Settler(catalog, parts.store, instance_id="test", payloads=parts.payloads)
    return Sweep(
        catalog=catalog,
        erase_expired=Erasure(catalog=catalog, settler=settler).erase_expired,
        share=0.01,
        leap_s=LEAP_S,
        interval_s=60.0,
        clock=lambda: clocks["steady"] / 1000,
    )


def expired_of(rows: Rows) -> set[str]:
    return {i for i, row in rows.items() if row["expired_ms"] is not None and row["head"]}


def erased_of(rows: Rows) -> set[str]:
    return {i for i, row in rows.items() if row["state"] != "committed"}


async def make_a_mix(world: World, session_id: str = "held") -> dict[str, list[str]]:
    """Make objects that each verdict and reason is about; return their ids by what they are.
    ``session_id`` is a new session, which is held.
    """
    now = await world.now()
    await open_session(world.gateway, session_id)
    await world.hold_session(session_id)
    over: dict[str, Any] = {"expired_ms": now - 2 * GRACE_MS, "erase_after_ms": now - GRACE_MS}
    in_grace: dict[str, Any] = {"expired_ms": now - HOUR_MS, "erase_after_ms": now + GRACE_MS}
    return {
        "forever": await world.make(2),
        "lives": await world.make(2, ends_in_ms=HOUR_MS),
        "leased": await world.make(2, ends_in_ms=-HOUR_MS, leased_until_ms=now + HOUR_MS),
        "due": await world.make(3, ends_in_ms=-HOUR_MS),
        "due_lease": await world.make(1, ends_in_ms=-DAY_MS, leased_until_ms=now - HOUR_MS),
        "held": await world.make(2, ends_in_ms=-HOUR_MS, holds=1),
        "held_session": await world.make(2, ends_in_ms=-HOUR_MS, session_id=session_id),
        "grace": await world.make(2, ends_in_ms=-HOUR_MS, **in_grace),
        "grace_over": await world.make(3, ends_in_ms=-DAY_MS, **over),
        "grace_over_held": await world.make(1, ends_in_ms=-DAY_MS, holds=2, **over),
        "grace_over_session": await world.make(
            1, ends_in_ms=-DAY_MS, session_id=session_id, **over
        ),
        "ahead": await world.make(2, ends_in_ms=HOUR_MS, **in_grace),
        "ahead_for_ever": await world.make(1, **over),
        "ahead_held": await world.make(1, ends_in_ms=HOUR_MS, holds=1, **over),
    }


EXPECTED: Mapping[str, tuple[str, str]] = {
    "due": ("expire", "lifetime_over"),
    "due_lease": ("expire", "lifetime_over"),
    "held": ("keep", "held"),
    "held_session": ("keep", "held"),
    "grace": ("keep", "grace"),
    "grace_over": ("erase", "grace_over"),
    "grace_over_held": ("keep", "held"),
    "grace_over_session": ("keep", "held"),
    "ahead": ("revive", "clock"),
    "ahead_for_ever": ("revive", "clock"),
    "ahead_held": ("revive", "clock"),
}
"""What a sweep says of those of them that it looks at."""


async def shown(world: World, query: str = "") -> dict[str, Any]:
    token = world.gateway.operator_token
    answer = await exchange(world.gateway.address, request("GET", VERDICTS + query, token))
    assert 200 == answer.status, answer.body
    document: dict[str, Any] = answer.json()
    return document


async def run_by_hand(world: World, body: bytes = b"{}") -> dict[str, Any]:
    headers = [("Content-Type", "application/json")]
    asked = request(
        "POST", "/v1/admin/passes/sweep", world.gateway.operator_token, headers=headers, body=body
    )
    answer = await exchange(world.gateway.address, asked)
    assert 200 == answer.status, answer.body
    document: dict[str, Any] = answer.json()
    return document


@asynccontextmanager
async def world_of(tmp_path: Path, **settings: object) -> AsyncIterator[World]:
    """Run a gateway, with one object that lives for ever; its sweep has seen the time."""
    clocks = {"wall": 0, "steady": 0}
    async with running_gateway(tmp_path, **QUIET | settings) as gateway:
        session = await open_session(gateway, "101")
        await uploaded(gateway, session.path("t1"), session.user_token, b"content")

        def open_catalog() -> Catalog:
            return databases.open(gateway.data_dir, clock=lambda ms: ms + clocks["wall"])

        catalog = await asyncio.to_thread(open_catalog)
        try:
            world = World(gateway, session, catalog, sweep_of(gateway, catalog, clocks), clocks)
            await eventually(lambda: has_swept(world), what="the first sweep of the gateway")
            await world.sweep.run_once()
            yield world
        finally:
            await asyncio.to_thread(catalog.close)


async def has_swept(world: World) -> bool:
    return await world.swept() is not None and world.gateway.gateway.upkeep.sweep.newest is not None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as world:
        yield world
