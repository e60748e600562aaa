"""Blind custody: reservations, heads that were replaced, who confirmed the new ones."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "reservations",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("payload_id", text_type(32), nullable=False, unique=True),
        sa.Column("session_id", text_type(64), nullable=False),
        sa.Column("task_id", text_type(64), nullable=False),
        sa.Column("direction", text_type(), nullable=False),
        sa.Column("miner", text_type(42), nullable=False),
        sa.Column("parties", sa.JSON(), nullable=False),
        sa.Column("wrap_id", text_type(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("reservations_by_end", "reservations", ["expires_ms"])
    op.create_table(
        "kept_headers",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("generation", sa.Integer(), primary_key=True),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("parties", sa.JSON(), nullable=False),
        sa.Column("wrap_id", text_type(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("keep_until_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("kept_headers_by_end", "kept_headers", ["keep_until_ms"])
    op.create_table(
        "header_confirmations",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("generation", sa.Integer(), primary_key=True),
        sa.Column("role", text_type(), primary_key=True),
        sa.Column("miner", text_type(42), primary_key=True),
    )
