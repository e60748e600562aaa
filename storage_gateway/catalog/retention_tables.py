"""The tables of retention, and the indexes that sweeps enter. All belong to `tables.metadata`."""

from sqlalchemy import BigInteger, Column, Index, Table, and_

from .tables import Text, metadata, objects

_LIVES = objects.c.state == "committed"
_TO_EXPIRE = and_(_LIVES, objects.c.expired_ms.is_(None), objects.c.expires_ms.is_not(None))
_EXPIRED = and_(_LIVES, objects.c.expired_ms.is_not(None))
Index(
    "objects_to_expire",
    objects.c.expires_ms,
    objects.c.object_id,
    sqlite_where=_TO_EXPIRE,
    postgresql_where=_TO_EXPIRE,
)
Index(
    "objects_expired",
    objects.c.erase_after_ms,
    objects.c.object_id,
    sqlite_where=_EXPIRED,
    postgresql_where=_EXPIRED,
)

terms = Table(
    "terms",
    metadata,
    Column("terms_id", Text(32), primary_key=True),
    Column("policy", Text(64), nullable=False),
    Column("default_s", BigInteger, nullable=True),
    Column("longest_s", BigInteger, nullable=True),
    Column("grace_s", BigInteger, nullable=False),
    Column("mode", Text(), nullable=False),
)
"""What policies said when somebody relied on it: never changed, each once. NULL is for ever."""

leases = Table(
    "leases",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("holder", Text(), primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
    Column("renewed_ms", BigInteger, nullable=False),
)
"""Wishes of parties that an object stays until then; gone with the head."""

holds = Table(
    "holds",
    metadata,
    Column("hold_id", Text(32), primary_key=True),
    Column("session_id", Text(64), nullable=False),
    Column("object_id", Text(32), nullable=False),
    Column("who", Text(), nullable=False),
    Column("why", Text(), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("released_ms", BigInteger, nullable=True),
    Column("released_by", Text(), nullable=True),
    Column("release_why", Text(), nullable=True),
    Index("holds_by_scope", "session_id", "object_id"),
)
"""Orders that something stays: one object, or all of a session where ``object_id`` is empty. A row
stays when its hold is released."""
