"""Units that change what is claimed: the terms of a session, lifetimes and leases of objects.

Each waits for the row of what it is about, then looks, then writes: of two at once none is lost.
What the kernel refuses is raised as its errors, and undoes the unit.
"""

from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from retention import Claims, Lease, Policy
from storage_gateway.errors import Erased, NotFound
from storage_gateway.records import ObjectState, Session

from .claims import load_claims, note_terms
from .clock import now_ms
from .outbox import expect_claims_copy
from .registry import note_change
from .retention_tables import leases
from .sessions import load_session, lock_session
from .statements import Statement, insert_once
from .tables import objects, sessions

_OBJECT_LOCK = Statement(
    select(objects.c.state)
    .where(objects.c.object_id == bindparam("object_id_is"))
    .with_for_update(key_share=True)
)


def change_policy(connection: Connection, session_id: str, policy: Policy) -> Session:
    """Have a session take other terms, for what is committed later; the same again changes nothing.

    Raises:
        UnknownSession: there is none of that id.
        retention.LifetimeTooShort: they promise less, which those before do not allow.

    """
    lock_session(connection, session_id)
    session = load_session(connection, session_id)
    if session.policy == policy:
        return session
    session.policy.check_successor(policy)
    here = sessions.c.session_id == session_id
    terms_id = note_terms(connection, policy)
    connection.execute(update(sessions).where(here).values(terms_id=terms_id))
    note_change(connection, session_id)
    return replace(session, policy=policy)


def change_lifetime(connection: Connection, object_id: str, lifetime_s: int | None) -> Claims:
    """Give an object another lifetime, from its commit; None is for ever.

    Raises:
        NotFound, Erased: there is no such object any more.
        retention.RetentionError: its terms do not allow it.

    """
    claims = _claims_to_change(connection, object_id)
    before_s = None
    if claims.keep_until_ms is not None:
        before_s = (claims.keep_until_ms - claims.committed_ms) // 1000
    claims.policy.check(lifetime_s, instead_of=before_s)
    until = None if lifetime_s is None else claims.committed_ms + lifetime_s * 1000
    return _write(connection, object_id, claims, replace(claims, keep_until_ms=until))


def renew_lease(connection: Connection, object_id: str, holder: str, for_s: int) -> Claims:
    """Have a holder's lease last so long from now, or as long as before if that is longer.

    Raises:
        NotFound, Erased: there is no such object any more.
        retention.LifetimeTooLong: the object's terms do not allow it.

    """
    claims, now = _claims_to_change(connection, object_id), now_ms(connection)
    claims.check_lease(now + for_s * 1000)
    before = {lease.holder: lease for lease in claims.leases}
    lease = before.get(holder, Lease(holder, 0)).renewed(now + for_s * 1000)
    if before.get(holder) != lease:
        here = {"object_id": object_id, "holder": holder}
        ends = {"until_ms": lease.until_ms, "renewed_ms": now}
        if not insert_once(connection, leases, here | ends):
            connection.execute(update(leases).where(*_is(object_id, holder)).values(ends))
    held = [*(each for each in claims.leases if each.holder != holder), lease]
    return _write(connection, object_id, claims, replace(claims, leases=tuple(held)))


def let_go(connection: Connection, object_id: str, holder: str) -> Claims:
    """Give up a holder's lease; without one nothing changes.

    Raises:
        NotFound, Erased: there is no such object any more.
        retention.LifetimeTooShort: it goes on, and the object's terms do not allow it.

    """
    claims = _claims_to_change(connection, object_id)
    claims.check_let_go(holder, now_ms(connection))
    connection.execute(delete(leases).where(*_is(object_id, holder)))
    held = tuple(lease for lease in claims.leases if lease.holder != holder)
    return _write(connection, object_id, claims, replace(claims, leases=held))


def _is(object_id: str, holder: str) -> tuple[ColumnElement[bool], ...]:
    return leases.c.object_id == object_id, leases.c.holder == holder


def _claims_to_change(connection: Connection, object_id: str) -> Claims:
    """Return what is claimed, and keep out others that would change it, until the end."""
    state = _OBJECT_LOCK.run(connection, {"object_id_is": object_id}).value()
    if state is None:
        raise NotFound("no such object")
    if state != ObjectState.COMMITTED.value:
        raise Erased("the object was erased")
    return load_claims(connection, object_id)


def _write(connection: Connection, object_id: str, before: Claims, after: Claims) -> Claims:
    """Write what is claimed now. Who claims it again has it back."""
    expires = after.expires_ms
    if expires is None or expires > now_ms(connection):
        after = replace(after, expired_ms=None, erase_after_ms=None)
    if after == before:
        return before
    values = {
        "keep_until_ms": after.keep_until_ms,
        "expires_ms": expires,
        "expired_ms": after.expired_ms,
        "erase_after_ms": after.erase_after_ms,
        "claims_generation": objects.c.claims_generation + 1,
    }
    here = objects.c.object_id == object_id
    connection.execute(update(objects).where(here).values(values))
    expect_claims_copy(connection, object_id)
    return after
