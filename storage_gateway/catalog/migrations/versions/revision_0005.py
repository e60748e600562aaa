"""Content-addressed stores: their pins, their roots to come, and which block is what."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "pins",
        sa.Column("backend", text_type(), primary_key=True),
        sa.Column("key", text_type(), primary_key=True),
        sa.Column("payload_id", text_type(32), nullable=False),
        sa.Column("root", text_type(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("leaf_digests", sa.LargeBinary(), nullable=False),
    )
    op.create_index("pins_by_payload", "pins", ["payload_id"])
    op.create_table(
        "roots",
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("backend", text_type(), primary_key=True),
    )
    op.create_table(
        "blocks",
        sa.Column("digest", sa.LargeBinary(), primary_key=True),
        sa.Column("payload_id", text_type(32), primary_key=True),
        sa.Column("leaf", sa.BigInteger(), nullable=True),
        sa.Column("node", sa.LargeBinary(), nullable=True),
    )
    op.create_index("blocks_by_payload", "blocks", ["payload_id", "leaf"])
