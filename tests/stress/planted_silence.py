"""Bugs in what is made of stores that answer late, in part, or not at all; see `planted`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, delete

from storage_gateway.backends import replicas
from storage_gateway.backends.health import Breaker
from storage_gateway.backends.member import Member
from storage_gateway.backends.replica_reads import _Asking
from storage_gateway.catalog.objects import Ownership, begin_upload
from storage_gateway.catalog.tables import graves, slots
from storage_gateway.catalog.work import IntentRow, bury
from storage_gateway.errors import BackendUnavailable
from storage_gateway.records import Party, Slot
from storage_gateway.settle import Settler


def silence_is_final(patch: pytest.MonkeyPatch) -> None:
    """A store that does not answer a read is not replaced by another one."""
    real = _Asking.run

    async def run(
        self: _Asking[Any], ranked: Iterable[Member], *, goes_on: tuple[type[Exception], ...]
    ) -> Any:  # noqa: ANN401
        others = tuple(kind for kind in goes_on if kind is not BackendUnavailable)
        return await real(self, ranked, goes_on=others)

    patch.setattr(_Asking, "run", run)


def failed_uploads_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What no store acknowledged counts as not stored: nothing is deleted, and no grave is made."""

    async def delete_and_bury(self: Settler, intent: IntentRow) -> None:
        def unit(connection: Connection) -> None:
            bury(connection, Ownership(intent.payload_id, intent.instance_id, intent.fence))
            connection.execute(delete(graves).where(graves.c.payload_id == intent.payload_id))

        await self._catalog.run(unit)

    patch.setattr(Settler, "_delete_and_bury", delete_and_bury)


def runs_are_not_replaced(patch: pytest.MonkeyPatch) -> None:
    """A run of several leaves that one store does not serve is not asked of another one."""
    real = _Asking.run

    async def run(
        self: _Asking[Any], ranked: Iterable[Member], *, goes_on: tuple[type[Exception], ...]
    ) -> Any:  # noqa: ANN401
        of_a_run = goes_on == (BackendUnavailable,)
        return await real(self, ranked, goes_on=() if of_a_run else goes_on)

    patch.setattr(_Asking, "run", run)


def writes_wait_for_all(patch: pytest.MonkeyPatch) -> None:
    """What a quorum has waits for all other stores."""
    patch.setattr(replicas, "GRACE_S", 3600.0)


def slots_are_given_anew(patch: pytest.MonkeyPatch) -> None:
    """Who sends again is taken for somebody else: each upload gets the slot, whoever has it."""

    def begin(
        connection: Connection,
        owner: Ownership,
        *,
        object_id: str,
        slot: Slot,
        wrapped_for: Sequence[Party] = (),
    ) -> None:
        connection.execute(
            delete(slots).where(
                slots.c.session_id == slot.session_id, slots.c.task_id == slot.task_id
            )
        )
        begin_upload(connection, owner, object_id=object_id, slot=slot, wrapped_for=wrapped_for)

    patch.setattr("storage_gateway.write.begin_upload", begin)
    patch.setattr("storage_gateway.write.check_slot_free", lambda *_: None)


def failures_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A store that fails is asked like any other one."""
    patch.setattr(Breaker, "fail", lambda *_args, **_options: None)


SILENCE_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "deadline-mismatch": (
        slots_are_given_anew,
        "what is sent again is there once, under one URN",
    ),
    "hang-after-headers": (runs_are_not_replaced, "every body that was under way came whole"),
    "lost-acknowledgement": (failed_uploads_are_forgotten, "7"),
    "retry-storm": (failures_are_not_counted, "a store that fails is left alone"),
    "slow-trickle": (writes_wait_for_all, "uploads do not wait for the slow store"),
    "timeout-read": (silence_is_final, "while one store hangs every read is right"),
}
