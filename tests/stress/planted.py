"""Bugs of which each makes one stress case fail: small changes of the real code, undone at the end.

`PLANTED` names for each case the bug and what it must break: the number of an invariant, or the
words of a criterion.
"""

# ruff: noqa: ANN401 - arguments and answers of the real code are passed on

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Connection, delete, insert

from storage_gateway.api import object_handlers
from storage_gateway.api.body import read_pieces
from storage_gateway.catalog import Catalog, PostgresCatalog, SQLiteCatalog, Unit, now_ms
from storage_gateway.catalog.faulty import FaultyCatalog
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.tables import intents, slots
from storage_gateway.catalog.work import IntentRow, renew_instance
from storage_gateway.cli import stress_child
from storage_gateway.errors import BodyIncomplete
from storage_gateway.records import Manifest, ObjectState, Slot
from storage_gateway.settle import Settler
from storage_gateway.write import Uploads
from tests.gateway import REPOSITORY
from tests.stress.planted_keys import KEY_BUGS
from tests.stress.planted_mending import MENDING_BUGS
from tests.stress.planted_nodes import NODE_BUGS
from tests.stress.planted_reads import READ_BUGS
from tests.stress.planted_retention import RETENTION_BUGS
from tests.stress.planted_silence import SILENCE_BUGS
from tests.stress.planted_stores import STORE_BUGS

CROWD = 8

Plant = Callable[[pytest.MonkeyPatch], None]


