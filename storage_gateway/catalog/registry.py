"""Units on key versions: the registry of a session's parties, and of the router's own.

The version is committed before anything is sealed to it, and each change of a session's keys raises
its generation: copies that tell of the older keys are outdated then.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, update

from storage_gateway.errors import InvalidField, KeyExists, NotFound, UnknownSession
from storage_gateway.key_states import Dwell, KeyState, check_step
from storage_gateway.manifest_copies import SESSION
from storage_gateway.records import MINER, ROUTER, Party, TokenKind

from .clock import now_ms
from .outbox import Due, expect_copy, is_copied
from .sessions import DEPLOYMENT_SCOPE, NewToken, insert_token, lock_session
from .statements import Statement, insert_once, key_of, miner_of
from .tables import deployment, key_versions, parties, sessions, tokens
from .wraps import copies_due, take_census

_KEYS_OF_READER = Statement(
    select(key_versions).where(
        key_versions.c.session_id.in_((bindparam("session_id_is"), DEPLOYMENT_SCOPE)),
        key_versions.c.role.in_((bindparam("role_is"), ROUTER)),
        key_versions.c.miner.in_((bindparam("miner_is"), "")),
    )
)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """A version of a party's key. ``session_id`` is empty for the router's own."""

    session_id: str
    role: str
    miner: str | None
    version: int
    recipient: str
    key_class: str
    state: KeyState
    proven: bool
    created_ms: int
    changed_ms: int

    def is_of(self, party: Party) -> bool:
        """Tell whether it is the version that a head is wrapped for."""
        mine = (self.role, self.miner, self.version, self.recipient)
        return mine == (party.role, party.miner, party.version, party.recipient)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key it is: a party of a session, or the router."""

    session_id: str
    role: str
    miner: str | None

    @property
    def scope(self) -> str:
        """What a challenge is made for."""
        return "/".join((self.session_id, self.role, key_of(self.miner)))


ROUTER_ITSELF = Holder(DEPLOYMENT_SCOPE, ROUTER, None)


def _key_of(row: Any) -> KeyVersion:  # noqa: ANN401 - as `Found.first`
    return KeyVersion(
        session_id=row.session_id,
        role=row.role,
        miner=miner_of(row.miner),
        version=row.version,
        recipient=row.recipient,
        key_class=row.key_class,
        state=KeyState(row.state),
        proven=bool(row.proven),
        created_ms=row.created_ms,
        changed_ms=row.changed_ms,
    )


def _are_of(holder: Holder) -> tuple[ColumnElement[bool], ...]:
    return (
        key_versions.c.session_id == holder.session_id,
        key_versions.c.role == holder.role,
        key_versions.c.miner == key_of(holder.miner),
    )


def list_keys(connection: Connection, session_id: str) -> list[KeyVersion]:
    """Return all key versions of a session's parties, or, of the empty one, the router's."""
    order = (key_versions.c.role.desc(), key_versions.c.miner, key_versions.c.version)
    query = select(key_versions).where(key_versions.c.session_id == session_id).order_by(*order)
    return [_key_of(row) for row in connection.execute(query)]


def keys_of_reader(
    connection: Connection, session_id: str, role: str, miner: str | None
) -> list[KeyVersion]:
    """Return the versions of a party and of the router's that its session's heads may be for."""
    reader = {"session_id_is": session_id, "role_is": role, "miner_is": key_of(miner)}
    return [_key_of(row) for row in _KEYS_OF_READER.run(connection, reader)]


def add_key(
    connection: Connection, holder: Holder, *, recipient: str, key_class: str, proven: bool
) -> KeyVersion:
    """Make a recipient the active version of its class; the one before is retiring then.

    Again with the recipient that is active is the same.

    Raises:
        KeyExists: it is, or was, a version of that party, and is not active.
        NotFound: there is no such party, or not any more.

    """
    _lock(connection, holder)
    _require_party(connection, holder)
    found = [_key_of(r) for r in connection.execute(select(key_versions).where(*_are_of(holder)))]
    known = next((key for key in found if key.recipient == recipient), None)
    if known is not None and known.state is KeyState.ACTIVE:
        return known
    if known is not None:
        raise KeyExists(f"it is version {known.version}, which is {known.state}")
    now = now_ms(connection)
    retired = {"state": KeyState.RETIRING.value, "changed_ms": now}
    connection.execute(
        update(key_versions)
        .where(*_are_of(holder), key_versions.c.key_class == key_class)
        .where(key_versions.c.state == KeyState.ACTIVE.value)
        .values(retired)
    )
    version = max((key.version for key in found), default=0) + 1
    row = {
        "session_id": holder.session_id,
        "role": holder.role,
        "miner": key_of(holder.miner),
        "version": version,
        "recipient": recipient,
        "key_class": key_class,
        "state": KeyState.ACTIVE.value,
        "created_ms": now,
        "proven": int(proven),
        "changed_ms": now,
    }
    connection.execute(insert(key_versions), row)
    note_change(connection, holder.session_id)
    return load_key(connection, holder, version)


def load_key(connection: Connection, holder: Holder, version: int) -> KeyVersion:
    """Return a version of a party's key.

    Raises:
        NotFound: there is none of that number.

    """
    query = select(key_versions).where(*_are_of(holder), key_versions.c.version == version)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("no such key version")
    return _key_of(row)


