"""The tables of blind custody. They belong to the metadata of `tables`, as all do."""

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, Table

from .tables import Text, metadata

reservations = Table(
    "reservations",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("payload_id", Text(32), nullable=False, unique=True),
    Column("session_id", Text(64), nullable=False),
    Column("task_id", Text(64), nullable=False),
    Column("direction", Text(), nullable=False),
    Column("miner", Text(42), nullable=False),
    Column("parties", JSON, nullable=False),
    Column("wrap_id", Text(32), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger, nullable=True),
    Index("reservations_by_end", "expires_ms"),
)
"""Names for uploads that are sealed elsewhere. ``used_ms`` is when the one upload began: what is
stored under a payload id is one attempt's. The commit removes the row."""

kept_headers = Table(
    "kept_headers",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("head", LargeBinary, nullable=False),
    Column("parties", JSON, nullable=False),
    Column("wrap_id", Text(32), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("keep_until_ms", BigInteger, nullable=False),
    Index("kept_headers_by_end", "keep_until_ms"),
)
"""Heads that a session's user replaced, until the other parties have opened the new one: nobody
here can tell whether they will."""

header_confirmations = Table(
    "header_confirmations",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("role", Text(), primary_key=True),
    Column("miner", Text(42), primary_key=True),
)
"""Which parties have opened the head of that generation, as they say."""
