"""The tables of the catalog, their keys and the rules that their indexes enforce.

Times are integers, milliseconds since 1970 in UTC, by the database's clock. A missing miner is the
empty string in keys, since SQL's NULL is never equal to itself and a unique index would not hold.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

SCHEMA_VERSION = 10
"""The number of the newest file in ``migrations/versions``: every change has one there."""

metadata = MetaData()


def Text(length: int | None = None) -> String:  # noqa: N802 - it stands where types stand
    """Return the type of text: sorted by its bytes on every database.

    PostgreSQL would sort by the rules of a language, differently on each machine, and its indexes
    would be wrong once the system's rules change.
    """
    return String(length).with_variant(String(length, collation="C"), "postgresql")


deployment = Table(
    "deployment",
    metadata,
    Column("singleton", Integer, primary_key=True, autoincrement=False),
    Column("deployment_id", Text(32), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("high_water", BigInteger, nullable=False, server_default="0"),
    Column("behind_ms", BigInteger, nullable=True),
    Column("swept_ms", BigInteger, nullable=True),
)
"""``high_water`` is a number that grows with time, here first and in the stores after: one that has
a higher one has seen a later state of this catalog. ``behind_ms`` is when that was found out.
``swept_ms`` is the time up to which whatever was due to expire, or to be erased, was."""

markers = Table(
    "markers",
    metadata,
    Column("backend", Text(), primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
)
"""Backends that are known to carry this deployment's marker object."""

