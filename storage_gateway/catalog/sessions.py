"""Units on sessions, parties, their key versions, and tokens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from crypto import CLASSIC
from retention import FOREVER, Policy
from storage_gateway.errors import (
    PartyRemoved,
    SessionExists,
    TokenExpired,
    Unauthenticated,
    UnknownSession,
)
from storage_gateway.manifest_copies import SESSION
from storage_gateway.records import (
    ALL_OPEN,
    BLIND,
    ROUTER,
    Caller,
    Party,
    Session,
    TokenKind,
    Wanted,
)

from .claims import load_policy, note_terms
from .clock import now_ms
from .outbox import Due, expect_copy, is_copied
from .statements import Statement, insert_once, key_of, miner_of
from .tables import deployment, key_versions, parties, sessions, tokens

DEPLOYMENT_SCOPE = ""
"""The session under which the router's key versions stand."""
ACTIVE = "active"
RETIRING = "retiring"

_ROUTERS = (key_versions.c.session_id == DEPLOYMENT_SCOPE, key_versions.c.role == ROUTER)

# Of what runs with every request; see catalog/objects.
_SESSION = Statement(select(sessions).where(sessions.c.session_id == bindparam("session_id_is")))
# Not FOR UPDATE: every row that refers to the session would have to wait as well.
_SESSION_LOCK = Statement(
    select(sessions.c.session_id)
    .where(sessions.c.session_id == bindparam("session_id_is"))
    .with_for_update(key_share=True)
)
_SESSIONS_LOCK = (
    # In one order, as two that lock several would wait for each other.
    select(sessions.c.session_id).order_by(sessions.c.session_id).with_for_update(key_share=True)
)
_MEMBERS = Statement(
    select(key_versions)
    .where(
        key_versions.c.session_id.in_((bindparam("session_id_is"), DEPLOYMENT_SCOPE)),
        key_versions.c.state == ACTIVE,
    )
    .order_by(key_versions.c.session_id, key_versions.c.role.desc(), key_versions.c.miner)
)
_ACTIVE_KEYS = Statement(
    select(key_versions.c.role, key_versions.c.miner, key_versions.c.version).where(
        key_versions.c.session_id.in_((bindparam("session_id_is"), DEPLOYMENT_SCOPE)),
        key_versions.c.state == ACTIVE,
    )
)
_TOKEN = Statement(select(tokens).where(tokens.c.digest == bindparam("digest_is")))
_INSERT_PARTY = Statement(insert(parties))
_INSERT_KEY_VERSION = Statement(insert(key_versions))


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be stored: its digest only."""

    digest: bytes
    kind: TokenKind
    miner: str | None


def create_session(
    connection: Connection,
    *,
    session_id: str,
    custody: str,
    key_class: str,
    members: Sequence[Party],
    new_tokens: Sequence[NewToken],
    token_lifetime_s: float,
    wanted: Wanted = ALL_OPEN,
    policy: Policy = FOREVER,
) -> Session:
    """Store a session with its parties and tokens. The router's party is the deployment's, unless
    it is of blind custody: then it is among them.

    Raises:
        SessionExists: the id is taken.

    """
    now = now_ms(connection)
    row = {
        "session_id": session_id,
        "custody": custody,
        "key_class": key_class,
        "created_ms": now,
        "backends": wanted.backends,
        "write_quorum": wanted.write_quorum,
        "terms_id": note_terms(connection, policy),
    }
    if not insert_once(connection, sessions, row):
        raise SessionExists(f"session {session_id} exists")
    for party in members:
        scope = {"session_id": session_id, "role": party.role, "miner": key_of(party.miner)}
        _INSERT_PARTY.run(connection, scope | {"created_ms": now})
        _INSERT_KEY_VERSION.run(connection, scope | _key_version(party, key_class, now))
    if is_copied(session_id):
        expect_copy(connection, Due(SESSION, session_id, 1))
    for token in new_tokens:
        insert_token(connection, token, session_id=session_id, lifetime_s=token_lifetime_s)
    return load_session(connection, session_id)


def _key_version(party: Party, key_class: str, now: int) -> dict[str, str | int]:
    return {
        "version": party.version,
        "recipient": party.recipient,
        "key_class": key_class,
        "state": ACTIVE,
        "created_ms": now,
        "changed_ms": now,
    }


def router_recipient(connection: Connection, key_class: str = CLASSIC) -> str | None:
    """Return the deployment's active router recipient of a class, or None before there is one."""
    found = connection.execute(
        select(key_versions.c.recipient).where(
            key_versions.c.session_id == DEPLOYMENT_SCOPE,
            key_versions.c.role == ROUTER,
            key_versions.c.key_class == key_class,
            key_versions.c.state == ACTIVE,
        )
    ).scalar_one_or_none()
    return None if found is None else str(found)


