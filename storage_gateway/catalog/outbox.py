"""Units on manifest copies that are still to come to the stores, and on what they say."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from storage_gateway.manifest_copies import (
    OBJECT,
    RETENTION,
    SESSION,
    Copy,
    KeyCopy,
    MemberCopy,
    ObjectCopy,
    PartyCopy,
    SegmentCopy,
    SessionCopy,
)
from storage_gateway.records import ObjectState

from .clock import now_ms
from .copied_claims import copied_holds, copied_terms, load_claims_copy
from .graves import ERASED, dig_grave
from .statements import Statement, insert_once, miner_of
from .stress_runs import CONTROL_SESSIONS
from .tables import key_versions, markers, objects, outbox, parties, segments, sessions

_LANE = and_(outbox.c.kind == bindparam("kind_is"), outbox.c.record_id == bindparam("record_id_is"))
_RAISE = Statement(
    update(outbox)
    .where(_LANE, outbox.c.generation < bindparam("new_generation"))
    .values(generation=bindparam("new_generation"), created_ms=bindparam("now_ms"))
)
_CAME = Statement(delete(outbox).where(_LANE, outbox.c.generation == bindparam("generation_is")))
_MARKED = Statement(select(markers.c.backend))
_DUE = Statement(select(outbox).where(_LANE))
_PAGE = Statement(
    select(outbox)
    .where(
        or_(
            outbox.c.kind > bindparam("after_kind"),
            and_(
                outbox.c.kind == bindparam("after_kind"),
                outbox.c.record_id > bindparam("after_id"),
            ),
        ),
        outbox.c.created_ms <= bindparam("settled_ms"),
    )
    .order_by(outbox.c.kind, outbox.c.record_id)
    .limit(bindparam("count"))
)
_BACKLOG = Statement(
    select(func.count().label("due"), func.min(outbox.c.created_ms).label("oldest_ms")).select_from(
        outbox
    )
)
_OBJECT = Statement(select(objects).where(objects.c.object_id == bindparam("object_id_is")))
_STATE = Statement(
    select(
        objects.c.state,
        objects.c.generation,
        objects.c.claims_generation,
        objects.c.session_id,
        objects.c.payload_id,
    ).where(objects.c.object_id == bindparam("object_id_is"))
)
_SEGMENTS = Statement(
    select(segments)
    .where(segments.c.payload_id == bindparam("payload_id_is"))
    .order_by(segments.c.segment)
)
_SESSION = Statement(select(sessions).where(sessions.c.session_id == bindparam("session_id_is")))
_PARTIES = Statement(
    select(parties)
    .where(parties.c.session_id == bindparam("session_id_is"))
    .order_by(parties.c.role, parties.c.miner)
)
_KEYS = Statement(
    select(key_versions)
    .where(key_versions.c.session_id == bindparam("session_id_is"))
    .order_by(key_versions.c.role, key_versions.c.miner, key_versions.c.version)
)
_REOPEN = Statement(
    update(objects)
    .where(
        objects.c.object_id == bindparam("object_id_is"),
        objects.c.state == ObjectState.ERASED.value,
    )
    .values(state=ObjectState.ERASING.value)
)

LaneKey = tuple[str, str]
"""The kind of a record, and its id."""
BEFORE_ALL: LaneKey = ("", "")


@dataclass(frozen=True, slots=True)
class Due:
    """A record whose copy of that generation is to come to the stores."""

    kind: str
    record_id: str
    generation: int

    @property
    def key(self) -> LaneKey:
        """Where it is in the order of all."""
        return self.kind, self.record_id

    def parameters(self) -> dict[str, str]:
        """Return what the statements on its lane compare."""
        return {"kind_is": self.kind, "record_id_is": self.record_id}


def is_copied(session_id: str) -> bool:
    """Tell whether a session's records have copies: those that are dropped again have none."""
    return not session_id.startswith(CONTROL_SESSIONS)


def expect_copy(connection: Connection, due: Due) -> None:
    """Note, with the record, that its copy is to come; an older generation is to come no more."""
    expect_copies(connection, [due])


def expect_copies(connection: Connection, dues: Iterable[Due]) -> None:
    """Note the same of many records."""
    now = now_ms(connection)
    for due in dues:
        row = {
            "kind": due.kind,
            "record_id": due.record_id,
            "generation": due.generation,
            "created_ms": now,
        }
        raised = due.parameters() | {"new_generation": due.generation, "now_ms": now}
        # Twice: the row that was in the way may have gone before it was raised, with its copy's
        # coming.
        for _ in range(2):
            if insert_once(connection, outbox, row) or _RAISE.run(connection, raised).changed:
                break


def expect_claims_copy(connection: Connection, object_id: str) -> None:
    """Note that a copy of what is claimed of an object, as it is now, is to come to the stores; of
    one whose claims have not changed since the commit there is none.
    """
    row = _STATE.run(connection, {"object_id_is": object_id}).first()
    if row.claims_generation and is_copied(row.session_id):
        expect_copy(connection, Due(RETENTION, object_id, row.claims_generation))


