"""Units on who works on what: instance leases, claims of intents, graves."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    union,
    update,
)

from storage_gateway.plan import IntentState
from storage_gateway.records import ObjectState

from .clock import now_ms
from .graves import ABORTED, dig_grave
from .high_water import IS_BEHIND
from .objects import Ownership
from .statements import Statement, insert_once
from .tables import (
    blocks,
    deployment,
    graves,
    instances,
    intents,
    markers,
    objects,
    outbox,
    pins,
    placements,
    roots,
    segments,
    slots,
)

LEASES_KEPT_S = 3600
LEASE_S_MAX = 3600
"""No process has a longer one: what ends later was written before the clock was set back."""

# Parameters are named as in catalog/objects.
_MARKER = Statement(select(markers.c.backend).where(markers.c.backend == bindparam("backend_is")))
_START_INSTANCE = Statement(insert(instances))
_RENEW_INSTANCE = Statement(
    update(instances)
    .where(instances.c.instance_id == bindparam("instance_id_is"))
    .values(lease_until_ms=bindparam("until_ms"))
)
_END_INSTANCE = Statement(
    delete(instances).where(instances.c.instance_id == bindparam("instance_id_is"))
)
_FORGET_INSTANCES = Statement(
    delete(instances).where(
        instances.c.lease_until_ms < bindparam("before_ms"),
        ~exists().where(intents.c.instance_id == instances.c.instance_id),
    )
)
_MEND_LEASES = Statement(
    update(instances)
    .where(instances.c.lease_until_ms > bindparam("latest_ms"))
    .values(lease_until_ms=bindparam("latest_ms"))
)
_MEND_GRAVES = Statement(
    update(graves)
    .where(graves.c.buried_ms > bindparam("now_ms"))
    .values(buried_ms=bindparam("now_ms"))
)
_LIVING = Statement(
    select(instances.c.instance_id).where(instances.c.lease_until_ms > bindparam("now_ms")).limit(1)
)
_MEND_OUTBOX = Statement(
    update(outbox)
    .where(outbox.c.created_ms > bindparam("now_ms"))
    .values(created_ms=bindparam("now_ms"))
)
_OWNER_ALIVE = exists().where(
    instances.c.instance_id == intents.c.instance_id,
    instances.c.lease_until_ms > bindparam("now_ms"),
)
_INTENTS = Statement(
    select(intents, _OWNER_ALIVE.label("owner_alive"))
    .where(intents.c.payload_id > bindparam("after"))
    .order_by(intents.c.payload_id)
    .limit(bindparam("count"))
)
_INTENT = Statement(select(intents).where(intents.c.payload_id == bindparam("payload_id_is")))
_OWNED = and_(
    intents.c.payload_id == bindparam("payload_id_is"),
    intents.c.instance_id == bindparam("instance_id_is"),
    intents.c.fence == bindparam("fence_is"),
)
_CLAIM = Statement(
    update(intents)
    .where(_OWNED, ~_OWNER_ALIVE, ~IS_BEHIND)
    .values(
        instance_id=bindparam("claimer"),
        fence=bindparam("new_fence"),
        state=IntentState.ABORTING.value,
    )
)
_ABORT = Statement(update(intents).where(_OWNED).values(state=IntentState.ABORTING.value))
_FREE_SLOT = Statement(delete(slots).where(slots.c.payload_id == bindparam("payload_id_is")))
_BURY = Statement(
    delete(intents)
    .where(_OWNED, intents.c.state == IntentState.ABORTING.value)
    .returning(intents.c.object_id)
)
_OBJECT_OF = Statement(
    select(objects.c.object_id).where(objects.c.payload_id == bindparam("payload_id_is"))
)
_GRAVES = Statement(
    select(graves)
    .where(graves.c.payload_id > bindparam("after"))
    .order_by(graves.c.payload_id)
    .limit(bindparam("count"))
)
_GRAVE = Statement(
    select(graves.c.payload_id).where(graves.c.payload_id == bindparam("payload_id_is"))
)
_CLOSE_GRAVE = Statement(
    delete(graves).where(
        graves.c.payload_id == bindparam("payload_id_is"),
        graves.c.buried_ms == bindparam("buried_ms_is"),
    )
)
# A node is asked for a segment before the catalog is told that it came: only its pins tell of that.
_LIES_IN = Statement(
    union(
        *(
            select(table.c.backend).where(table.c.payload_id == bindparam("payload_id_is"))
            for table in (placements, pins)
        )
    )
)
_FORGET_PAYLOAD = tuple(
    Statement(delete(table).where(table.c.payload_id == bindparam("payload_id_is")))
    for table in (segments, placements, pins, roots, blocks)
)
_ERASED = Statement(
    update(objects)
    .where(
        objects.c.object_id == bindparam("object_id_is"),
        objects.c.state == ObjectState.ERASING.value,
        # Of the payloads that it has had another one may still lie there.
        ~exists().where(graves.c.object_id == bindparam("object_id_is")),
    )
    .values(state=ObjectState.ERASED.value)
)


@dataclass(frozen=True, slots=True)
class IntentRow:
    """An intent and whether its owner lives."""

    payload_id: str
    object_id: str
    instance_id: str
    fence: int
    state: IntentState
    owner_alive: bool


@dataclass(frozen=True, slots=True)
class Grave:
    """A payload that was given up."""

    payload_id: str
    object_id: str
    reason: str
    buried_ms: int
    doomed_until_ms: int | None = None
    """Until then it may still be read."""


def load_deployment(connection: Connection, candidate_id: str) -> str:
    """Return the deployment's id; the first call ever stores ``candidate_id`` as it."""
    row = {
        "singleton": 1,
        "deployment_id": candidate_id,
        "created_ms": now_ms(connection),
    }
    insert_once(connection, deployment, row)
    return str(connection.execute(select(deployment.c.deployment_id)).scalar_one())