def register_router(connection: Connection, recipient: str, key_class: str) -> str:
    """Store the router's first recipient of a class, or return the one that is active already."""
    party = Party(role=ROUTER, miner=None, version=1, recipient=recipient)
    if router_recipient(connection, key_class) is None:
        # Two processes may be at their first start: one of them is first, and both return its.
        restore_router(connection, party, key_class, state=ACTIVE)
        connection.execute(
            update(key_versions)
            .where(*_ROUTERS, key_versions.c.recipient == recipient)
            .where(key_versions.c.state == RETIRING)  # one that came back with its objects
            .values(state=ACTIVE, changed_ms=now_ms(connection))
        )
    return router_recipient(connection, key_class) or recipient


def restore_router(
    connection: Connection, party: Party, key_class: str, *, state: str = RETIRING
) -> None:
    """Make sure that a recipient of the router's is known; a new one comes into this state."""
    versions = select(key_versions.c.version).where(*_ROUTERS)
    known = versions.where(key_versions.c.recipient == party.recipient)
    if connection.execute(known).first() is not None:
        return
    scope = {"session_id": DEPLOYMENT_SCOPE, "role": ROUTER, "miner": ""}
    row = scope | _key_version(party, key_class, now_ms(connection))
    row |= {"state": state, "proven": 1}
    if not insert_once(connection, key_versions, row):
        newest = max(connection.execute(versions).scalars())
        insert_once(connection, key_versions, row | {"version": newest + 1})


def lock_session(connection: Connection, session_id: str) -> None:
    """Wait for, and keep out, other transactions that do this, until this one has ended.

    On SQLite there is one writer at a time, and nothing to do.
    """
    if connection.dialect.name == "sqlite":
        return
    _SESSION_LOCK.run(connection, {"session_id_is": session_id})


def lock_sessions(connection: Connection, session_ids: Collection[str]) -> None:
    """As `lock_session`, of several."""
    if connection.dialect.name != "sqlite":
        mine = sessions.c.session_id.in_(session_ids)
        connection.execute(_SESSIONS_LOCK.where(mine)).all()


def load_session(connection: Connection, session_id: str) -> Session:
    """Return a session with its active parties: the router of the deployment, then user, then
    miners; of blind custody user, its own router, miners.

    Raises:
        UnknownSession: there is none of that id.

    """
    row = _SESSION.run(connection, {"session_id_is": session_id}).first()
    if row is None:
        raise UnknownSession(f"no session {session_id}")
    members = _MEMBERS.run(connection, {"session_id_is": session_id})
    return Session(
        session_id=row.session_id,
        custody=row.custody,
        key_class=row.key_class,
        created_ms=row.created_ms,
        parties=tuple(
            Party(role=m.role, miner=miner_of(m.miner), version=m.version, recipient=m.recipient)
            for m in members
            if m.key_class == row.key_class
            and not (row.custody == BLIND and m.session_id == DEPLOYMENT_SCOPE)
        ),
        wanted=Wanted(backends_of(row), row.write_quorum),
        policy=load_policy(connection, row.terms_id),
        held=row.holds > 0,
    )


