"""The first schema: what version 1 of the catalog was made with before there were migrations."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _make_deployment()
    _make_objects()
    if op.get_bind().dialect.name == "postgresql":
        # Else ANALYZE keeps samples of heads, which erasing would not reach.
        for table, column in (("objects", "head"), ("segments", "tag_key")):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def _make_deployment() -> None:
    """Who is who."""
    op.create_table(
        "deployment",
        sa.Column("singleton", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("deployment_id", text_type(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "markers",
        sa.Column("backend", text_type(), primary_key=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "instances",
        sa.Column("instance_id", text_type(32), primary_key=True),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", text_type(64), primary_key=True),
        sa.Column("custody", text_type(), nullable=False),
        sa.Column("key_class", text_type(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "parties",
        sa.Column(
            "session_id", text_type(64), sa.ForeignKey("sessions.session_id"), primary_key=True
        ),
        sa.Column("role", text_type(), primary_key=True),
        sa.Column("miner", text_type(42), primary_key=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "key_versions",
        sa.Column("session_id", text_type(64), primary_key=True),
        sa.Column("role", text_type(), primary_key=True),
        sa.Column("miner", text_type(42), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("recipient", text_type(), nullable=False),
        sa.Column("key_class", text_type(), nullable=False),
        sa.Column("state", text_type(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("kind", text_type(), nullable=False),
        sa.Column("session_id", text_type(64), nullable=False),
        sa.Column("miner", text_type(42), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("tokens_by_party", "tokens", ["kind", "session_id", "miner"], unique=False)


def _make_objects() -> None:
    """What is stored, and what is under way."""
    op.create_table(
        "objects",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column(
            "session_id", text_type(64), sa.ForeignKey("sessions.session_id"), nullable=False
        ),
        sa.Column("task_id", text_type(64), nullable=False),
        sa.Column("direction", text_type(), nullable=False),
        sa.Column("miner", text_type(42), nullable=False),
        sa.Column("state", text_type(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("payload_id", text_type(32), nullable=False, unique=True),
        sa.Column("head", sa.LargeBinary(), nullable=True),
        sa.Column("cid", text_type(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("payload_size", sa.BigInteger(), nullable=False),
        sa.Column("sealed_size", sa.BigInteger(), nullable=False),
        sa.Column("key_class", text_type(), nullable=False),
        sa.Column("wrapped_for", sa.JSON(), nullable=False),
        sa.Column("file_key_print", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("erased_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("objects_by_session", "objects", ["session_id", "sequence"], unique=True)
    op.create_table(
        "segments",
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("segment", sa.Integer(), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("leaf_digests", sa.LargeBinary(), nullable=True),
        sa.Column("tag_key", sa.LargeBinary(), nullable=True),
        sa.Column("leaf_tags", sa.LargeBinary(), nullable=True),
    )
    op.create_table(
        "placements",
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("segment", sa.Integer(), primary_key=True),
        sa.Column("backend", text_type(), primary_key=True),
        sa.Column("state", text_type(), nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("session_id", text_type(64), primary_key=True),
        sa.Column("task_id", text_type(64), primary_key=True),
        sa.Column("direction", text_type(), primary_key=True),
        sa.Column("miner", text_type(42), primary_key=True),
        sa.Column("object_id", text_type(32), nullable=False),
        sa.Column("payload_id", text_type(32), nullable=False, unique=True),
    )
    op.create_table(
        "intents",
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("object_id", text_type(32), nullable=False),
        sa.Column("instance_id", text_type(32), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("state", text_type(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "graves",
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("object_id", text_type(32), nullable=False),
        sa.Column("reason", text_type(), nullable=False),
        sa.Column("buried_ms", sa.BigInteger(), nullable=False),
    )
