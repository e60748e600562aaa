"""Bugs to plant: each breaks one promise, and the histories must notice.

Each is a context manager that replaces something of ours for as long as it lasts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import mock

from sqlalchemy import Connection, delete, insert, select, update

from retention import ErasureStep
from storage_gateway import erase, placing, read, recovery, settle, write
from storage_gateway.catalog import Unit
from storage_gateway.catalog.erasing import erase as true_erase
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.tables import graves, instances, intents, objects, slots
from storage_gateway.catalog.work import IntentRow
from storage_gateway.plan import IntentState, IntentStep, IntentView, next_intent_step
from storage_gateway.records import Manifest, Segment, Session, Slot

from .database import SimulatedCatalog
from .faults import Faults
from .history import Climate

T = TypeVar("T")

_true_run = SimulatedCatalog.run
_true_plaintext = read.Reads.plaintext
_true_draft = write.Uploads._draft
_FOR_EVER_MS = 1 << 60


async def _run_answering_early(self: SimulatedCatalog, unit: Unit[T]) -> T:
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)  # as in a thread: SQL on a loop is another bug
    try:
        answer = self.database.memory.attempt(unit)
    finally:
        asyncio._set_running_loop(loop)
    later = asyncio.ensure_future(_true_run(self, unit))
    later.add_done_callback(lambda done: done.cancelled() or done.exception())
    return answer


def _commit_unfenced(
    connection: Connection,
    owner: Ownership,
    manifest: Manifest,
    *,
    placed: Sequence[Segment],
    wanted: Sequence[str],
) -> Manifest:
    """Whatever became of intent and lease, they are as if they were still ours."""
    connection.execute(delete(intents).where(intents.c.payload_id == owner.payload_id))
    row = {"payload_id": owner.payload_id, "object_id": manifest.object_id, "fence": owner.fence}
    row |= {"instance_id": owner.instance_id, "state": IntentState.OPEN.value, "created_ms": 0}
    connection.execute(insert(intents), row)
    connection.execute(delete(instances).where(instances.c.instance_id == owner.instance_id))
    lease = {"instance_id": owner.instance_id, "started_ms": 0, "lease_until_ms": _FOR_EVER_MS}
    connection.execute(insert(instances), lease)
    return commit_upload(connection, owner, manifest, placed=placed, wanted=wanted)


def _begin_in_any_slot(
    connection: Connection, owner: Ownership, *, object_id: str, slot: Slot
) -> None:
    """Take the slot from whoever holds it."""
    connection.execute(
        delete(slots).where(
            slots.c.session_id == slot.session_id,
            slots.c.task_id == slot.task_id,
            slots.c.direction == slot.direction,
            slots.c.miner == (slot.miner or ""),
        )
    )
    begin_upload(connection, owner, object_id=object_id, slot=slot)


class _Sent:
    """A buffer that is used again before it was sent."""

    piece: bytes | bytearray = b""


async def _plaintext_of_others(
    self: read.Reads, object_id: str
) -> AsyncIterator[bytes | bytearray]:
    async for piece in _true_plaintext(self, object_id):
        before, _Sent.piece = _Sent.piece, piece
        yield before if len(before) == len(piece) else piece


def _draft_with_old_id(
    self: write.Uploads, slot: Slot, session: Session, lifetime_s: int | None
) -> Any:  # noqa: ANN401
    """Give every attempt on a slot the same payload id."""
    draft = _true_draft(self, slot, session, lifetime_s)
    spelled = f"{slot.session_id}{slot.task_id}{slot.direction}{slot.miner or ''}"
    object.__setattr__(draft, "payload_id", spelled.encode().hex()[:32].ljust(32, "a"))
    return draft


def _erase_without_grave(connection: Connection, object_id: str) -> Manifest:
    """Call it erased at once."""
    manifest = true_erase(connection, object_id)
    connection.execute(delete(graves).where(graves.c.payload_id == manifest.payload_id))
    connection.execute(
        update(objects)
        .where(objects.c.object_id == object_id, objects.c.state == "erasing")
        .values(state="erased")
    )
    return manifest


def _step_against_the_living(view: IntentView) -> IntentStep:
    step = next_intent_step(view)
    return IntentStep.CLAIM if not view.mine and step is IntentStep.WAIT else step


def _claim_from_the_living(
    connection: Connection, intent: IntentRow, claimer: str
) -> Ownership | None:
    changed = connection.execute(
        update(intents)
        .where(intents.c.payload_id == intent.payload_id, intents.c.fence == intent.fence)
        .values(instance_id=claimer, fence=intent.fence + 1, state=IntentState.ABORTING.value)
    )
    if changed.rowcount != 1:
        return None
    connection.execute(delete(slots).where(slots.c.payload_id == intent.payload_id))
    return Ownership(intent.payload_id, claimer, intent.fence + 1)


def _close_at_once(**view: object) -> ErasureStep:
    return ErasureStep.DELETE if view["blobs_found"] else ErasureStep.CLOSE


def _never_bury_again(connection: Connection, payload_id: str, _object_id: str) -> bool:
    connection.execute(select(objects.c.object_id).where(objects.c.payload_id == payload_id))
    return False


async def _place_before_durable(self: placing.Placer, segment: Any) -> None:  # noqa: ANN401
    """Call a segment placed before the store has said so."""
    finish = segment.writer.finish

    async def not_yet() -> None:
        later = asyncio.ensure_future(finish())
        later.add_done_callback(lambda done: done.cancelled() or done.exception())

    segment.writer.finish = not_yet
    await _true_place_segment(self, segment)


_true_place_segment = placing.Placer._place_segment


@dataclass(frozen=True, slots=True)
class Bug:
    """How to plant a bug, and the climate in which it shows."""

    plant: Callable[[], AbstractContextManager[object]]
    climate: Climate | None = None


ROUGH = Faults(kill_at_step=0.15, store_slow=0.3, store_late=0.9, repeat=0.2)
SLEEPY = Faults(pause_at_step=0.1, store_late=0.9, slow_client=0.5)
SLOW = Faults(slow_client=0.5, store_slow=0.4)

PLANTED: dict[str, Bug] = {
    "an answer before COMMIT": Bug(
        lambda: mock.patch.object(SimulatedCatalog, "run", _run_answering_early)
    ),
    "a commit that does not look at the fence": Bug(
        lambda: mock.patch.object(write, "commit_upload", _commit_unfenced)
    ),
    "a slot for two": Bug(lambda: mock.patch.object(write, "begin_upload", _begin_in_any_slot)),
    "a reader of another object's bytes": Bug(
        lambda: mock.patch.object(read.Reads, "plaintext", _plaintext_of_others)
    ),
    "a payload id that is used again": Bug(
        lambda: mock.patch.object(write.Uploads, "_draft", _draft_with_old_id)
    ),
    "an erasure without a grave": Bug(
        lambda: mock.patch.object(erase, "erase", _erase_without_grave)
    ),
    "a claim against the living": Bug(
        lambda: mock.patch.multiple(
            settle,
            next_intent_step=_step_against_the_living,
            claim_intent=_claim_from_the_living,
        ),
        Climate(SLOW, elsewhere=True),
    ),
    "a grave that is closed at once": Bug(
        lambda: mock.patch.object(recovery, "next_erasure_step", _close_at_once),
        Climate(ROUGH, elsewhere=True),
    ),
    "late writes that nobody buries again": Bug(
        lambda: mock.patch.object(settle, "bury_again", _never_bury_again),
        Climate(SLEEPY, elsewhere=False),
    ),
    "a commit before the payload is durable": Bug(
        lambda: mock.patch.object(placing.Placer, "_place_segment", _place_before_durable)
    ),
}