def backends_of(row: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - as `Found.first`
    """Return the stores that a session wants, which the column `backends` of a row says."""
    return None if row.backends is None else tuple(row.backends)


def are_current(connection: Connection, session_id: str, wrapped_for: Sequence[Party]) -> bool:
    """Tell whether each of these is a party of the session at a key version that is active."""
    active = _ACTIVE_KEYS.run(connection, {"session_id_is": session_id})
    current = {(key.role, key.miner, key.version) for key in active}
    return current.issuperset((p.role, key_of(p.miner), p.version) for p in wrapped_for)


def insert_token(
    connection: Connection, token: NewToken, *, session_id: str | None, lifetime_s: float | None
) -> None:
    """Store a token's digest; a second insertion of the same digest changes nothing."""
    now = now_ms(connection)
    row = {
        "digest": token.digest,
        "kind": token.kind.value,
        "session_id": key_of(session_id),
        "miner": key_of(token.miner),
        "created_ms": now,
        "expires_ms": None if lifetime_s is None else now + int(lifetime_s * 1000),
    }
    insert_once(connection, tokens, row)


def set_operator_token(connection: Connection, digest: bytes) -> None:
    """Make this the one operator's token; every other one is revoked.

    Raises:
        TokenExpired: it was revoked before; nothing is changed.

    """
    # One at a time: of two that each revoke what they see, both tokens would stay.
    connection.execute(select(deployment.c.singleton).with_for_update())
    revoked = select(tokens.c.digest).where(
        tokens.c.digest == digest, tokens.c.revoked_ms.is_not(None)
    )
    if connection.execute(revoked).first() is not None:
        raise TokenExpired("the token was revoked before")
    connection.execute(
        update(tokens)
        .where(
            tokens.c.kind == TokenKind.OPERATOR.value,
            tokens.c.digest != digest,
            tokens.c.revoked_ms.is_(None),
        )
        .values(revoked_ms=now_ms(connection))
    )
    insert_token(
        connection, NewToken(digest, TokenKind.OPERATOR, None), session_id=None, lifetime_s=None
    )


def reissue_token(
    connection: Connection, token: NewToken, *, session_id: str, lifetime_s: float
) -> None:
    """Revoke the tokens of one party of a session and store a new one for it.

    Raises:
        UnknownSession: there is no such session, or it has no such party.

    """
    lock_session(connection, session_id)  # as in `set_operator_token`
    session = load_session(connection, session_id)
    is_ours = token.kind is TokenKind.ROUTER and session.custody != BLIND
    if is_ours or session.party(token.kind.value, token.miner) is None:
        raise UnknownSession(f"session {session_id} has no such party")
    connection.execute(
        update(tokens)
        .where(
            tokens.c.kind == token.kind.value,
            tokens.c.session_id == session_id,
            tokens.c.miner == key_of(token.miner),
            tokens.c.revoked_ms.is_(None),
        )
        .values(revoked_ms=now_ms(connection))
    )
    insert_token(connection, token, session_id=session_id, lifetime_s=lifetime_s)


def has_operator_token(connection: Connection) -> bool:
    """Tell whether an operator's token was ever made."""
    query = select(tokens.c.digest).where(tokens.c.kind == TokenKind.OPERATOR.value).limit(1)
    return connection.execute(query).first() is not None


def authenticate(connection: Connection, digest: bytes) -> Caller:
    """Return whom the token with this SHA-256 digest stands for.

    The look-up is by digest: its timing tells about digests, which say nothing of tokens.

    Raises:
        Unauthenticated: unknown token.
        TokenExpired: expired or revoked.
        PartyRemoved: revoked as its party was removed.

    """
    row = _TOKEN.run(connection, {"digest_is": digest}).first()
    if row is None:
        raise Unauthenticated("the token is not known here")
    expired = row.expires_ms is not None and row.expires_ms <= now_ms(connection)
    if expired or row.revoked_ms is not None:
        if _is_removed(connection, row):
            raise PartyRemoved("the party was removed from its session")
        raise TokenExpired("the token has expired or was revoked")
    return Caller(
        kind=TokenKind(row.kind), session_id=row.session_id or None, miner=miner_of(row.miner)
    )


def _is_removed(connection: Connection, token: Any) -> bool:  # noqa: ANN401 - as `Found.first`
    removed = select(parties.c.removed_ms).where(
        parties.c.session_id == token.session_id,
        parties.c.role == token.kind,
        parties.c.miner == token.miner,
        parties.c.removed_ms.is_not(None),
    )
    return connection.execute(removed).first() is not None
