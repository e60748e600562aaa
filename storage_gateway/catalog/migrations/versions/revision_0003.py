"""What a session wants of the stores: which of them, and its write quorum."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add two columns to the table of sessions."""
    op.add_column("sessions", sa.Column("backends", sa.JSON(), nullable=True))
    op.add_column("sessions", sa.Column("write_quorum", sa.Integer(), nullable=True))
