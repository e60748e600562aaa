"""Passes, and an index of the copies that are to be made."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0006"
down_revision = "0005"

TO_MAKE = sa.text("state != 'placed'")


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "passes",
        sa.Column("name", text_type(), primary_key=True),
        sa.Column("turn_id", text_type(32), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("position", text_type(), nullable=False),
        sa.Column("round_ended_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index(
        "placements_to_make",
        "placements",
        ["payload_id", "segment", "backend"],
        sqlite_where=TO_MAKE,
        postgresql_where=TO_MAKE,
    )
