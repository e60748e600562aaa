"""Stress runs: who runs what, what it found, and what must be cleared away."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of runs."""
    op.create_table(
        "stress_runs",
        sa.Column("run_id", text_type(32), primary_key=True),
        sa.Column("case_name", text_type(64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("state", text_type(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True, unique=True),
        sa.Column("stop_asked", sa.Integer(), nullable=False),
        sa.Column("instance_id", text_type(32), nullable=False),
        sa.Column("children", sa.JSON(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
    )
