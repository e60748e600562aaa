"""Bugs of which each makes one stress case fail: small changes of the real code, undone at the end.

`PLANTED` names for each case the bug and what it must break: the number of an invariant, or the
words of a criterion.
"""

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Connection, delete

from storage_gateway.api import object_handlers
from storage_gateway.api.body import read_pieces
from storage_gateway.catalog import SQLiteCatalog, Unit
from storage_gateway.catalog.objects import Ownership, begin_upload
from storage_gateway.catalog.tables import slots
from storage_gateway.errors import BodyIncomplete
from storage_gateway.records import Manifest, ObjectState, Slot
from storage_gateway.write import Uploads

Plant = Callable[[pytest.MonkeyPatch], None]


def short_bodies_are_taken(patch: pytest.MonkeyPatch) -> None:
    """A body that breaks off counts as one that ended."""

    async def read(request: web.Request, **limits: Any) -> AsyncGenerator[bytes]:  # noqa: ANN401 - passed on
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
    real = SQLiteCatalog.run
    numbers = itertools.count(1)

    async def run(self: SQLiteCatalog, unit: Unit[Any]) -> Any:  # noqa: ANN401 - passed on
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

    patch.setattr(SQLiteCatalog, "run", run)


def answers_cross(patch: pytest.MonkeyPatch) -> None:
    """Each upload is answered with what the one before it made."""
    real = Uploads.seal
    last: list[Manifest] = []

    async def seal(self: Uploads, *args: Any, **kwargs: Any) -> Manifest:  # noqa: ANN401 - passed on
        last.append(await real(self, *args, **kwargs))
        return last.pop(0) if len(last) > 1 else last[0]

    patch.setattr(Uploads, "seal", seal)


PLANTED: dict[str, tuple[Plant, str]] = {
    "concurrent-same-session": (answers_cross, "8"),
    "duplicate-submit": (slots_are_taken_over, "8"),
    "partial-write": (short_bodies_are_taken, "8"),
    "tiny-objects": (answers_come_before_commit, "2"),
}
