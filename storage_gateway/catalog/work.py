"""Units on who works on what: instance leases, claims of intents, graves."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, select, update

from storage_gateway.plan import IntentState
from storage_gateway.records import ObjectState

from .clock import now_ms
from .objects import Ownership
from .statements import insert_once
from .tables import (
    deployment,
    graves,
    instances,
    intents,
    markers,
    objects,
    placements,
    segments,
    slots,
)

ABORTED = "aborted"
ERASED = "erased"
LEASES_KEPT_S = 3600
LEASE_S_MAX = 3600
"""No process has a longer one: what ends later was written before the clock was set back."""


@dataclass(frozen=True, slots=True)
class IntentRow:
    """An intent and whether its owner lives."""

    payload_id: str
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
    query = select(markers.c.backend).where(markers.c.backend == backend)
    return connection.execute(query).first() is not None


def record_marker(connection: Connection, backend: str) -> None:
    """Note that the backend carries our marker from now on."""
    insert_once(connection, markers, {"backend": backend, "created_ms": now_ms(connection)})


def start_instance(connection: Connection, instance_id: str, lease_s: float) -> None:
    """Register a process with a lease."""
    now = now_ms(connection)
    row = {"started_ms": now, "lease_until_ms": now + int(lease_s * 1000)}
    connection.execute(instances.insert(), row | {"instance_id": instance_id})


def renew_instance(connection: Connection, instance_id: str, lease_s: float) -> None:
    """Prolong the lease, also one that ran out: claimed work is told apart by its fence.

    A lease that was forgotten meanwhile (the machine slept for hours) is taken anew: it owned
    nothing any more.
    """
    changed = connection.execute(
        update(instances)
        .where(instances.c.instance_id == instance_id)
        .values(lease_until_ms=now_ms(connection) + int(lease_s * 1000))
    )
    if changed.rowcount != 1:
        start_instance(connection, instance_id, lease_s)


def end_instance(connection: Connection, instance_id: str) -> None:
    """Give the lease back: others may claim at once what is left."""
    connection.execute(delete(instances).where(instances.c.instance_id == instance_id))


def forget_dead_instances(connection: Connection) -> None:
    """Drop leases that ran out long ago and own nothing."""
    connection.execute(
        delete(instances).where(
            instances.c.lease_until_ms < now_ms(connection) - LEASES_KEPT_S * 1000,
            ~exists().where(intents.c.instance_id == instances.c.instance_id),
        )
    )


def mend_times(connection: Connection) -> None:
    """Bring times that lie in the future back to now: the database's clock was set back since.

    A lease is cut to what it may last, so that a living process has the time to renew it and a
    dead one's work is claimed this year. A grave's wait starts anew.
    """
    now = now_ms(connection)
    latest = now + LEASE_S_MAX * 1000
    connection.execute(
        update(instances).where(instances.c.lease_until_ms > latest).values(lease_until_ms=latest)
    )
    connection.execute(update(graves).where(graves.c.buried_ms > now).values(buried_ms=now))


def list_intents(connection: Connection, after: str, limit: int) -> list[IntentRow]:
    """Return a page of intents in the order of their payload ids."""
    now = now_ms(connection)
    alive = exists().where(
        instances.c.instance_id == intents.c.instance_id, instances.c.lease_until_ms > now
    )
    query = (
        select(intents, alive.label("owner_alive"))
        .where(intents.c.payload_id > after)
        .order_by(intents.c.payload_id)
        .limit(limit)
    )
    return [
        IntentRow(
            payload_id=row.payload_id,
            instance_id=row.instance_id,
            fence=row.fence,
            state=IntentState(row.state),
            owner_alive=bool(row.owner_alive),
        )
        for row in connection.execute(query)
    ]


def find_intent(connection: Connection, payload_id: str) -> IntentRow | None:
    """Return one intent, or None when it was committed or buried."""
    query = select(intents).where(intents.c.payload_id == payload_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return IntentRow(
        payload_id=row.payload_id,
        instance_id=row.instance_id,
        fence=row.fence,
        state=IntentState(row.state),
        owner_alive=True,
    )


def claim_intent(connection: Connection, intent: IntentRow, claimer: str) -> Ownership | None:
    """Take an intent over from a dead owner and abort it; None when someone else was faster."""
    now = now_ms(connection)
    owner_alive = exists().where(
        instances.c.instance_id == intents.c.instance_id, instances.c.lease_until_ms > now
    )
    changed = connection.execute(
        update(intents)
        .where(
            intents.c.payload_id == intent.payload_id,
            intents.c.fence == intent.fence,
            intents.c.instance_id == intent.instance_id,
            ~owner_alive,
        )
        .values(instance_id=claimer, fence=intent.fence + 1, state=IntentState.ABORTING.value)
    )
    if changed.rowcount != 1:
        return None
    _free_slot(connection, intent.payload_id)
    return Ownership(intent.payload_id, claimer, intent.fence + 1)


def abort_intent(connection: Connection, owner: Ownership) -> bool:
    """End our own intent so that it cannot commit; frees the slot. False when it is not ours."""
    changed = connection.execute(
        update(intents)
        .where(
            intents.c.payload_id == owner.payload_id,
            intents.c.instance_id == owner.instance_id,
            intents.c.fence == owner.fence,
        )
        .values(state=IntentState.ABORTING.value)
    )
    if changed.rowcount == 1:
        _free_slot(connection, owner.payload_id)
    return changed.rowcount == 1


def _free_slot(connection: Connection, payload_id: str) -> None:
    connection.execute(delete(slots).where(slots.c.payload_id == payload_id))


def bury(connection: Connection, owner: Ownership) -> None:
    """Turn an aborted intent, whose blobs were deleted, into a grave."""
    object_id = connection.execute(
        delete(intents)
        .where(
            intents.c.payload_id == owner.payload_id,
            intents.c.instance_id == owner.instance_id,
            intents.c.fence == owner.fence,
            intents.c.state == IntentState.ABORTING.value,
        )
        .returning(intents.c.object_id)
    ).scalar_one_or_none()
    if object_id is None:
        return
    row = {"payload_id": owner.payload_id, "object_id": object_id, "reason": ABORTED}
    connection.execute(graves.insert(), row | {"buried_ms": now_ms(connection)})


def bury_again(connection: Connection, payload_id: str, object_id: str) -> bool:
    """Give a payload a grave whose upload was claimed while a request still wrote to it.

    The claimer's grave may be closed already: a process can be paused for longer than the horizon.
    To be asked by that request when it writes no more. False when the payload was committed.
    """
    known = select(objects.c.object_id).where(objects.c.payload_id == payload_id)
    if connection.execute(known).first() is not None:
        return False
    row = {"payload_id": payload_id, "object_id": object_id, "reason": ABORTED}
    if not insert_once(connection, graves, row | {"buried_ms": now_ms(connection)}):
        touch_grave(connection, payload_id)
    return True


def list_graves(connection: Connection, after: str, limit: int) -> list[Grave]:
    """Return a page of graves in the order of their payload ids."""
    query = (
        select(graves).where(graves.c.payload_id > after).order_by(graves.c.payload_id).limit(limit)
    )
    return [
        Grave(row.payload_id, row.object_id, row.reason, row.buried_ms)
        for row in connection.execute(query)
    ]


def has_grave(connection: Connection, payload_id: str) -> bool:
    """Tell whether the payload was given up and is being cleared away."""
    query = select(graves.c.payload_id).where(graves.c.payload_id == payload_id)
    return connection.execute(query).first() is not None


def touch_grave(connection: Connection, payload_id: str) -> None:
    """Start a grave's wait anew: something was just deleted under its payload id."""
    connection.execute(
        update(graves).where(graves.c.payload_id == payload_id).values(buried_ms=now_ms(connection))
    )


def close_grave(connection: Connection, grave: Grave) -> bool:
    """Forget a payload that no late write can reach any more; what it was erased for is erased.

    False, and nothing is done, when another pass has closed it, or has started its wait anew.
    """
    closed = connection.execute(
        delete(graves).where(
            graves.c.payload_id == grave.payload_id, graves.c.buried_ms == grave.buried_ms
        )
    )
    if closed.rowcount != 1:
        return False
    for table in (segments, placements):
        connection.execute(delete(table).where(table.c.payload_id == grave.payload_id))
    if grave.reason == ERASED:
        connection.execute(
            update(objects)
            .where(
                objects.c.object_id == grave.object_id,
                objects.c.state == ObjectState.ERASING.value,
            )
            .values(state=ObjectState.ERASED.value)
        )
    return True
