"""Units for sessions of blind custody: reservations, heads that their user replaces, and the ones
before, which are kept until the others have opened the new ones.

What a head holds is not looked at here; who calls has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, select, update

from crypto import Context
from storage_gateway.errors import (
    Erased,
    Forbidden,
    GenerationMismatch,
    NotBlind,
    NotFound,
    ReservationExpired,
    ReservationUsed,
    StaleReservation,
    UnknownReservation,
)
from storage_gateway.records import (
    BLIND,
    ROUTER_CUSTODY,
    USER,
    Manifest,
    ObjectState,
    Party,
    Session,
    Slot,
)

from .blind_tables import header_confirmations, kept_headers, reservations
from .claims import IS_HELD, IS_PROMISED
from .clock import now_ms
from .objects import load_manifest
from .rewrapping import NewHead, put_head
from .sessions import load_session, lock_session, lock_sessions
from .statements import Statement, insert_once, key_of, miner_of
from .tables import objects, sessions
from .wraps import note_wrap, parties_of, wrap_id_of

EXPIRED_KEPT_MS = 24 * 3600 * 1000
"""How long a reservation is known to have expired."""

_INSERT_RESERVATION = Statement(insert(reservations))
_RESERVATION = Statement(
    select(reservations).where(reservations.c.object_id == bindparam("object_id_is"))
)
_USE_RESERVATION = Statement(
    update(reservations)
    .where(
        reservations.c.object_id == bindparam("object_id_is"),
        reservations.c.used_ms.is_(None),
        reservations.c.expires_ms > bindparam("now_ms"),
    )
    .values(used_ms=bindparam("now_ms"))
)
_FORGET = tuple(
    Statement(delete(table).where(table.c.object_id == bindparam("object_id_is")))
    for table in (reservations, kept_headers, header_confirmations)
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The names for one upload that is sealed elsewhere, and whom it is to be sealed for."""

    object_id: str
    payload_id: str
    slot: Slot
    key_class: str
    parties: tuple[Party, ...]
    expires_ms: int

    def context(self) -> Context:
        """Return what the upload's context stanza is to be made over."""
        return self.slot.context(self.object_id, self.payload_id, self.key_class)


def custody_of(connection: Connection, session_id: str) -> str:
    """Return a session's custody; that of an unknown one is as good as any."""
    query = select(sessions.c.custody).where(sessions.c.session_id == session_id)
    return str(connection.execute(query).scalar_one_or_none() or ROUTER_CUSTODY)


def reserve(
    connection: Connection, slot: Slot, *, object_id: str, payload_id: str, lifetime_s: float
) -> Reservation:
    """Enter a reservation for an upload into the slot, which it does not hold.

    Raises:
        UnknownSession: there is no such session.
        NotBlind: it is of another custody.

    """
    session = load_session(connection, slot.session_id)
    if session.custody != BLIND:
        raise NotBlind("the gateway seals for this session; nothing is reserved")
    parties = session.recipients_of(slot.direction, slot.miner)
    now = now_ms(connection)
    expires = now + int(lifetime_s * 1000)
    row = {
        "object_id": object_id,
        "payload_id": payload_id,
        "session_id": slot.session_id,
        "task_id": slot.task_id,
        "direction": slot.direction,
        "miner": key_of(slot.miner),
        "parties": [party.as_json() for party in parties],
        "wrap_id": note_wrap(connection, slot.session_id, parties),
        "created_ms": now,
        "expires_ms": expires,
    }
    _INSERT_RESERVATION.run(connection, row)
    return Reservation(object_id, payload_id, slot, session.key_class, parties, expires)


