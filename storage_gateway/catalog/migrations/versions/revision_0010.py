"""Retention: terms, lifetimes, leases, holds."""

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0010"
down_revision = "0009"

TO_EXPIRE = sa.text("state = 'committed' AND expired_ms IS NULL AND expires_ms IS NOT NULL")
EXPIRED = sa.text("state = 'committed' AND expired_ms IS NOT NULL")


def upgrade() -> None:
    """Make tables, columns and indexes: what is there lives for ever, as it did."""
    op.add_column("deployment", sa.Column("swept_ms", sa.BigInteger(), nullable=True))
    for table in ("sessions", "objects"):
        op.add_column(table, sa.Column("terms_id", text_type(32), nullable=True))
    ends = ("first_keep_ms", "keep_until_ms", "expires_ms", "expired_ms", "erase_after_ms")
    for name in ends:
        op.add_column("objects", sa.Column(name, sa.BigInteger(), nullable=True))
    for table in ("sessions", "objects"):
        op.add_column(table, sa.Column("holds", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "objects", sa.Column("claims_generation", sa.Integer(), nullable=False, server_default="0")
    )
    for index, column, where in (
        ("objects_to_expire", "expires_ms", TO_EXPIRE),
        ("objects_expired", "erase_after_ms", EXPIRED),
    ):
        op.create_index(
            index, "objects", [column, "object_id"], sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "terms",
        sa.Column("terms_id", text_type(32), primary_key=True),
        sa.Column("policy", text_type(64), nullable=False),
        sa.Column("default_s", sa.BigInteger(), nullable=True),
        sa.Column("longest_s", sa.BigInteger(), nullable=True),
        sa.Column("grace_s", sa.BigInteger(), nullable=False),
        sa.Column("mode", text_type(), nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("holder", text_type(), primary_key=True),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("renewed_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("hold_id", text_type(32), primary_key=True),
        sa.Column("session_id", text_type(64), nullable=False),
        sa.Column("object_id", text_type(32), nullable=False),
        sa.Column("who", text_type(), nullable=False),
        sa.Column("why", text_type(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("released_ms", sa.BigInteger(), nullable=True),
        sa.Column("released_by", text_type(), nullable=True),
        sa.Column("release_why", text_type(), nullable=True),
    )
    op.create_index("holds_by_scope", "holds", ["session_id", "object_id"])