def change_state(
    connection: Connection,
    holder: Holder,
    version: int,
    wanted: KeyState,
    *,
    dwell: Dwell,
    urgent: bool,
    nodes: Collection[str] = (),
) -> KeyVersion:
    """Bring a version into another state; again is the same. ``nodes`` is as for `copies_due`.

    Raises:
        NotFound: there is none of that number.
        KeyStateSkipped, KeyDwelling, KeyInUse: as `key_states.check_step`.

    """
    _lock(connection, holder)
    key = load_key(connection, holder, version)
    if key.state is wanted:
        return key
    now = now_ms(connection)
    dependents = 0
    if wanted is KeyState.DESTROYED:
        dependents = dependents_of(connection, key, nodes)
    age_s = max(0.0, (now - key.changed_ms) / 1000)
    check_step(key.state, wanted, age_s=age_s, dwell=dwell, urgent=urgent, dependents=dependents)
    connection.execute(
        update(key_versions)
        .where(*_are_of(holder), key_versions.c.version == version)
        .where(key_versions.c.state == key.state.value)
        .values(state=wanted.value, changed_ms=now)
    )
    note_change(connection, holder.session_id)
    return load_key(connection, holder, version)


def dependents_of(connection: Connection, key: KeyVersion, nodes: Collection[str] = ()) -> int:
    """Return how many heads and uploads are wrapped for a version, and how many copies of older
    heads may still lie in stores.
    """
    total = copies_due(connection, nodes)
    for wrap in take_census(connection, key.session_id or None):
        if any(key.is_of(party) for party in wrap.parties):
            total += wrap.heads + wrap.kept + wrap.uploads + wrap.reserved
    return total


def count_dependents(
    connection: Connection, session_id: str | None
) -> Iterator[tuple[Party, int, int]]:
    """Yield for each party of each set how many heads there are, those that were replaced and are
    kept too, and how many uploads, those that are reserved too.
    """
    for wrap in take_census(connection, session_id):
        for party in wrap.parties:
            yield party, wrap.heads + wrap.kept, wrap.uploads + wrap.reserved


def add_miner(
    connection: Connection,
    holder: Holder,
    *,
    recipient: str,
    key_class: str,
    token: NewToken,
    token_lifetime_s: float,
    miners_max: int,
) -> KeyVersion:
    """Add a miner to a session, with its first key and its token; one that was removed comes back.

    Raises:
        UnknownSession: there is none of that id.
        KeyExists: the miner is one of the session, or has had that key.
        InvalidField: it has as many as it may.

    """
    _lock(connection, holder)
    now = now_ms(connection)
    row = {"session_id": holder.session_id, "role": MINER, "miner": key_of(holder.miner)}
    if not insert_once(connection, parties, row | {"created_ms": now}):
        here = [parties.c[name] == value for name, value in row.items()]
        back = update(parties).where(*here, parties.c.removed_ms.is_not(None))
        if connection.execute(back.values(removed_ms=None)).rowcount == 0:
            raise KeyExists("the miner is a party of the session already")
    living = select(func.count()).where(
        parties.c.session_id == holder.session_id,
        parties.c.role == MINER,
        parties.c.removed_ms.is_(None),
    )
    if connection.execute(living).scalar_one() > miners_max:
        raise InvalidField(f"a session has {miners_max} miners at most", field="id")
    key = add_key(connection, holder, recipient=recipient, key_class=key_class, proven=False)
    insert_token(connection, token, session_id=holder.session_id, lifetime_s=token_lifetime_s)
    return key


def remove_party(connection: Connection, holder: Holder) -> None:
    """Remove a miner from a session: nothing new is sealed for it, and its tokens open nothing.

    Again is the same.

    Raises:
        NotFound: there is no such party.

    """
    _lock(connection, holder)
    here = (
        parties.c.session_id == holder.session_id,
        parties.c.role == holder.role,
        parties.c.miner == key_of(holder.miner),
    )
    row = connection.execute(select(parties).where(*here)).one_or_none()
    if row is None:
        raise NotFound("no such party")
    if row.removed_ms is not None:
        return
    now = now_ms(connection)
    connection.execute(update(parties).where(*here).values(removed_ms=now))
    connection.execute(
        update(key_versions)
        .where(*_are_of(holder), key_versions.c.state == KeyState.ACTIVE.value)
        .values(state=KeyState.RETIRING.value, changed_ms=now)
    )
    connection.execute(
        update(tokens)
        .where(
            tokens.c.kind == TokenKind.MINER.value,
            tokens.c.session_id == holder.session_id,
            tokens.c.miner == key_of(holder.miner),
            tokens.c.revoked_ms.is_(None),
        )
        .values(revoked_ms=now)
    )
    note_change(connection, holder.session_id)


def note_change(connection: Connection, session_id: str) -> None:
    """Raise a session's generation, whose copy is to come to the stores again."""
    if session_id == DEPLOYMENT_SCOPE:
        return
    here = sessions.c.session_id == session_id
    connection.execute(update(sessions).where(here).values(generation=sessions.c.generation + 1))
    if is_copied(session_id):
        generation = connection.execute(select(sessions.c.generation).where(here)).scalar_one()
        expect_copy(connection, Due(SESSION, session_id, generation))


def _lock(connection: Connection, holder: Holder) -> None:
    """Keep out others that change keys, and commits of the session, until the end."""
    if holder.session_id == DEPLOYMENT_SCOPE:
        connection.execute(select(deployment.c.singleton).with_for_update())
        return
    lock_session(connection, holder.session_id)
    known = select(sessions.c.session_id).where(sessions.c.session_id == holder.session_id)
    if connection.execute(known).first() is None:
        raise UnknownSession(f"no session {holder.session_id}")


def _require_party(connection: Connection, holder: Holder) -> None:
    if holder.session_id == DEPLOYMENT_SCOPE:
        return
    found = select(parties.c.role).where(
        parties.c.session_id == holder.session_id,
        parties.c.role == holder.role,
        parties.c.miner == key_of(holder.miner),
        parties.c.removed_ms.is_(None),
    )
    if connection.execute(found).first() is None:
        raise NotFound("no such party")