def load_reservation(connection: Connection, object_id: str, slot: Slot) -> Reservation:
    """Return a reservation for the slot that an upload may begin with.

    Raises:
        UnknownReservation: there is none, or it is for another slot.
        ReservationUsed: an upload began; ``object_id`` is in the extensions once it is committed.
        ReservationExpired: its time is over.
        StaleReservation: it is for keys that are not current any more.

    """
    row = _RESERVATION.run(connection, {"object_id_is": object_id}).first()
    if row is None:
        raise _gone(connection, object_id, slot)
    if slot != Slot(row.session_id, row.task_id, row.direction, miner_of(row.miner)):
        raise UnknownReservation("no such reservation for this slot")
    if row.used_ms is not None:
        raise ReservationUsed("an upload began with this reservation")
    if row.expires_ms <= now_ms(connection):
        raise ReservationExpired("the reservation's time is over")
    session = load_session(connection, slot.session_id)
    parties = parties_of(row.parties)
    require_present(session, parties)
    return Reservation(object_id, row.payload_id, slot, session.key_class, parties, row.expires_ms)


def _gone(
    connection: Connection, object_id: str, slot: Slot
) -> ReservationUsed | UnknownReservation:
    """Return what is told of a reservation that is not there: its object may be."""
    try:
        found = load_manifest(connection, object_id)
    except NotFound:
        found = None
    if found is None or found.slot != slot:
        return UnknownReservation("no such reservation for this slot")
    return ReservationUsed("the reservation's object is there", object_id=object_id)


def use_reservation(connection: Connection, reservation: Reservation) -> None:
    """Begin the one upload of a reservation, before anything of it is written.

    Raises:
        UnknownReservation, ReservationUsed, ReservationExpired, StaleReservation: as
            `load_reservation`; of two that begin, one gets this.

    """
    used = {"object_id_is": reservation.object_id, "now_ms": now_ms(connection)}
    load_reservation(connection, reservation.object_id, reservation.slot)
    if _USE_RESERVATION.run(connection, used).changed != 1:
        raise ReservationUsed("an upload began with this reservation")


def end_reservation(connection: Connection, reservation: Reservation) -> None:
    """Remove a reservation, in the transaction that commits its object.

    Raises:
        StaleReservation: a key changed since: the object would not be for who it must be for.

    """
    slot = reservation.slot
    lock_session(connection, slot.session_id)
    session = load_session(connection, slot.session_id)
    require_present(session, reservation.parties)
    _FORGET[0].run(connection, {"object_id_is": reservation.object_id})


def require_present(session: Session, parties: Sequence[Party]) -> None:
    """Raise StaleReservation unless each of the parties has that key version as its active one."""
    present = session.at_present(parties)
    if present != tuple(parties):
        raise StaleReservation(
            "a key of a party has changed", recipients=[party.recipient for party in present]
        )


def replace_head(
    connection: Connection,
    before: Manifest,
    head: bytes,
    parties: tuple[Party, ...],
    *,
    keep_s: float,
) -> Manifest:
    """Put a head in the place of ``before``'s, which is kept, if that is still the object's.

    It is wrapped for ``parties``, in their order. The same again, once it is there,
    changes nothing: an answer may have been lost.

    Raises:
        NotFound, Erased: there is no such object any more.
        GenerationMismatch: somebody else was faster.
        StaleReservation: a key of theirs has changed.

    """
    lock_session(connection, before.slot.session_id)
    session = load_session(connection, before.slot.session_id)
    found = load_committed(connection, before.object_id)
    if found.generation == before.generation + 1 and found.head == head:
        return found
    require_generation(found, before.generation)
    require_present(session, parties)
    after = put_head(connection, NewHead(found, head, parties))
    if after is None:  # it was erased this moment
        raise GenerationMismatch("the header has changed", generation=found.generation + 1)
    _keep(connection, found, keep_s)
    return after


def load_committed(connection: Connection, object_id: str) -> Manifest:
    """Return the manifest of an object that has a head.

    Raises:
        NotFound, Erased: there is none.

    """
    manifest = load_manifest(connection, object_id)
    if manifest.state is not ObjectState.COMMITTED:
        raise Erased("the object was erased")
    return manifest


def require_generation(manifest: Manifest, generation: int) -> None:
    """Raise GenerationMismatch unless the manifest is of that generation."""
    if manifest.generation != generation:
        raise GenerationMismatch(
            f"the header is of generation {manifest.generation}, not {generation}",
            generation=manifest.generation,
        )


