"""Bugs in what mends and clears away; see `planted`."""

# ruff: noqa: ANN401 - arguments of the real code are passed on

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, select, update

from crypto import CopyError, CopySealer, CryptoError, Identity, open_file
from retention import ErasureStep, next_erasure_step
from storage_gateway.backends import BlobInfo, Replicas
from storage_gateway.backends.spool import Spool
from storage_gateway.catalog import work
from storage_gateway.catalog.outbox import Due
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.tables import intents, objects
from storage_gateway.outbox import Outbox
from storage_gateway.plan import IntentState
from storage_gateway.repair import Repair, _Order
from storage_gateway.settle import Settler


def repair_looks_at_nothing(patch: pytest.MonkeyPatch) -> None:
    """What repair has put into a store counts as there, whether it is or not."""

    async def replace(self: Repair, order: _Order, spool: Spool) -> None:
        await self._remove(order)
        await self._put(order, spool)

    patch.setattr(Repair, "_replace", replace)


def one_store_is_cleared(patch: pytest.MonkeyPatch) -> None:
    """What was given up is looked for in the first store, and deleted there."""

    async def delete(self: Replicas, key: str) -> None:
        await self.members[0].delete(key)

    async def listed(self: Replicas, *args: Any, **kwargs: Any) -> AsyncIterator[BlobInfo]:
        async for blob in self.members[0].store.list(*args, **kwargs):
            yield blob

    patch.setattr(Replicas, "delete", delete)
    patch.setattr(Replicas, "list", listed)


def graves_close_at_once(patch: pytest.MonkeyPatch) -> None:
    """A grave is closed by the first pass that finds nothing in it."""

    def step(*, last_deletion_ms: int, **view: Any) -> ErasureStep:
        late = view | {"pass_began_ms": last_deletion_ms + 1, "horizon_ms": 0}
        return next_erasure_step(last_deletion_ms=last_deletion_ms, **late)

    patch.setattr("storage_gateway.recovery.next_erasure_step", step)


def foreign_stores_are_taken(patch: pytest.MonkeyPatch) -> None:
    """A store that lacks the deployment's marker gets it, whatever is in it."""

    async def refuse(_store: object, _deployment_id: str) -> None:
        pass

    patch.setattr("storage_gateway.markers._refuse_foreign_store", refuse)


def uploads_are_orphans(patch: pytest.MonkeyPatch) -> None:
    """Only objects name what lies in a store, not uploads that are under way."""

    def named(connection: Connection, payload_ids: Collection[str]) -> set[str]:
        found = select(objects.c.payload_id).where(objects.c.payload_id.in_(payload_ids))
        return {row.payload_id for row in connection.execute(found)}

    patch.setattr("storage_gateway.catalog.orphans.named_among", named)


def copies_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """Who wrote a record is answered before any store has its copy, which comes some time."""

    async def acknowledge(_self: Outbox, _due: Due, *, again: bool = False) -> None:
        pass

    patch.setattr(Outbox, "acknowledge", acknowledge)


def old_catalogs_claim(patch: pytest.MonkeyPatch) -> None:
    """Uploads of dead processes are claimed, whether the catalog is behind or not."""
    unguarded = Statement(
        update(intents)
        .where(work._OWNED, ~work._OWNER_ALIVE)
        .values(
            instance_id=bindparam("claimer"),
            fence=bindparam("new_fence"),
            state=IntentState.ABORTING.value,
        )
    )
    patch.setattr(work, "_CLAIM", unguarded)

    async def notice(_self: Settler, _intent: work.IntentRow) -> None:
        pass

    patch.setattr(Settler, "_notice_copies", notice)


def signatures_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """What opens with the recovery identity counts as a copy of ours."""

    def opened(_self: CopySealer, _name: str, data: bytes, identity: Identity) -> bytes:
        try:
            return open_file(data, [identity]).partition(b"\n")[2]
        except CryptoError as error:
            raise CopyError(str(error)) from None

    patch.setattr(CopySealer, "open", opened)


MENDING_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "catalog-lost": (copies_are_not_waited_for, "2"),
    "catalog-rolled-back": (
        old_catalogs_claim,
        "no upload of another process is cleared away",
    ),
    "foreign-deployment": (
        foreign_stores_are_taken,
        "a gateway refuses to start on what is not its own",
    ),
    "forged-manifest-copy": (
        signatures_are_not_checked,
        "each forged copy is refused and told, and no other one",
    ),
    "late-write-after-abort": (graves_close_at_once, "7"),
    "orphan-blob": (uploads_are_orphans, "nothing of an upload under way is touched"),
    "partial-write-recovery": (one_store_is_cleared, "7"),
    "repair-under-load": (
        repair_looks_at_nothing,
        "what a store did not keep is not counted as made",
    ),
}
