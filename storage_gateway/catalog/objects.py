"""Units on objects: beginning an upload, its segments, the commit, the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from storage_gateway.errors import (
    FileKeyReused,
    IntentLost,
    NotFound,
    SlotBusy,
    SlotTaken,
    StaleParties,
)
from storage_gateway.manifest_copies import OBJECT
from storage_gateway.plan import IntentState
from storage_gateway.records import Manifest, ObjectState, Party, Segment, Slot

from .claims import load_policy
from .clock import now_ms
from .copies import PENDING, PLACED
from .outbox import Due, expect_copy, is_copied
from .sessions import are_current, backends_of, lock_session
from .statements import Statement, insert_once, key_of, miner_of
from .tables import deployment, instances, intents, objects, placements, segments, sessions, slots
from .wraps import note_wrap, parties_of


def _is(*columns: Column[Any]) -> ColumnElement[bool]:
    return and_(*(column == bindparam(f"{column.name}_is") for column in columns))


# A parameter that is compared with a column is named for it with "_is", since INSERT and UPDATE
# claim plain names.
_SLOT_HOLDER = Statement(
    select(slots.c.object_id).where(
        _is(slots.c.session_id, slots.c.task_id, slots.c.direction, slots.c.miner)
    )
)
# Within the query for each manifest: another one for each read would cost more.
_WANTED_BACKENDS = (
    select(sessions.c.backends)
    .where(sessions.c.session_id == objects.c.session_id)
    .scalar_subquery()
    .label("backends")
)
_CUSTODY = (
    select(sessions.c.custody)
    .where(sessions.c.session_id == objects.c.session_id)
    .scalar_subquery()
    .label("custody")
)
MANIFESTS = select(objects, _WANTED_BACKENDS, _CUSTODY)
_MANIFEST = Statement(MANIFESTS.where(_is(objects.c.object_id)))
_TERMS = (
    select(sessions.c.terms_id)
    .where(_is(sessions.c.session_id))
    .scalar_subquery()
    .label("terms_id")
)
_NEXT_OF_SESSION = Statement(
    select(
        (func.coalesce(func.max(objects.c.sequence), 0) + 1).label("next_sequence"),
        _TERMS,
    ).where(_is(objects.c.session_id))
)
_INSERT_INTENT = Statement(insert(intents))
_INSERT_SEGMENT = Statement(insert(segments))
_INSERT_PLACEMENT = Statement(insert(placements))
_OWNED = and_(
    _is(intents.c.payload_id, intents.c.instance_id, intents.c.fence),
    intents.c.state == IntentState.OPEN.value,
)
_TOUCH_INTENT = Statement(update(intents).where(_OWNED).values(fence=intents.c.fence))
_END_INTENT = Statement(delete(intents).where(_OWNED))
_COMPLETE_SEGMENT = Statement(
    update(segments)
    .where(_is(segments.c.payload_id, segments.c.segment))
    .values(
        size=bindparam("new_size"),
        leaf_digests=bindparam("new_leaf_digests"),
        tag_key=bindparam("new_tag_key"),
        leaf_tags=bindparam("new_leaf_tags"),
    )
)
_DEPLOYMENT_LOCK = Statement(
    select(deployment.c.singleton).with_for_update(read=True, key_share=True)
)
_LEASE = Statement(
    select(instances.c.instance_id).where(
        _is(instances.c.instance_id), instances.c.lease_until_ms > bindparam("now_ms")
    )
)
_COMMITTED = Statement(
    select(objects.c.object_id).where(
        _is(objects.c.payload_id), objects.c.state == ObjectState.COMMITTED.value
    )
)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Proof that an upload still belongs to whoever writes it."""

    payload_id: str
    instance_id: str
    fence: int

    def parameters(self) -> dict[str, str | int]:
        """Return what the statements on the upload's intent compare."""
        return {
            "payload_id_is": self.payload_id,
            "instance_id_is": self.instance_id,
            "fence_is": self.fence,
        }


def _slot_columns(slot: Slot) -> dict[str, str]:
    return {
        "session_id": slot.session_id,
        "task_id": slot.task_id,
        "direction": slot.direction,
        "miner": key_of(slot.miner),
    }


def check_slot_free(connection: Connection, slot: Slot) -> None:
    """Refuse early what `begin_upload` would refuse; only that one decides.

    Raises:
        SlotTaken, SlotBusy: as `begin_upload`.

    """
    scope = {f"{name}_is": value for name, value in _slot_columns(slot).items()}
    holder = _SLOT_HOLDER.run(connection, scope).value()
    if holder is None:
        return
    if _MANIFEST.run(connection, {"object_id_is": holder}).first() is None:
        raise SlotBusy("another upload to this slot is under way", object_id=holder)
    raise SlotTaken("the slot already holds an object", object_id=holder)