def find_deployment(connection: Connection) -> str | None:
    """Return the deployment's id, or None before its first start."""
    found = connection.execute(select(deployment.c.deployment_id)).scalar_one_or_none()
    return None if found is None else str(found)


def has_marker(connection: Connection, backend: str) -> bool:
    """Tell whether the backend is known to carry our marker."""
    return _MARKER.run(connection, {"backend_is": backend}).first() is not None


def record_marker(connection: Connection, backend: str) -> None:
    """Note that the backend carries our marker from now on."""
    insert_once(connection, markers, {"backend": backend, "created_ms": now_ms(connection)})


def forget_markers(connection: Connection, names: Collection[str]) -> None:
    """Forget the markers of backends that are none of these; what comes back then counts as new."""
    connection.execute(delete(markers).where(markers.c.backend.not_in(names)))


def stores_in_use(connection: Connection) -> list[str]:
    """Return the backends that carry our marker and that a payload lies in, by name."""
    holds = or_(
        *(exists().where(table.c.backend == markers.c.backend) for table in (placements, pins))
    )
    return [row.backend for row in connection.execute(select(markers.c.backend).where(holds))]


def start_instance(connection: Connection, instance_id: str, lease_s: float) -> None:
    """Register a process with a lease."""
    now = now_ms(connection)
    row = {"started_ms": now, "lease_until_ms": now + int(lease_s * 1000)}
    _START_INSTANCE.run(connection, row | {"instance_id": instance_id})


def renew_instance(connection: Connection, instance_id: str, lease_s: float) -> None:
    """Prolong the lease, also one that ran out: claimed work is told apart by its fence.

    A lease that was forgotten meanwhile (the machine slept for hours) is taken anew: it owned
    nothing any more.
    """
    until_ms = now_ms(connection) + int(lease_s * 1000)
    lease = {"instance_id_is": instance_id, "until_ms": until_ms}
    if _RENEW_INSTANCE.run(connection, lease).changed != 1:
        start_instance(connection, instance_id, lease_s)


def end_instance(connection: Connection, instance_id: str) -> None:
    """Give the lease back: others may claim at once what is left."""
    _END_INSTANCE.run(connection, {"instance_id_is": instance_id})


def is_anybody_alive(connection: Connection) -> bool:
    """Tell whether any process holds a lease."""
    return _LIVING.run(connection, {"now_ms": now_ms(connection)}).first() is not None


def forget_dead_instances(connection: Connection) -> None:
    """Drop leases that ran out long ago and own nothing."""
    _FORGET_INSTANCES.run(connection, {"before_ms": now_ms(connection) - LEASES_KEPT_S * 1000})


def mend_times(connection: Connection) -> None:
    """Bring times that lie in the future back to now: the database's clock was set back since.

    A lease is cut to what it may last, so that a living process has the time to renew it and a
    dead one's work is claimed this year. A grave's wait starts anew, and so does what is to be
    copied.
    """
    now = now_ms(connection)
    _MEND_LEASES.run(connection, {"latest_ms": now + LEASE_S_MAX * 1000})
    _MEND_GRAVES.run(connection, {"now_ms": now})
    _MEND_OUTBOX.run(connection, {"now_ms": now})


