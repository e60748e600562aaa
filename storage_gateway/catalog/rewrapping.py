"""Units that find heads wrapped for keys that are not active any more, and put new ones there.

A new head takes the place of the one it was made from, by compare-and-set on the generation: of two
that wrap the same head anew one does, and an erasure between the two stays one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, select, update

from storage_gateway.key_states import KeyState
from storage_gateway.manifest_copies import OBJECT
from storage_gateway.records import BLIND, ROUTER, Manifest, ObjectState, Party

from .objects import MANIFESTS, manifest_of_row
from .outbox import Due, expect_copies, is_copied
from .sessions import DEPLOYMENT_SCOPE
from .statements import Statement, key_of
from .tables import key_versions, objects, sessions
from .wraps import Wrap, note_wrap, take_census

Keys = Mapping[tuple[str, str, str, str], tuple[int, str]]
"""Active versions and recipients by session, role, miner and class; the router's under ""."""
Classes = Mapping[tuple[str, str, str, int], str]
"""Classes by session, role, miner and version."""

_PAGE = Statement(
    MANIFESTS.where(
        objects.c.wrap_id == bindparam("wrap_id_is"), objects.c.object_id > bindparam("after")
    )
    .order_by(objects.c.object_id)
    .limit(bindparam("count"))
)
_REWRAP = Statement(
    update(objects)
    .where(
        objects.c.object_id == bindparam("object_id_is"),
        objects.c.generation == bindparam("generation_is"),
        objects.c.state == ObjectState.COMMITTED.value,
    )
    .values(
        head=bindparam("new_head"),
        sealed_size=bindparam("new_sealed_size"),
        wrapped_for=bindparam("new_wrapped_for"),
        wrap_id=bindparam("new_wrap_id"),
        generation=objects.c.generation + 1,
    )
)


@dataclass(frozen=True, slots=True)
class StaleWrap:
    """A set of key versions of which not all are active, and the set that is to take its place."""

    wrap: Wrap
    wanted: tuple[Party, ...]


@dataclass(frozen=True, slots=True)
class NewHead:
    """A head that was made from that of a manifest."""

    manifest: Manifest
    head: bytes
    wrapped_for: tuple[Party, ...]

    @property
    def sealed_size(self) -> int:
        """How long the file is that the head makes with the payload."""
        return len(self.head) + self.manifest.payload_size


def find_stale(connection: Connection, session_id: str | None = None) -> Iterator[StaleWrap]:
    """Yield what is wrapped for keys that are not active, and for whom it should be.

    A party keeps its place with its active version; one that has none any more has no place.
    """
    known = select(key_versions)
    if session_id is not None:
        known = known.where(key_versions.c.session_id.in_((session_id, DEPLOYMENT_SCOPE)))
    keys, classes = {}, {}
    for row in connection.execute(known):
        place = (row.session_id, row.role, row.miner)
        classes[(*place, row.version)] = row.key_class
        if row.state == KeyState.ACTIVE.value:
            keys[(*place, row.key_class)] = (row.version, row.recipient)
    blind = set(
        connection.execute(
            select(sessions.c.session_id).where(sessions.c.custody == BLIND)
        ).scalars()
    )
    for wrap in take_census(connection, session_id):
        if wrap.session_id in blind:
            continue  # nothing here opens its heads
        wanted = tuple(_current(wrap, keys, classes))
        if wanted != wrap.parties:
            yield StaleWrap(wrap, wanted)


def _current(wrap: Wrap, keys: Keys, classes: Classes) -> Iterator[Party]:
    for party in wrap.parties:
        for scope in (wrap.session_id, DEPLOYMENT_SCOPE):
            place = (scope, party.role, key_of(party.miner))
            key_class = classes.get((*place, party.version))
            if key_class is None:
                continue
            active = keys.get((*place, key_class))
            if active is not None:
                yield Party(party.role, party.miner, *active)
            elif party.role == ROUTER:
                yield party  # else nobody could ever wrap it anew again
            break


def list_wrapped(connection: Connection, wrap_id: str, after: str, limit: int) -> list[Manifest]:
    """Return a page of manifests that are wrapped for a set, in the order of their ids."""
    page = {"wrap_id_is": wrap_id, "after": after, "count": limit}
    return [manifest_of_row(row) for row in _PAGE.run(connection, page)]


def put_heads(connection: Connection, heads: Sequence[NewHead]) -> int:
    """Put new heads in the place of those that they were made from; return how many came there.

    What has changed since stays as it is.
    """
    noted: dict[tuple[str, tuple[Party, ...]], _Noted] = {}
    put = [new.manifest for new in heads if _put(connection, new, noted)]
    dues = (
        Due(OBJECT, manifest.object_id, manifest.generation + 1)
        for manifest in put
        if is_copied(manifest.slot.session_id)
    )
    expect_copies(connection, dues)
    return len(put)


def put_head(connection: Connection, new: NewHead) -> Manifest | None:
    """Put one new head in the place of that which it was made from; return the manifest as it is
    then, None where the object has changed since.
    """
    if not put_heads(connection, [new]):
        return None
    return replace(
        new.manifest,
        head=new.head,
        generation=new.manifest.generation + 1,
        sealed_size=new.sealed_size,
        wrapped_for=new.wrapped_for,
    )


@dataclass(frozen=True, slots=True)
class _Noted:
    """A set of key versions as it is written down."""

    wrap_id: str
    parties: list[dict[str, str | int]]


def _put(
    connection: Connection, new: NewHead, noted: dict[tuple[str, tuple[Party, ...]], _Noted]
) -> bool:
    manifest, session_id = new.manifest, new.manifest.slot.session_id
    wrap = noted.get((session_id, new.wrapped_for))
    if wrap is None:
        wrap_id = note_wrap(connection, session_id, new.wrapped_for)
        wrap = _Noted(wrap_id, [party.as_json() for party in new.wrapped_for])
        noted[session_id, new.wrapped_for] = wrap
    values = {
        "object_id_is": manifest.object_id,
        "generation_is": manifest.generation,
        "new_head": new.head,
        "new_sealed_size": new.sealed_size,
        "new_wrapped_for": wrap.parties,
        "new_wrap_id": wrap.wrap_id,
    }
    return _REWRAP.run(connection, values).changed == 1