def begin_upload(
    connection: Connection,
    owner: Ownership,
    *,
    object_id: str,
    slot: Slot,
    wrapped_for: Sequence[Party] = (),
) -> None:
    """Take the slot, write the intent and the row of segment 0, all before the first put.

    ``wrapped_for`` are those whom it is being sealed for: their keys are not destroyed meanwhile.

    Raises:
        SlotTaken: the slot holds an object; its id is in the extensions.
        SlotBusy: another upload holds the slot; its object's id is in the extensions.

    """
    row = _slot_columns(slot) | {"object_id": object_id, "payload_id": owner.payload_id}
    if not insert_once(connection, slots, row):
        check_slot_free(connection, slot)  # tells which of the two
        raise SlotBusy("another upload to this slot is under way")
    intent = {
        "payload_id": owner.payload_id,
        "object_id": object_id,
        "instance_id": owner.instance_id,
        "fence": owner.fence,
        "state": IntentState.OPEN.value,
        "created_ms": now_ms(connection),
        "wrap_id": note_wrap(connection, slot.session_id, wrapped_for) if wrapped_for else None,
    }
    _INSERT_INTENT.run(connection, intent)
    _INSERT_SEGMENT.run(connection, {"payload_id": owner.payload_id, "segment": 0})


def continue_upload(
    connection: Connection,
    owner: Ownership,
    *,
    placed: Sequence[Segment],
    wanted: Sequence[str],
    index: int,
) -> None:
    """Record segments that are durable, and the row of the next one before its first byte goes out.

    ``wanted`` names the stores that they should come to.

    Raises:
        IntentLost: the upload was claimed from this process.

    """
    require_intent(connection, owner)
    record_placed(connection, owner.payload_id, placed, wanted)
    _INSERT_SEGMENT.run(connection, {"payload_id": owner.payload_id, "segment": index})


def require_intent(connection: Connection, owner: Ownership) -> None:
    """Make sure that the upload is still the owner's, until the end of this transaction.

    Raises:
        IntentLost: it was claimed from this process.

    """
    # Touching the row, not reading it: a concurrent claim must wait for this, or this for it.
    if _TOUCH_INTENT.run(connection, owner.parameters()).changed != 1:
        raise IntentLost("the upload was claimed by recovery")


def record_placed(
    connection: Connection, payload_id: str, placed: Sequence[Segment], wanted: Sequence[str]
) -> None:
    """Record segments that are durable, and where; ``wanted`` are the stores they should be in."""
    for segment in placed:
        sealed = {
            "payload_id_is": payload_id,
            "segment_is": segment.index,
            "new_size": segment.size,
            "new_leaf_digests": b"".join(segment.leaf_digests),
            "new_tag_key": segment.tag_key.expose(),
            "new_leaf_tags": b"".join(segment.leaf_tags),
        }
        _COMPLETE_SEGMENT.run(connection, sealed)
        row = {"payload_id": payload_id, "segment": segment.index}
        for backend in dict.fromkeys([*segment.stores, *wanted]):
            state = PLACED if backend in segment.stores else PENDING
            _INSERT_PLACEMENT.run(connection, row | {"backend": backend, "state": state})


def commit_upload(
    connection: Connection,
    owner: Ownership,
    manifest: Manifest,
    *,
    placed: Sequence[Segment],
    wanted: Sequence[str],
    lifetime_s: int | None = None,
) -> Manifest:
    """The one commit point: manifest in, intent out, in one transaction.

    ``lifetime_s`` is what was asked for, None for nothing: under the terms that the session has by
    now it is brought as near to it as they allow.

    Raises:
        IntentLost: the intent was claimed, or this instance's lease has run out.
        StaleParties: a key that the head is wrapped for is not active any more.
        FileKeyReused: another object was sealed with this file key.

    """
    end_intent(connection, owner, manifest.slot.session_id)
    now = now_ms(connection)
    if not are_current(connection, manifest.slot.session_id, manifest.wrapped_for):
        raise StaleParties("a key of a party was retired while the upload was under way")
    record_placed(connection, owner.payload_id, placed, wanted)
    here = {"session_id_is": manifest.slot.session_id}
    sequence, terms_id = _NEXT_OF_SESSION.run(connection, here).first()
    wrap_id = note_wrap(connection, manifest.slot.session_id, manifest.wrapped_for)
    row = _object_row(manifest) | {"sequence": sequence, "created_ms": now, "wrap_id": wrap_id}
    lives_s = load_policy(connection, terms_id).nearest(lifetime_s)
    expires = None if lives_s is None else now + lives_s * 1000
    row |= {"terms_id": terms_id, "first_keep_ms": expires}
    row |= {"keep_until_ms": expires, "expires_ms": expires}
    if not insert_once(connection, objects, row, key="file_key_print"):
        raise FileKeyReused("the file key was seen before")
    expect_copy_of(connection, manifest)
    return replace(manifest, sequence=sequence, created_ms=now, expires_ms=expires)


