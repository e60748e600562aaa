"""Copies of records that are to come to the stores, what nothing names, and the high-water mark."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables and columns; all that is there is to be copied."""
    op.create_table(
        "outbox",
        sa.Column("kind", text_type(16), primary_key=True),
        sa.Column("record_id", text_type(64), primary_key=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "orphans",
        sa.Column("backend", text_type(), primary_key=True),
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("waited_ms", sa.BigInteger(), nullable=False),
    )
    op.add_column(
        "deployment",
        sa.Column("high_water", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("deployment", sa.Column("behind_ms", sa.BigInteger(), nullable=True))
    op.execute(
        "INSERT INTO outbox (kind, record_id, generation, created_ms)"
        " SELECT 'object', object_id, generation, created_ms FROM objects"
        " WHERE session_id NOT LIKE 'stress.%'"
    )
    op.execute(
        "INSERT INTO outbox (kind, record_id, generation, created_ms)"
        " SELECT 'session', session_id, 1, created_ms FROM sessions"
        " WHERE session_id NOT LIKE 'stress.%'"
    )