def list_intents(connection: Connection, after: str, limit: int) -> list[IntentRow]:
    """Return a page of intents in the order of their payload ids."""
    page = {"now_ms": now_ms(connection), "after": after, "count": limit}
    return [
        IntentRow(
            payload_id=row.payload_id,
            object_id=row.object_id,
            instance_id=row.instance_id,
            fence=row.fence,
            state=IntentState(row.state),
            owner_alive=bool(row.owner_alive),
        )
        for row in _INTENTS.run(connection, page)
    ]


def find_intent(connection: Connection, payload_id: str) -> IntentRow | None:
    """Return one intent, or None when it was committed or buried."""
    row = _INTENT.run(connection, {"payload_id_is": payload_id}).first()
    if row is None:
        return None
    return IntentRow(
        payload_id=row.payload_id,
        object_id=row.object_id,
        instance_id=row.instance_id,
        fence=row.fence,
        state=IntentState(row.state),
        owner_alive=True,
    )


def claim_intent(connection: Connection, intent: IntentRow, claimer: str) -> Ownership | None:
    """Take an intent over from a dead owner and abort it; None when someone else was faster.

    None, too, in a catalog that is behind: the upload may have been committed since.
    """
    seen = Ownership(intent.payload_id, intent.instance_id, intent.fence).parameters()
    wanted = {"claimer": claimer, "new_fence": intent.fence + 1, "now_ms": now_ms(connection)}
    if _CLAIM.run(connection, seen | wanted).changed != 1:
        return None
    free_slot(connection, intent.payload_id)
    return Ownership(intent.payload_id, claimer, intent.fence + 1)


def abort_intent(connection: Connection, owner: Ownership) -> bool:
    """End our own intent so that it cannot commit; frees the slot. False when it is not ours."""
    if _ABORT.run(connection, owner.parameters()).changed != 1:
        return False
    free_slot(connection, owner.payload_id)
    return True


def free_slot(connection: Connection, payload_id: str) -> None:
    """Let the slot be taken by another upload, once this one cannot commit any more."""
    _FREE_SLOT.run(connection, {"payload_id_is": payload_id})


def bury(connection: Connection, owner: Ownership) -> None:
    """Turn an aborted intent, whose blobs were deleted, into a grave."""
    object_id = _BURY.run(connection, owner.parameters()).value()
    if object_id is not None:
        dig_grave(connection, owner.payload_id, object_id, ABORTED)


def bury_again(connection: Connection, payload_id: str, object_id: str) -> bool:
    """Give a payload a grave whose upload was claimed while a request still wrote to it.

    The claimer's grave may be closed already: a process can be paused for longer than the horizon.
    To be asked by that request when it writes no more. False when the payload was committed.
    """
    if _OBJECT_OF.run(connection, {"payload_id_is": payload_id}).first() is not None:
        return False
    dig_grave(connection, payload_id, object_id, ABORTED)
    return True


def list_graves(connection: Connection, after: str, limit: int) -> list[Grave]:
    """Return a page of graves in the order of their payload ids."""
    return [
        Grave(row.payload_id, row.object_id, row.reason, row.buried_ms, row.doomed_until_ms)
        for row in _GRAVES.run(connection, {"after": after, "count": limit})
    ]


def has_grave(connection: Connection, payload_id: str) -> bool:
    """Tell whether the payload was given up and is being cleared away."""
    return _GRAVE.run(connection, {"payload_id_is": payload_id}).first() is not None


def close_grave(connection: Connection, grave: Grave, seen_clean: Collection[str]) -> bool:
    """Forget a payload that no late write can reach any more; what it was erased for is erased.

    False, and nothing is done, when another pass has closed it, or has started its wait anew, or
    when it lies in a store that is not among those ``seen_clean``: one that only processes with
    another configuration know.
    """
    for row in _LIES_IN.run(connection, {"payload_id_is": grave.payload_id}):
        if row.backend not in seen_clean:
            return False
    seen = {"payload_id_is": grave.payload_id, "buried_ms_is": grave.buried_ms}
    if _CLOSE_GRAVE.run(connection, seen).changed != 1:
        return False
    for forget in _FORGET_PAYLOAD:
        forget.run(connection, {"payload_id_is": grave.payload_id})
    # Of whatever reason: the last of an object's graves may be that of a payload it had before.
    _ERASED.run(connection, {"object_id_is": grave.object_id})
    return True
