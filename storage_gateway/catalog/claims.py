"""Units on terms, and on what is claimed of objects: lifetimes, leases, holds."""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, or_, select

from retention import FOREVER, Claims, Lease, Mode, Policy
from storage_gateway.errors import NotFound

from .retention_tables import leases, terms
from .statements import Statement, insert_once
from .tables import objects, sessions

_ID_SIZE = 20
_TERMS = Statement(select(terms).where(terms.c.terms_id == bindparam("terms_id_is")))
_SESSION_HOLDS = (
    select(sessions.c.holds).where(sessions.c.session_id == objects.c.session_id).scalar_subquery()
)
IS_HELD = or_(
    objects.c.holds > 0,
    exists().where(sessions.c.session_id == objects.c.session_id, sessions.c.holds > 0),
)
"""For statements that erase, or let expire."""
IS_OVER = objects.c.expires_ms <= bindparam("now_ms")
IS_PROMISED = and_(
    or_(objects.c.expires_ms.is_(None), ~IS_OVER),
    exists().where(terms.c.terms_id == objects.c.terms_id, terms.c.mode == Mode.COMPLIANCE.value),
)
"""Under compliance: nobody may do away with it yet."""
CLAIMED = select(
    objects.c.object_id,
    objects.c.created_ms,
    objects.c.terms_id,
    objects.c.keep_until_ms,
    objects.c.expired_ms,
    objects.c.erase_after_ms,
    (objects.c.holds + _SESSION_HOLDS).label("all_holds"),
)
"""The rows that `claims_of` takes. ``all_holds`` counts those of the session, too."""


def terms_id_of(policy: Policy) -> str | None:
    """Return the id of terms: 32 characters that hang on nothing else; None for ever."""
    if policy == FOREVER:
        return None
    stored = _terms_row(policy)
    text = json.dumps([stored[name] for name in sorted(stored)], separators=(",", ":"))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:_ID_SIZE]).decode().lower()


def note_terms(connection: Connection, policy: Policy) -> str | None:
    """Make sure that terms are written down; return their id, None for ever."""
    terms_id = terms_id_of(policy)
    if terms_id is not None:
        insert_once(connection, terms, {"terms_id": terms_id} | _terms_row(policy))
    return terms_id


def load_policy(connection: Connection, terms_id: str | None) -> Policy:
    """Return the terms of an id that some record names."""
    if terms_id is None:
        return FOREVER
    return _policy_of(_TERMS.run(connection, {"terms_id_is": terms_id}).first())


def load_claims(connection: Connection, object_id: str) -> Claims:
    """Return what is claimed of an object; of a tombstone what was.

    Raises:
        NotFound: no object of that id was ever committed.

    """
    rows = connection.execute(CLAIMED.where(objects.c.object_id == object_id)).all()
    if not rows:
        raise NotFound("no such object")
    return claims_of(connection, rows)[object_id]


def claims_of(connection: Connection, rows: Collection[Any]) -> Mapping[str, Claims]:
    """Return what is claimed of a page of objects, rows of `CLAIMED`, by their ids."""
    policies = _load_policies(connection, {row.terms_id for row in rows} - {None})
    claimed: dict[str, list[Lease]] = {row.object_id: [] for row in rows}
    query = select(leases).where(leases.c.object_id.in_(claimed)).order_by(leases.c.holder)
    for row in connection.execute(query):
        claimed[row.object_id].append(Lease(row.holder, row.until_ms))
    return {
        row.object_id: Claims(
            committed_ms=row.created_ms,
            keep_until_ms=row.keep_until_ms,
            policy=FOREVER if row.terms_id is None else policies[row.terms_id],
            leases=tuple(claimed[row.object_id]),
            holds=row.all_holds,
            expired_ms=row.expired_ms,
            erase_after_ms=row.erase_after_ms,
        )
        for row in rows
    }


def _load_policies(connection: Connection, terms_ids: Iterable[str]) -> dict[str, Policy]:
    query = select(terms).where(terms.c.terms_id.in_(terms_ids))
    return {row.terms_id: _policy_of(row) for row in connection.execute(query)}


def _terms_row(policy: Policy) -> dict[str, str | int | None]:
    return {
        "policy": policy.name,
        "default_s": policy.default_s,
        "longest_s": policy.longest_s,
        "grace_s": policy.grace_s,
        "mode": policy.mode.value,
    }


def _policy_of(row: Any) -> Policy:  # noqa: ANN401 - SQLAlchemy's row, or a statement's
    return Policy(
        name=row.policy,
        default_s=row.default_s,
        longest_s=row.longest_s,
        grace_s=row.grace_s,
        mode=Mode(row.mode),
    )