instances = Table(
    "instances",
    metadata,
    Column("instance_id", Text(32), primary_key=True),
    Column("started_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text(64), primary_key=True),
    Column("custody", Text(), nullable=False),
    Column("key_class", Text(), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("backends", JSON(none_as_null=True), nullable=True),
    Column("write_quorum", Integer, nullable=True),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("terms_id", Text(32), nullable=True),
    Column("holds", Integer, nullable=False, server_default="0"),
)
"""What a session leaves open of backends and quorum is NULL: it is as the deployment has it.
``generation`` is raised with each change of its parties, their keys, its terms or its holds.
``terms_id`` names the terms of what is committed in it, NULL for ever; ``holds`` counts those that
are not released."""

parties = Table(
    "parties",
    metadata,
    Column("session_id", ForeignKey("sessions.session_id"), primary_key=True),
    Column("role", Text(), primary_key=True),
    Column("miner", Text(42), primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("removed_ms", BigInteger, nullable=True),
)

key_versions = Table(
    "key_versions",
    metadata,
    Column("session_id", Text(64), primary_key=True),
    Column("role", Text(), primary_key=True),
    Column("miner", Text(42), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("recipient", Text(), nullable=False),
    Column("key_class", Text(), nullable=False),
    Column("state", Text(), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("proven", Integer, nullable=False, server_default="0"),
    Column("changed_ms", BigInteger, nullable=False, server_default="0"),
)
"""The router's own versions stand under the empty session: they serve the whole deployment.
``proven`` is 1 when who registered it has shown to hold the identity; ``changed_ms`` is when it
came into its state."""
Index(
    "one_active_key",
    key_versions.c.session_id,
    key_versions.c.role,
    key_versions.c.miner,
    key_versions.c.key_class,
    unique=True,
    sqlite_where=key_versions.c.state == "active",
    postgresql_where=key_versions.c.state == "active",
)

wraps = Table(
    "wraps",
    metadata,
    Column("wrap_id", Text(32), primary_key=True),
    Column("session_id", Text(64), nullable=False),
    Column("parties", JSON, nullable=False),
    Index("wraps_by_session", "session_id"),
)
"""Sets of key versions that heads of a session are wrapped for: a few for thousands of heads. What
depends on a key is counted by them."""

objects = Table(
    "objects",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("session_id", ForeignKey("sessions.session_id"), nullable=False),
    Column("task_id", Text(64), nullable=False),
    Column("direction", Text(), nullable=False),
    Column("miner", Text(42), nullable=False),
    Column("state", Text(), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("payload_id", Text(32), nullable=False, unique=True),
    Column("head", LargeBinary, nullable=True),
    Column("cid", Text(), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("payload_size", BigInteger, nullable=False),
    Column("sealed_size", BigInteger, nullable=False),
    Column("key_class", Text(), nullable=False),
    Column("wrapped_for", JSON, nullable=False),
    Column("file_key_print", LargeBinary, nullable=False, unique=True),
    # In the order of commits within the session: clocks repeat themselves and go backwards.
    Column("sequence", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("erased_ms", BigInteger, nullable=True),
    Column("wrap_id", Text(32), nullable=True),
    Column("terms_id", Text(32), nullable=True),
    Column("first_keep_ms", BigInteger, nullable=True),
    Column("keep_until_ms", BigInteger, nullable=True),
    Column("expires_ms", BigInteger, nullable=True),
    Column("expired_ms", BigInteger, nullable=True),
    Column("erase_after_ms", BigInteger, nullable=True),
    Column("holds", Integer, nullable=False, server_default="0"),
    Column("claims_generation", Integer, nullable=False, server_default="0"),
    Index("objects_by_session", "session_id", "sequence", unique=True),
)
"""``wrap_id`` is NULL where there is no head. ``terms_id`` names the terms that it was committed
under, NULL for ever; ``keep_until_ms`` is the end of its lifetime, ``first_keep_ms`` what that was
at the commit, ``expires_ms`` the end of the longest claim, each NULL for never. Once ``expired_ms``
is set it is not read any more, and after ``erase_after_ms`` it is erased. ``holds`` counts those
that are not released, its session's apart; ``claims_generation`` is raised with each change of its
lifetime, leases or holds."""
Index(
    "objects_by_wrap",
    objects.c.wrap_id,
    objects.c.object_id,
    sqlite_where=objects.c.wrap_id.is_not(None),
    postgresql_where=objects.c.wrap_id.is_not(None),
)

segments = Table(
    "segments",
    metadata,
    Column("payload_id", Text(32), primary_key=True),
    Column("segment", Integer, primary_key=True),
    Column("size", BigInteger, nullable=True),
    Column("leaf_digests", LargeBinary, nullable=True),
    Column("tag_key", LargeBinary, nullable=True),
    Column("leaf_tags", LargeBinary, nullable=True),
)
"""Inserted before a byte of the segment leaves the process; the rest once it is sealed."""

placements = Table(
    "placements",
    metadata,
    Column("payload_id", Text(32), primary_key=True),
    Column("segment", Integer, primary_key=True),
    Column("backend", Text(), primary_key=True),
    Column("state", Text(), nullable=False),
)
Index(
    "placements_to_make",
    placements.c.payload_id,
    placements.c.segment,
    placements.c.backend,
    sqlite_where=placements.c.state != "placed",
    postgresql_where=placements.c.state != "placed",
)

pins = Table(
    "pins",
    metadata,
    Column("backend", Text(), primary_key=True),
    Column("key", Text(), primary_key=True),
    Column("payload_id", Text(32), nullable=False),
    Column("root", Text(), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("leaf_digests", LargeBinary, nullable=False),
    Index("pins_by_payload", "payload_id"),
)
"""What content-addressed stores were asked to keep, and under which key. A row goes with its
payload, not with its pin: what was on its way may come late, and is found by nothing else."""

roots = Table(
    "roots",
    metadata,
    Column("payload_id", Text(32), primary_key=True),
    Column("backend", Text(), primary_key=True),
)
"""Payloads of several segments whose blocks above these are still to come to such a store."""

blocks = Table(
    "blocks",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("payload_id", Text(32), primary_key=True),
    Column("leaf", BigInteger, nullable=True),
    Column("node", LargeBinary, nullable=True),
    Index("blocks_by_payload", "payload_id", "leaf"),
)
"""By its SHA-256: which leaf of which payload a block is, or the bytes of a node above leaves."""

slots = Table(
    "slots",
    metadata,
    Column("session_id", Text(64), primary_key=True),
    Column("task_id", Text(64), primary_key=True),
    Column("direction", Text(), primary_key=True),
    Column("miner", Text(42), primary_key=True),
    Column("object_id", Text(32), nullable=False),
    Column("payload_id", Text(32), nullable=False, unique=True),
)

intents = Table(
    "intents",
    metadata,
    Column("payload_id", Text(32), primary_key=True),
    Column("object_id", Text(32), nullable=False),
    Column("instance_id", Text(32), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("state", Text(), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("wrap_id", Text(32), nullable=True),
)
"""``wrap_id`` says whom the upload is being sealed for."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("object_id", Text(32), primary_key=True),
    Column("payload_id", Text(32), nullable=False),
    Column("session_id", Text(64), nullable=False),
    Column("task_id", Text(64), nullable=False),
    Column("direction", Text(), nullable=False),
    Column("miner", Text(42), nullable=False),
    Column("decide_by_ms", BigInteger, nullable=False),
    Column("code", Text(), nullable=True),
)
"""Uploads that were answered with 202: who may ask, until when it is decided, and why it failed.
That it is pending or committed is told by ``intents`` and ``objects``, and is not written twice."""

graves = Table(
    "graves",
    metadata,
    Column("payload_id", Text(32), primary_key=True),
    Column("object_id", Text(32), nullable=False),
    Column("reason", Text(), nullable=False),
    Column("buried_ms", BigInteger, nullable=False),
    Column("doomed_until_ms", BigInteger, nullable=True),
)
"""Payloads given up, aborted, erased or superseded, until the late-write horizon has passed over
them. Until ``doomed_until_ms`` those who began to read one may go on."""

passes = Table(
    "passes",
    metadata,
    Column("name", Text(), primary_key=True),
    Column("turn_id", Text(32), nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    Column("position", Text(), nullable=False),
    Column("round_ended_ms", BigInteger, nullable=True),
)
"""Passes over everything there is: whose turn it is at each, how far it came, when it came to the
end."""

outbox = Table(
    "outbox",
    metadata,
    Column("kind", Text(16), primary_key=True),
    Column("record_id", Text(64), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
"""Records whose copy, of that generation, is still to come to the stores: one lane for each.
Written with the record; what a copy says is read from the other tables when it is made."""

orphans = Table(
    "orphans",
    metadata,
    Column("backend", Text(), primary_key=True),
    Column("payload_id", Text(32), primary_key=True),
    Column("blobs", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("waited_ms", BigInteger, nullable=False),
)
"""Payloads that lie in a store and that nothing here names, and for how long they were seen to: the
sum of the times between looks, none of which counts for more than a look should be away."""

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text(32), primary_key=True),
    Column("kind", Text(16), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("state", Text(), nullable=False),
    Column("instance_id", Text(32), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
    Index("jobs_by_age", "created_ms"),
)
"""Work over many objects that somebody asked for. What is done is told by the objects themselves: a
job that is taken up by another process looks for what is still to do."""

job_failures = Table(
    "job_failures",
    metadata,
    Column("job_id", Text(32), primary_key=True),
    Column("object_id", Text(32), primary_key=True),
    Column("code", Text(), nullable=False),
    Column("detail", Text(), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("kind", Text(), nullable=False),
    Column("session_id", Text(64), nullable=False),
    Column("miner", Text(42), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=True),
    Column("revoked_ms", BigInteger, nullable=True),
    Index("tokens_by_party", "kind", "session_id", "miner"),
)

stress_runs = Table(
    "stress_runs",
    metadata,
    Column("run_id", Text(32), primary_key=True),
    Column("case_name", Text(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("state", Text(), nullable=False),
    # 1 while anything of the run may be there, then NULL, of which the index allows many: so there
    # is one run at a time.
    Column("running", Integer, nullable=True, unique=True),
    Column("stop_asked", Integer, nullable=False),
    Column("instance_id", Text(32), nullable=False),
    Column("children", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("report", JSON, nullable=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
)
"""Written before anything of a run is made: what a crash leaves of it is found by its run id."""