def _keep(connection: Connection, manifest: Manifest, keep_s: float) -> None:
    now = now_ms(connection)
    row = {
        "object_id": manifest.object_id,
        "generation": manifest.generation,
        "head": manifest.head,
        "parties": [party.as_json() for party in manifest.wrapped_for],
        "wrap_id": wrap_id_of(manifest.slot.session_id, manifest.wrapped_for),
        "created_ms": now,
        "keep_until_ms": now + int(keep_s * 1000),
    }
    connection.execute(insert(kept_headers), row)
    # What was said of an older head says nothing of this one.
    _FORGET[2].run(connection, {"object_id_is": manifest.object_id})


def load_kept_header(connection: Connection, object_id: str, generation: int) -> bytes:
    """Return a head that was replaced and is kept.

    Raises:
        NotFound: no head of that generation is kept.

    """
    query = select(kept_headers.c.head).where(
        kept_headers.c.object_id == object_id, kept_headers.c.generation == generation
    )
    head = connection.execute(query).scalar_one_or_none()
    if head is None:
        raise NotFound(f"no header of generation {generation} is kept")
    return bytes(head)


def confirm_header(
    connection: Connection, manifest: Manifest, generation: int, role: str, miner: str | None
) -> list[Party]:
    """Note that a party has opened the head of a generation; drop those before it once all but the
    user have. Return who has not.

    Raises:
        NotFound, Erased: there is no such object any more.
        GenerationMismatch: the head is another one.
        Forbidden: it is not wrapped for that party.

    """
    # Of two that are the last to say so, each would else miss the other.
    lock_session(connection, manifest.slot.session_id)
    found = load_committed(connection, manifest.object_id)
    require_generation(found, generation)
    if all((party.role, party.miner) != (role, miner) for party in found.wrapped_for):
        raise Forbidden("the header is not wrapped for this party")
    here = {"object_id": found.object_id, "generation": generation}
    insert_once(connection, header_confirmations, here | {"role": role, "miner": key_of(miner)})
    said = select(header_confirmations).where(
        header_confirmations.c.object_id == found.object_id,
        header_confirmations.c.generation == generation,
    )
    done = {(row.role, miner_of(row.miner)) for row in connection.execute(said)}
    waiting = [p for p in found.wrapped_for if p.role != USER and (p.role, p.miner) not in done]
    if not waiting:
        _forget_unheld(connection, [found.object_id])
    return waiting


def forget_blind(connection: Connection, object_id: str) -> None:
    """Drop the heads that an object had before, and what was reserved and said of it."""
    for statement in _FORGET:
        statement.run(connection, {"object_id_is": object_id})


def forget_old(connection: Connection) -> None:
    """Drop heads that were kept for as long as they should be, and reservations long expired."""
    now = now_ms(connection)
    due = kept_headers.c.keep_until_ms <= now
    found = connection.execute(
        select(objects.c.object_id, objects.c.session_id)
        .join_from(kept_headers, objects, kept_headers.c.object_id == objects.c.object_id)
        .where(due, ~IS_HELD, ~IS_PROMISED),
        {"now_ms": now},
    ).all()
    if found:
        lock_sessions(connection, {row.session_id for row in found})
        _forget_unheld(connection, sorted({row.object_id for row in found}), due)
    old = reservations.c.expires_ms <= now - EXPIRED_KEPT_MS
    connection.execute(delete(reservations).where(old))


def _forget_unheld(
    connection: Connection, object_ids: Sequence[str], *which: ColumnElement[bool]
) -> None:
    """Drop heads before of objects that nothing holds, whose sessions are locked.

    What a user puts in a head's place is not opened here: under a hold, or as long as the terms of
    compliance keep the object, the one before stays.
    """
    unheld = select(objects.c.object_id).where(
        objects.c.object_id.in_(object_ids), ~IS_HELD, ~IS_PROMISED
    )
    locked = unheld.order_by(objects.c.object_id).with_for_update(key_share=True, of=objects)
    may_go = list(connection.execute(locked, {"now_ms": now_ms(connection)}).scalars())
    connection.execute(delete(kept_headers).where(kept_headers.c.object_id.in_(may_go), *which))
