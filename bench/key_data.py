"""Catalogs with many heads, made without a gateway: no payload is stored, none is asked for."""

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, insert, select

from crypto import new_head
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.tables import objects
from storage_gateway.catalog.work import LEASE_S_MAX, end_instance, renew_instance
from storage_gateway.drafts import Draft, manifest_of, recipients_of
from storage_gateway.ids import new_random_id
from storage_gateway.parts import Parts, open_parts
from storage_gateway.records import INPUT, Manifest, Session, Slot

from .pass_data import BATCH, SESSION, config_of, open_session

LEAF = (bytes(32), 4096)
"""What a payload would be of."""


async def fill(folder: Path, count: int) -> None:
    """Make a catalog with so many objects with true heads, for a user, a miner and the router."""
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        session = await open_session(parts)
        for first in range(0, count, BATCH):
            numbers = range(first, min(count, first + BATCH))
            made = [_make(parts, session, number) for number in numbers]
            await parts.catalog.run(partial(_enter, made=made))
        await parts.catalog.run(lambda c: end_instance(c, SESSION))
    os.sync()


async def multiply(folder: Path, count: int) -> None:
    """Have so many objects in the catalog: rows like those that are there, with other names."""
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        rows = [dict(row) for row in await parts.catalog.read(_rows)]
        for first in range(len(rows), count, BATCH * 10):
            numbers = range(first, min(count, first + BATCH * 10))
            more = [_renamed(rows[number % len(rows)], number + 1) for number in numbers]
            await parts.catalog.run(partial(_insert, rows=more))
    os.sync()


def _make(parts: Parts, session: Session, number: int) -> tuple[Ownership, Manifest]:
    draft = Draft(
        object_id=new_random_id(),
        payload_id=new_random_id(),
        slot=Slot(SESSION, f"t{number}", INPUT, None),
        key_class=session.key_class,
        parties=session.recipients_of(INPUT, None),
        wanted=session.wanted,
        store=parts.store,
    )
    head = new_head(recipients_of(draft.parties), context=draft.context())
    return Ownership(draft.payload_id, SESSION, 1), manifest_of(draft, head, [LEAF])


def _enter(connection: Connection, made: list[tuple[Ownership, Manifest]]) -> None:
    renew_instance(connection, SESSION, LEASE_S_MAX)
    for owner, manifest in made:
        begin_upload(connection, owner, object_id=manifest.object_id, slot=manifest.slot)
        commit_upload(connection, owner, replace(manifest), placed=[], wanted=[])


def _rows(connection: Connection) -> list[dict[str, object]]:
    return [dict(row._mapping) for row in connection.execute(select(objects))]  # noqa: SLF001 - its public name


def _renamed(row: dict[str, object], number: int) -> dict[str, object]:
    own = {"object_id": new_random_id(), "payload_id": new_random_id(), "task_id": f"t{number}"}
    return row | own | {"file_key_print": os.urandom(32), "sequence": number}


def _insert(connection: Connection, rows: list[dict[str, object]]) -> None:
    connection.execute(insert(objects), rows)
