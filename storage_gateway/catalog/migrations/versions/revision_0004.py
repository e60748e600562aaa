"""Outcomes: uploads that were answered before their write quorum was there."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table of outcomes."""
    op.create_table(
        "outcomes",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("payload_id", text_type(32), nullable=False),
        sa.Column("session_id", text_type(64), nullable=False),
        sa.Column("task_id", text_type(64), nullable=False),
        sa.Column("direction", text_type(), nullable=False),
        sa.Column("miner", text_type(42), nullable=False),
        sa.Column("decide_by_ms", sa.BigInteger(), nullable=False),
        sa.Column("code", text_type(), nullable=True),
    )
