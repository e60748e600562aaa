"""Key versions with their states, what heads are wrapped for, jobs."""

import base64
import hashlib
import json

import sqlalchemy as sa
from alembic import op

from storage_gateway.catalog.migrations.columns import text_type

revision = "0008"
down_revision = "0007"

ACTIVE = sa.text("state = 'active'")
HAS_HEAD = sa.text("wrap_id IS NOT NULL")
PAGE = 500

_objects = sa.table(
    "objects",
    sa.column("object_id", sa.String()),
    sa.column("session_id", sa.String()),
    sa.column("head", sa.LargeBinary()),
    sa.column("wrapped_for", sa.JSON()),
    sa.column("wrap_id", sa.String()),
)
_wraps = sa.table(
    "wraps",
    sa.column("wrap_id", sa.String()),
    sa.column("session_id", sa.String()),
    sa.column("parties", sa.JSON()),
)


def upgrade() -> None:
    """Make tables and columns; enter for whom each head is wrapped."""
    op.add_column(
        "sessions", sa.Column("generation", sa.Integer(), nullable=False, server_default="1")
    )
    op.add_column("parties", sa.Column("removed_ms", sa.BigInteger(), nullable=True))
    op.add_column(
        "key_versions", sa.Column("proven", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column(
        "key_versions", sa.Column("changed_ms", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute("UPDATE key_versions SET changed_ms = created_ms")
    op.execute("UPDATE key_versions SET proven = 1 WHERE session_id = ''")
    op.create_index(
        "one_active_key",
        "key_versions",
        ["session_id", "role", "miner", "key_class"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )
    op.create_table(
        "wraps",
        sa.Column("wrap_id", text_type(32), primary_key=True),
        sa.Column("session_id", text_type(64), nullable=False),
        sa.Column("parties", sa.JSON(), nullable=False),
    )
    op.create_index("wraps_by_session", "wraps", ["session_id"])
    op.add_column("objects", sa.Column("wrap_id", text_type(32), nullable=True))
    op.add_column("intents", sa.Column("wrap_id", text_type(32), nullable=True))
    op.add_column("graves", sa.Column("doomed_until_ms", sa.BigInteger(), nullable=True))
    _enter_wraps()
    op.create_index(
        "objects_by_wrap",
        "objects",
        ["wrap_id", "object_id"],
        sqlite_where=HAS_HEAD,
        postgresql_where=HAS_HEAD,
    )
    _make_jobs()


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", text_type(32), primary_key=True),
        sa.Column("kind", text_type(16), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("state", text_type(), nullable=False),
        sa.Column("instance_id", text_type(32), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("jobs_by_age", "jobs", ["created_ms"])
    op.create_table(
        "job_failures",
        sa.Column("job_id", text_type(32), primary_key=True),
        sa.Column("object_id", text_type(32), primary_key=True),
        sa.Column("code", text_type(), nullable=False),
        sa.Column("detail", text_type(), nullable=False),
    )


def _enter_wraps() -> None:
    connection, after, known = op.get_bind(), "", set[str]()
    while True:
        rows = connection.execute(
            sa.select(_objects.c.object_id, _objects.c.session_id, _objects.c.wrapped_for)
            .where(_objects.c.object_id > after, _objects.c.head.is_not(None))
            .order_by(_objects.c.object_id)
            .limit(PAGE)
        ).all()
        if not rows:
            return
        for row in rows:
            wrap_id = _wrap_id_of(row.session_id, row.wrapped_for)
            if wrap_id not in known:
                known.add(wrap_id)
                made = {"wrap_id": wrap_id, "session_id": row.session_id}
                connection.execute(sa.insert(_wraps), made | {"parties": row.wrapped_for})
            connection.execute(
                sa.update(_objects)
                .where(_objects.c.object_id == row.object_id)
                .values(wrap_id=wrap_id)
            )
        after = rows[-1].object_id


def _wrap_id_of(session_id: str, wrapped_for: list[dict[str, object]]) -> str:
    """As `catalog.wraps` had it when this was written."""
    keys = sorted([p["role"], p.get("miner") or "", p["version"]] for p in wrapped_for)
    text = json.dumps([session_id, keys], separators=(",", ":"))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:20]).decode().lower()