def expect_all(connection: Connection) -> None:
    """Note that all copies are to come, as a store is new that has none of them."""
    now = now_ms(connection)
    of_objects = (literal(OBJECT), objects.c.object_id, objects.c.generation, literal(now))
    of_sessions = (
        literal(SESSION),
        sessions.c.session_id,
        sessions.c.generation,
        literal(now),
    )
    of_claims = (
        literal(RETENTION),
        objects.c.object_id,
        objects.c.claims_generation,
        literal(now),
    )
    for kind, table, columns in (
        (OBJECT, objects, of_objects),
        (SESSION, sessions, of_sessions),
        (RETENTION, objects, of_claims),
    ):
        known = exists().where(outbox.c.kind == kind, outbox.c.record_id == columns[1])
        wanted = select(*columns).where(
            ~known,
            columns[2] > 0,  # nothing is claimed yet
            ~table.c.session_id.startswith(CONTROL_SESSIONS, autoescape=True),
        )
        names = ["kind", "record_id", "generation", "created_ms"]
        connection.execute(insert(outbox).from_select(names, wanted))


def list_due(connection: Connection, after: LaneKey, limit: int, settled_s: float) -> list[Due]:
    """Return a page of what is to come, in order, but for what was noted less than that ago."""
    page = {
        "after_kind": after[0],
        "after_id": after[1],
        "settled_ms": now_ms(connection) - int(settled_s * 1000),
        "count": limit,
    }
    return [Due(row.kind, row.record_id, row.generation) for row in _PAGE.run(connection, page)]


def is_due(connection: Connection, kind: str, record_id: str) -> bool:
    """Tell whether a copy of a record is still to come to a store."""
    wanted = {"kind_is": kind, "record_id_is": record_id}
    return _DUE.run(connection, wanted).first() is not None


def count_due(connection: Connection) -> tuple[int, float]:
    """Return how many copies are to come, and for how many seconds the oldest has been."""
    row = _BACKLOG.run(connection).first()
    if row is None or row.oldest_ms is None:
        return 0, 0.0
    return row.due, max(0.0, (now_ms(connection) - row.oldest_ms) / 1000)


def copy_came(connection: Connection, due: Due, *, stores: Collection[str]) -> bool:
    """Note that a copy was put. False: it is outdated.

    It is to come no more when all ``stores`` that the deployment has are there: another process may
    know of one more. With none it is in some only.

    Then its record has another generation since, and whoever removed the older copies may have
    looked before this one was there: it is to be removed again, and the object is not erased yet.
    """
    if stores and all(row.backend in stores for row in _MARKED.run(connection)):
        _CAME.run(connection, due.parameters() | {"generation_is": due.generation})
    if due.kind == SESSION:
        session = _SESSION.run(connection, {"session_id_is": due.record_id}).first()
        return session is None or session.generation == due.generation
    row = _STATE.run(connection, {"object_id_is": due.record_id}).first()
    if due.kind == RETENTION:
        return row is None or row.claims_generation == due.generation
    if row is None or row.generation == due.generation:
        return True
    if row.state != ObjectState.COMMITTED.value:
        dig_grave(connection, row.payload_id, due.record_id, ERASED)
        _REOPEN.run(connection, {"object_id_is": due.record_id})
    return False


def load_copy(connection: Connection, kind: str, record_id: str) -> Copy | None:
    """Return what a copy of the record as it is now says; None: there is no such record."""
    if kind == SESSION:
        return _load_session(connection, record_id)
    if kind == RETENTION:
        return load_claims_copy(connection, record_id)
    row = _OBJECT.run(connection, {"object_id_is": record_id}).first()
    if row is None:
        return None
    is_whole = row.state == ObjectState.COMMITTED.value
    pieces = _SEGMENTS.run(connection, {"payload_id_is": row.payload_id}) if is_whole else ()
    return ObjectCopy(
        object_id=row.object_id,
        generation=row.generation,
        session_id=row.session_id,
        task_id=row.task_id,
        direction=row.direction,
        miner=miner_of(row.miner),
        payload_id=row.payload_id,
        cid=row.cid,
        size=row.size,
        payload_size=row.payload_size,
        sealed_size=row.sealed_size,
        key_class=row.key_class,
        wrapped_for=tuple(
            PartyCopy(p["role"], p.get("miner"), p["version"], p["recipient"])
            for p in row.wrapped_for
        ),
        file_key_print=row.file_key_print,
        sequence=row.sequence,
        created_ms=row.created_ms,
        erased_ms=row.erased_ms,
        head=row.head if is_whole else None,
        segments=tuple(
            SegmentCopy(
                size=piece.size or 0,
                leaf_digests=piece.leaf_digests or b"",
                tag_key=piece.tag_key or b"",
                leaf_tags=piece.leaf_tags or b"",
            )
            for piece in pieces
        ),
        terms=copied_terms(connection, row.terms_id),
        keep_until_ms=row.first_keep_ms,
    )


def _load_session(connection: Connection, session_id: str) -> SessionCopy | None:
    wanted = {"session_id_is": session_id}
    row = _SESSION.run(connection, wanted).first()
    if row is None:
        return None
    return SessionCopy(
        session_id=row.session_id,
        generation=row.generation,
        custody=row.custody,
        key_class=row.key_class,
        created_ms=row.created_ms,
        backends=None if row.backends is None else tuple(row.backends),
        write_quorum=row.write_quorum,
        parties=tuple(
            MemberCopy(member.role, miner_of(member.miner), member.created_ms, member.removed_ms)
            for member in _PARTIES.run(connection, wanted)
        ),
        keys=tuple(
            KeyCopy(
                key.role,
                miner_of(key.miner),
                key.version,
                key.recipient,
                key.key_class,
                key.state,
                key.created_ms,
                bool(key.proven),
                key.changed_ms,
            )
            for key in _KEYS.run(connection, wanted)
        ),
        terms=copied_terms(connection, row.terms_id),
        holds=copied_holds(connection, session_id, ""),
    )
