"""Units on outcomes: what became of uploads that were answered before they had their write quorum.

A row says who may ask, until when it is decided, and why it failed. Whether the upload is pending
or committed is not written here but read from its intent and its object, which change together in
one transaction: so nothing has to be brought up to date by who commits, settles or recovers it.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from storage_gateway.errors import IntentLost, NotFound
from storage_gateway.plan import IntentState
from storage_gateway.records import Manifest, Slot

from .clock import now_ms
from .high_water import IS_BEHIND
from .objects import Ownership, load_manifest, require_intent
from .statements import Statement, key_of, miner_of
from .tables import intents, outcomes
from .work import free_slot

OVERDUE_S = 5.0
"""How long after its time an upload that nobody asks for is decided: by then its own task has given
up, and has noted why."""
OUTCOMES_KEPT_S = 24 * 3600
"""How long an outcome is told after the time by which it was decided."""

# Parameters are named as in catalog/objects.
_INSERT = Statement(insert(outcomes))
_OUTCOME = Statement(select(outcomes).where(outcomes.c.object_id == bindparam("object_id_is")))
_OPEN_INTENT = Statement(
    select(intents.c.payload_id).where(
        intents.c.payload_id == bindparam("payload_id_is"),
        intents.c.state == IntentState.OPEN.value,
    )
)
_NOTE_FAILURE = Statement(
    update(outcomes)
    .where(
        outcomes.c.object_id == bindparam("object_id_is"),
        select(intents.c.payload_id)
        .where(
            intents.c.payload_id == outcomes.c.payload_id,
            intents.c.state == IntentState.OPEN.value,
        )
        .exists(),
    )
    .values(code=bindparam("new_code"))
)
_ABORT = Statement(
    update(intents)
    .where(
        intents.c.payload_id == bindparam("payload_id_is"),
        intents.c.state == IntentState.OPEN.value,
        ~IS_BEHIND,  # it may have been committed since
    )
    .values(state=IntentState.ABORTING.value)
)
_PENDING = Statement(
    select(outcomes.c.payload_id)
    .join(intents, intents.c.payload_id == outcomes.c.payload_id)
    .where(
        intents.c.state == IntentState.OPEN.value,
        outcomes.c.payload_id > bindparam("after"),
    )
    .order_by(outcomes.c.payload_id)
    .limit(bindparam("count"))
)
_OVERDUE = Statement(
    select(outcomes.c.payload_id)
    .join(intents, intents.c.payload_id == outcomes.c.payload_id)
    .where(
        intents.c.state == IntentState.OPEN.value,
        outcomes.c.decide_by_ms < bindparam("before_ms"),
    )
    .order_by(outcomes.c.payload_id)
    .limit(bindparam("count"))
)
_FORGET = Statement(delete(outcomes).where(outcomes.c.decide_by_ms < bindparam("before_ms")))


class OutcomeState(enum.StrEnum):
    """What is known of an upload that was answered with 202."""

    PENDING = "pending"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an upload, or will by ``decide_by_ms``; ``left_ms`` is how long that is."""

    object_id: str
    payload_id: str
    slot: Slot
    state: OutcomeState
    decide_by_ms: int
    left_ms: int
    code: str = IntentLost.code
    """Of the error that it failed with."""
    manifest: Manifest | None = None
    """Of the object, once it is committed."""

    @property
    def is_overdue(self) -> bool:
        """Tell whether it is pending, and should not be any more."""
        return self.state is OutcomeState.PENDING and self.left_ms <= 0


def begin_outcome(
    connection: Connection, owner: Ownership, *, object_id: str, slot: Slot, within_s: float
) -> Outcome:
    """Note that an upload is answered now, and is decided ``within_s`` from now.

    Raises:
        IntentLost: it is not this process's any more.

    """
    require_intent(connection, owner)
    within_ms = int(within_s * 1000)
    decide_by_ms = now_ms(connection) + within_ms
    row = {
        "object_id": object_id,
        "payload_id": owner.payload_id,
        "session_id": slot.session_id,
        "task_id": slot.task_id,
        "direction": slot.direction,
        "miner": key_of(slot.miner),
        "decide_by_ms": decide_by_ms,
    }
    _INSERT.run(connection, row)
    state = OutcomeState.PENDING
    return Outcome(object_id, owner.payload_id, slot, state, decide_by_ms, within_ms)


def note_failure(connection: Connection, object_id: str, code: str) -> None:
    """Note why an upload is about to fail; of one that is decided what was told stays so."""
    _NOTE_FAILURE.run(connection, {"object_id_is": object_id, "new_code": code})


def load_outcome(connection: Connection, object_id: str) -> Outcome:
    """Return what became of an upload.

    Raises:
        NotFound: no upload of that id was answered with 202, or its outcome was forgotten.

    """
    row = _OUTCOME.run(connection, {"object_id_is": object_id}).first()
    if row is None:
        raise NotFound("no such object")
    state, manifest = _state_of(connection, row.object_id, row.payload_id)
    return Outcome(
        object_id=row.object_id,
        payload_id=row.payload_id,
        slot=Slot(row.session_id, row.task_id, row.direction, miner_of(row.miner)),
        state=state,
        decide_by_ms=row.decide_by_ms,
        left_ms=row.decide_by_ms - now_ms(connection),
        code=row.code or IntentLost.code,
        manifest=manifest,
    )


def _state_of(
    connection: Connection, object_id: str, payload_id: str
) -> tuple[OutcomeState, Manifest | None]:
    # In this order: a commit between the two is seen by the second.
    if _OPEN_INTENT.run(connection, {"payload_id_is": payload_id}).first() is not None:
        return OutcomeState.PENDING, None
    try:
        return OutcomeState.COMMITTED, load_manifest(connection, object_id)
    except NotFound:
        return OutcomeState.FAILED, None


def decide_overdue(connection: Connection, object_id: str) -> Outcome:
    """Return what became of an upload; one that is overdue is failed by this.

    Whoever is still at work on it, a process that was paused even, cannot commit it any more.

    Raises:
        NotFound: as `load_outcome`.

    """
    outcome = load_outcome(connection, object_id)
    if not outcome.is_overdue:
        return outcome
    _abort(connection, outcome.payload_id)
    return load_outcome(connection, object_id)


def list_pending(connection: Connection, after: str, limit: int) -> list[str]:
    """Return a page of the payload ids of uploads that are pending, in their order."""
    page = {"after": after, "count": limit}
    return [row.payload_id for row in _PENDING.run(connection, page)]


def decide_all_overdue(connection: Connection, among: Collection[str], limit: int) -> int:
    """Fail uploads ``among`` these payload ids that are overdue by `OVERDUE_S`; return how many.

    At most ``limit`` of all that are overdue are looked at.
    """
    before_ms = now_ms(connection) - int(OVERDUE_S * 1000)
    overdue = list(_OVERDUE.run(connection, {"before_ms": before_ms, "count": limit}))
    found = [row.payload_id for row in overdue if row.payload_id in among]
    return sum(_abort(connection, payload_id) for payload_id in found)


def _abort(connection: Connection, payload_id: str) -> bool:
    """Tell whether it was open, and is not any more."""
    if _ABORT.run(connection, {"payload_id_is": payload_id}).changed != 1:
        return False
    free_slot(connection, payload_id)
    return True


def forget_outcomes(connection: Connection) -> None:
    """Drop what was decided long ago, whether anybody has asked or not."""
    _FORGET.run(connection, {"before_ms": now_ms(connection) - OUTCOMES_KEPT_S * 1000})