def short_bodies_are_taken(patch: pytest.MonkeyPatch) -> None:
    """A body that breaks off counts as one that ended."""

    async def read(request: web.Request, **limits: Any) -> AsyncGenerator[bytes]:
        async with aclosing(read_pieces(request, **limits)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except BodyIncomplete:
                return

    patch.setattr(object_handlers, "read_pieces", read)


def slots_are_taken_over(patch: pytest.MonkeyPatch) -> None:
    """Who comes later takes the slot from an upload that is under way."""

    def begin(connection: Connection, owner: Ownership, *, object_id: str, slot: Slot) -> None:
        connection.execute(
            delete(slots).where(
                slots.c.session_id == slot.session_id,
                slots.c.task_id == slot.task_id,
                slots.c.direction == slot.direction,
            )
        )
        begin_upload(connection, owner, object_id=object_id, slot=slot)

    patch.setattr("storage_gateway.write.begin_upload", begin)


class _Undone(Exception):
    pass


def answers_come_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Some commits are answered, and their transaction is undone."""
    numbers = itertools.count(1)

    def planted_in(real: Callable[..., Any]) -> Callable[..., Any]:
        async def run(self: Catalog, unit: Unit[Any]) -> Any:
            answered: list[object] = []

            def undone(connection: Connection) -> object:
                answer: object = unit(connection)
                committed = isinstance(answer, Manifest) and answer.state is ObjectState.COMMITTED
                if committed and next(numbers) % 2 == 0:
                    answered.append(answer)
                    raise _Undone
                return answer

            try:
                return await real(self, undone)
            except _Undone:
                return answered[0]

        return run

    for kind in (SQLiteCatalog, PostgresCatalog):
        patch.setattr(kind, "run", planted_in(kind.run))


def answers_cross(patch: pytest.MonkeyPatch) -> None:
    """Each upload is answered with what the one before it made."""
    real = Uploads.seal
    last: list[Manifest] = []

    async def seal(self: Uploads, *args: Any, **kwargs: Any) -> Manifest:
        last.append(await real(self, *args, **kwargs))
        return last.pop(0) if len(last) > 1 else last[0]

    patch.setattr(Uploads, "seal", seal)


def failed_uploads_are_deleted_unasked(patch: pytest.MonkeyPatch) -> None:
    """Who does not know what became of a commit deletes the payload, and asks afterwards."""
    real = Settler.settle_upload

    async def settle_upload(self: Settler, payload_id: str, *args: Any, **kwargs: Any) -> None:
        await self.delete_payload(payload_id)
        await real(self, payload_id, *args, **kwargs)

    patch.setattr(Settler, "settle_upload", settle_upload)


def commits_are_not_fenced(patch: pytest.MonkeyPatch) -> None:
    """A commit takes effect whoever owns the upload meanwhile, and whether the lease holds."""

    def commit(connection: Connection, owner: Ownership, *args: Any, **kwargs: Any) -> Manifest:
        _own_again(connection, owner)
        return commit_upload(connection, owner, *args, **kwargs)

    patch.setattr("storage_gateway.write.commit_upload", commit)


def _own_again(connection: Connection, owner: Ownership) -> None:
    _intend_again(connection, owner)
    renew_instance(connection, owner.instance_id, 60.0)  # one that was forgotten, too


def _intend_again(connection: Connection, owner: Ownership) -> None:
    connection.execute(delete(intents).where(intents.c.payload_id == owner.payload_id))
    connection.execute(
        insert(intents),
        {
            "payload_id": owner.payload_id,
            "object_id": owner.payload_id,
            "instance_id": owner.instance_id,
            "fence": owner.fence,
            "state": "open",
            "created_ms": now_ms(connection),
        },
    )


def answers_cross_in_a_crowd(patch: pytest.MonkeyPatch) -> None:
    """Where many uploads are under way, one is answered with what another made."""
    real = Uploads.seal
    last: list[Manifest] = []
    under_way = 0

    async def seal(self: Uploads, *args: Any, **kwargs: Any) -> Manifest:
        nonlocal under_way
        under_way += 1
        try:
            manifest = await real(self, *args, **kwargs)
        finally:
            under_way -= 1
        last.append(manifest)
        return last[-2] if under_way > CROWD and len(last) > 1 else manifest

    patch.setattr(Uploads, "seal", seal)


def silence_has_no_end(patch: pytest.MonkeyPatch) -> None:
    """Senders that are slow are waited for."""

    async def read(request: web.Request, **limits: Any) -> AsyncGenerator[bytes]:
        async with aclosing(read_pieces(request, **limits | {"idle_s": 3600.0})) as pieces:
            async for piece in pieces:
                yield piece

    patch.setattr(object_handlers, "read_pieces", read)


def sizes_wrap(patch: pytest.MonkeyPatch) -> None:
    """Sizes are kept in 24 bits: as 32 bits are to 4 GiB, so are these to 16 MiB."""

    def commit(
        connection: Connection, owner: Ownership, manifest: Manifest, **kwargs: Any
    ) -> Manifest:
        wrapped = replace(manifest, size=manifest.size & 0xFF_FFFF)
        return commit_upload(connection, owner, wrapped, **kwargs)

    patch.setattr("storage_gateway.write.commit_upload", commit)


def uploads_begin_unwritten(patch: pytest.MonkeyPatch) -> None:
    """The catalog hears of an upload at its commit only."""

    def begin(connection: Connection, owner: Ownership, **kwargs: Any) -> None:
        begin_upload(connection, owner, **kwargs)
        for table in (intents, slots):
            connection.execute(delete(table).where(table.c.payload_id == owner.payload_id))

    patch.setattr("storage_gateway.write.begin_upload", begin)
    commits_are_not_fenced(patch)


def commits_are_answered_within_their_transaction(patch: pytest.MonkeyPatch) -> None:
    """The answer to a commit goes out when its statements have run, before COMMIT."""
    real = FaultyCatalog.run

    async def run(self: FaultyCatalog, unit: Unit[Any]) -> Any:
        loop = asyncio.get_running_loop()
        early: asyncio.Future[Any] = loop.create_future()

        def told(connection: Connection) -> object:
            answer: object = unit(connection)
            if isinstance(answer, Manifest) and answer.state is ObjectState.COMMITTED:
                loop.call_soon_threadsafe(early.set_result, answer)
            return answer

        whole = asyncio.create_task(real(self, told))
        await asyncio.wait([whole, early], return_when=asyncio.FIRST_COMPLETED)
        return early.result() if early.done() else await whole

    patch.setattr(FaultyCatalog, "run", run)


def intents_outlive_commits(patch: pytest.MonkeyPatch) -> None:
    """The intent goes out in a transaction of its own, after that of the commit."""
    real = Uploads.seal

    def commit(connection: Connection, owner: Ownership, *args: Any, **kwargs: Any) -> Manifest:
        manifest = commit_upload(connection, owner, *args, **kwargs)
        _intend_again(connection, owner)
        return manifest

    async def seal(self: Uploads, *args: Any, **kwargs: Any) -> Manifest:
        manifest = await real(self, *args, **kwargs)
        await self._catalog.run(_dropping_intent(manifest.payload_id))
        return manifest

    patch.setattr("storage_gateway.write.commit_upload", commit)
    patch.setattr(Uploads, "seal", seal)


def _dropping_intent(payload_id: str) -> Unit[None]:
    def unit(connection: Connection) -> None:
        connection.execute(delete(intents).where(intents.c.payload_id == payload_id))

    return unit


def recovery_forgets_before_it_deletes(patch: pytest.MonkeyPatch) -> None:
    """The intent of an upload that is given up is dropped first, and no grave is made."""

    async def delete_and_bury(self: Settler, intent: IntentRow) -> None:
        await self._catalog.run(_dropping_intent(intent.payload_id))
        await self.delete_payload(intent.payload_id)

    patch.setattr(Settler, "_delete_and_bury", delete_and_bury)


PLANTED: dict[str, tuple[Plant, str]] = {
    "catalog-stall": (failed_uploads_are_deleted_unasked, "2"),
    "clock-jump": (commits_are_not_fenced, "2"),
    "concurrent-same-session": (answers_cross, "8"),
    "crash-after-commit": (intents_outlive_commits, "2"),
    "crash-before-commit": (commits_are_answered_within_their_transaction, "2"),
    "crash-in-recovery": (recovery_forgets_before_it_deletes, "7"),
    "crash-mid-upload": (uploads_begin_unwritten, "7"),
    "duplicate-submit": (slots_are_taken_over, "8"),
    "huge-object": (sizes_wrap, "8"),
    "partial-write": (short_bodies_are_taken, "8"),
    "paused-process": (commits_are_not_fenced, "5"),
    "queue-spike": (answers_cross_in_a_crowd, "8"),
    "slow-client": (silence_has_no_end, "slow clients are cut off"),
    "tiny-objects": (answers_come_before_commit, "2"),
}
PLANTED |= (
    KEY_BUGS | MENDING_BUGS | NODE_BUGS | READ_BUGS | RETENTION_BUGS | SILENCE_BUGS | STORE_BUGS
)


def plant(case: str, patch: pytest.MonkeyPatch) -> None:
    """Plant a case's bug in this process, and in those that a run starts."""
    PLANTED[case][0](patch)
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r});"
        f" from tests.stress.planted import run_child; run_child({case!r})"
    )
    patch.setattr("storage_gateway.stress.children.COMMAND", (sys.executable, "-c", code))


def run_child(case: str) -> None:
    """Be a process of a run, with a case's bug."""
    PLANTED[case][0](pytest.MonkeyPatch())
    stress_child.main()
