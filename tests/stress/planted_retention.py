"""Bugs in what lets objects stay and go; see `planted`."""

from collections.abc import Callable, Collection

import pytest
from sqlalchemy import Connection, bindparam, delete, select, update

from retention import Clock
from storage_gateway.backends import BlobInfo
from storage_gateway.backends.member import Member
from storage_gateway.catalog import erasing
from storage_gateway.catalog.erasing import erase, erase_expired
from storage_gateway.catalog.graves import ERASED, dig_grave
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.sweeping import Planned, expire
from storage_gateway.catalog.tables import graves, objects, sessions
from storage_gateway.catalog.work import Grave
from storage_gateway.erase import Erasure
from storage_gateway.errors import BackendUnavailable, Held
from storage_gateway.records import Manifest, ObjectState
from storage_gateway.recovery import Recovery


def who_rests_is_clean(patch: pytest.MonkeyPatch) -> None:
    """A store that is not asked for a while, as it failed lately, counts as clean."""

    def resting(self: Member) -> bool:
        return not (self.lists.is_closed and self.deletes.is_closed)

    listed, deleted = Member.list, Member.delete

    async def list_(self: Member, prefix: str) -> list[BlobInfo]:
        try:
            return await listed(self, prefix)
        except BackendUnavailable:
            if resting(self):
                return []
            raise

    async def delete(self: Member, key: str) -> None:
        try:
            await deleted(self, key)
        except BackendUnavailable:
            if not resting(self):
                raise

    patch.setattr(Member, "list", list_)
    patch.setattr(Member, "delete", delete)


def old_copies_are_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    """Who brings the tombstone removes the copies before it, and nobody looks for them later."""

    async def older(_self: Recovery, _grave: Grave) -> tuple[list[str], bool]:
        return [], True

    patch.setattr(Recovery, "_older_copies", older)


def holds_are_looked_for_before(patch: pytest.MonkeyPatch) -> None:
    """Who erases looks for holds, and then erases, whatever was held in between."""
    here = objects.c.object_id == bindparam("object_id_is")
    session = sessions.c.session_id == objects.c.session_id
    holds = select(objects.c.holds + sessions.c.holds).join_from(objects, sessions, session)
    unguarded = (
        update(objects)
        .where(here, objects.c.state == ObjectState.COMMITTED.value)
        .values(
            state=ObjectState.ERASING.value,
            head=None,
            wrap_id=None,
            erased_ms=bindparam("now_ms"),
            generation=objects.c.generation + 1,
        )
    )
    patch.setattr(erasing, "_ERASE", Statement(unguarded))
    real = Erasure.erase

    async def erase(self: Erasure, object_id: str) -> Manifest:
        asked = {"object_id_is": object_id}
        if await self._catalog.read(lambda c: c.execute(holds.where(here), asked).scalar_one()):
            raise Held("a hold is on the object, or on its session")
        return await real(self, object_id)

    patch.setattr(Erasure, "erase", erase)


def what_expires_is_erased(patch: pytest.MonkeyPatch) -> None:
    """There is no time in which what has expired could be had back."""

    def expire_and_erase(connection: Connection, planned: Collection[Planned], at_ms: int) -> int:
        count = expire(connection, planned, at_ms)
        for each in planned:
            erase(connection, each.object_id)
        return count

    patch.setattr("storage_gateway.sweep.expire", expire_and_erase)


def every_clock_is_believed(patch: pytest.MonkeyPatch) -> None:
    """What is due goes, however far the clock is from where it was."""
    patch.setattr("storage_gateway.sweep.judge_clock", lambda *_args, **_kwargs: Clock.STEADY)


def graves_are_dug_afterwards(patch: pytest.MonkeyPatch) -> None:
    """What a sweep erases is given up in a transaction of its own, after that of the erasure."""

    def erase_unburied(connection: Connection, object_id: str) -> Manifest | None:
        manifest = erase_expired(connection, object_id)
        connection.execute(delete(graves).where(graves.c.object_id == object_id))
        return manifest

    erase_unburied.__name__ = erase_expired.__name__
    patch.setattr("storage_gateway.erase.erase_expired", erase_unburied)
    real = Erasure._clear

    async def clear(self: Erasure, manifest: Manifest) -> None:
        buried = manifest.payload_id, manifest.object_id
        await self._catalog.run(lambda c: dig_grave(c, *buried, ERASED))
        await real(self, manifest)

    patch.setattr(Erasure, "_clear", clear)


RETENTION_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "clock-leap": (every_clock_is_believed, "nothing goes where more seems due than may go"),
    "crash-in-sweep": (
        graves_are_dug_afterwards,
        "what was due is erased, and nothing of it is left",
    ),
    "erase-with-backend-down": (
        who_rests_is_clean,
        "nothing counts as erased before every store was seen clean",
    ),
    "expired-while-reading": (what_expires_is_erased, "a lease has back what has expired"),
    "hold-against-erase": (
        holds_are_looked_for_before,
        "who is told that it is held keeps the object",
    ),
    "late-copy-after-erase": (
        old_copies_are_not_looked_for,
        "what comes to a store late is found, and deleted",
    ),
}