def end_intent(connection: Connection, owner: Ownership, session_id: str) -> None:
    """Take the intent out, as a commit begins.

    Raises:
        IntentLost: the intent was claimed, or this instance's lease has run out.

    """
    removed = _END_INTENT.run(connection, owner.parameters())
    # Commits of one session go one after the other, in the order of their sequence: whoever lists
    # up to a number has seen all that will ever be below it.
    lock_session(connection, session_id)
    if connection.dialect.name != "sqlite":
        # Nor is the router's key rotated between the look at it and the commit: a job that follows
        # the rotation would not see what is committed then.
        _DEPLOYMENT_LOCK.run(connection)
    # After the waiting.
    living = {"instance_id_is": owner.instance_id, "now_ms": now_ms(connection)}
    if removed.changed != 1 or _LEASE.run(connection, living).first() is None:
        raise IntentLost("the upload was claimed by recovery, or this process lost its lease")


def expect_copy_of(connection: Connection, manifest: Manifest) -> None:
    """Note that a copy of the manifest, as it is now, is to come to the stores."""
    if is_copied(manifest.slot.session_id):
        expect_copy(connection, Due(OBJECT, manifest.object_id, manifest.generation))


def _object_row(manifest: Manifest) -> dict[str, object]:
    named = {"object_id": manifest.object_id, "state": manifest.state.value}
    row = _slot_columns(manifest.slot) | named | object_values(manifest)
    return row | {"generation": manifest.generation}


def object_values(manifest: Manifest) -> dict[str, object]:
    """Return the columns of a manifest that its payload and its head make."""
    return {
        "payload_id": manifest.payload_id,
        "head": manifest.head,
        "cid": manifest.cid,
        "size": manifest.size,
        "payload_size": manifest.payload_size,
        "sealed_size": manifest.sealed_size,
        "key_class": manifest.key_class,
        "wrapped_for": [party.as_json() for party in manifest.wrapped_for],
        "file_key_print": manifest.file_key_print,
    }


def manifest_of_row(row: Any) -> Manifest:  # noqa: ANN401 - SQLAlchemy's row, or a statement's
    """Return the manifest that a row of `MANIFESTS` holds."""
    return Manifest(
        object_id=row.object_id,
        payload_id=row.payload_id,
        slot=Slot(row.session_id, row.task_id, row.direction, miner_of(row.miner)),
        state=ObjectState(row.state),
        generation=row.generation,
        key_class=row.key_class,
        cid=row.cid,
        size=row.size,
        payload_size=row.payload_size,
        sealed_size=row.sealed_size,
        wrapped_for=parties_of(row.wrapped_for),
        file_key_print=row.file_key_print,
        head=row.head,
        sequence=row.sequence,
        created_ms=row.created_ms,
        backends=backends_of(row),
        custody=row.custody,
        expires_ms=row.expires_ms,
        expired_ms=row.expired_ms,
        erase_after_ms=row.erase_after_ms,
    )


def load_manifest(connection: Connection, object_id: str) -> Manifest:
    """Return the manifest, a tombstone's too (its state says so).

    Raises:
        NotFound: no object of that id was ever committed.

    """
    row = _MANIFEST.run(connection, {"object_id_is": object_id}).first()
    if row is None:
        raise NotFound("no such object")
    return manifest_of_row(row)


def is_committed(connection: Connection, payload_id: str) -> bool:
    """Tell whether the manifest of an object that was not erased names the payload."""
    return _COMMITTED.run(connection, {"payload_id_is": payload_id}).first() is not None


def list_objects(
    connection: Connection,
    session_id: str | None,
    *,
    after: tuple[str, int] | None,
    limit: int,
    output_of: str | None = None,
    only: ColumnElement[bool] | None = None,
) -> list[Manifest]:
    """Return a page of manifests in the order of their commits, tombstones included.

    ``after`` is the session and sequence of the page before's last one. ``session_id`` None means
    all sessions, one after the other. ``output_of`` leaves out the outputs of other miners,
    ``only`` whatever it is not true of.
    """
    query = MANIFESTS.order_by(objects.c.session_id, objects.c.sequence).limit(limit)
    if session_id is not None:
        query = query.where(objects.c.session_id == session_id)
    if output_of is not None:
        query = query.where(objects.c.miner.in_(("", output_of)))
    if only is not None:
        query = query.where(only)
    if after is not None:
        # As rows, not as two conditions: so the index is entered where the page begins.
        query = query.where(tuple_(objects.c.session_id, objects.c.sequence) > tuple_(*after))
    return [manifest_of_row(row) for row in connection.execute(query)]
