"""Units on sweeps: what is due, a page at a time, and what is done about a page.

A page is planned on what was read. What is done asks again, in the statement that does it: a lease
that was renewed meanwhile, or a hold that came, wins. Ends are compared as integers in two indexes
that hold nothing but what has an end, and what has expired.
"""

import enum
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from retention import Verdict, verdict_on

from .claims import CLAIMED, IS_HELD, claims_of
from .clock import now_ms
from .high_water import IS_BEHIND, is_behind
from .sessions import lock_sessions
from .statements import Statement
from .tables import Text, deployment, objects

# As the indexes have it: a database that is given a parameter does not know that it will fit.
_LIVES = objects.c.state == literal_column("'committed'")
_TO_EXPIRE = and_(_LIVES, objects.c.expired_ms.is_(None), objects.c.expires_ms.is_not(None))
_EXPIRED = and_(_LIVES, objects.c.expired_ms.is_not(None))
_IS_OVER = objects.c.expires_ms <= bindparam("now_ms")
_IS_NOT_OVER = or_(objects.c.expires_ms.is_(None), objects.c.expires_ms > bindparam("now_ms"))
_GRACE_IS_OVER = objects.c.erase_after_ms <= bindparam("now_ms")
_ROWS = CLAIMED.add_columns(objects.c.session_id)

_PLACE = re.compile(r"(due|expired)~(-1|[0-9]{1,18})~([a-z2-7]{0,32})", re.ASCII)


class Phase(enum.StrEnum):
    """Which index a round goes through: first what may have to expire, then what has expired."""

    DUE = "due"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class _Walk:
    """How an index is gone through."""

    key: Any
    order: tuple[Any, Any]
    within: ColumnElement[bool]
    wanted: ColumnElement[bool]
    """What something may have to be done about; the others are not looked at in a real run."""


def _walk(column: Any, within: ColumnElement[bool], wanted: ColumnElement[bool]) -> _Walk:  # noqa: ANN401
    order = (column, objects.c.object_id)
    return _Walk(tuple_(*order), order, within, wanted)


_WALKS = {
    Phase.DUE: _walk(objects.c.expires_ms, and_(_TO_EXPIRE, _IS_OVER), ~IS_HELD),
    Phase.EXPIRED: _walk(
        objects.c.erase_after_ms,
        _EXPIRED,
        or_(_IS_NOT_OVER, and_(_GRACE_IS_OVER, ~IS_HELD)),
    ),
}
_AFTER = tuple_(bindparam("after_ms", type_=BigInteger), bindparam("after_id", type_=Text()))
_LAST = tuple_(bindparam("last_ms", type_=BigInteger), bindparam("last_id", type_=Text()))
_ENDS = {
    phase: Statement(
        select(walk.order[0].label("at_ms"), walk.order[1])
        .where(walk.within, walk.key > _AFTER)
        .order_by(*walk.order)
        .limit(1)
        .offset(bindparam("skipped", type_=BigInteger))
    )
    for phase, walk in _WALKS.items()
}
_PAGES = {
    (phase, last, wanted): Statement(
        _ROWS.add_columns(walk.order[0].label("at_ms"))
        .where(
            walk.within,
            walk.key > _AFTER,
            *([walk.key <= _LAST] if last else []),
            *([walk.wanted] if wanted else []),
        )
        .order_by(*walk.order)
    )
    for phase, walk in _WALKS.items()
    for last in (False, True)
    for wanted in (False, True)
}
_DUE = Statement(
    select(func.count().label("many"), func.min(objects.c.expires_ms).label("oldest_ms")).where(
        _TO_EXPIRE, _IS_OVER, ~IS_HELD
    )
)
_ERASABLE = Statement(
    select(func.count().label("many"), func.min(objects.c.erase_after_ms).label("oldest_ms")).where(
        _EXPIRED, _IS_OVER, _GRACE_IS_OVER, ~IS_HELD
    )
)
_REVIVABLE = Statement(select(func.count()).where(_EXPIRED, _IS_NOT_OVER))
# Nothing lives that has no head: an index tells how many have one.
_LIVING = Statement(select(func.count()).where(objects.c.wrap_id.is_not(None)))
_SWEPT = Statement(select(deployment.c.swept_ms))
_SET_SWEPT = Statement(
    update(deployment)
    .where(deployment.c.swept_ms.is_not_distinct_from(bindparam("seen_ms")))
    .values(swept_ms=bindparam("new_ms"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a round came: behind which entry of which index."""

    phase: Phase = Phase.DUE
    after_ms: int = -1
    after_id: str = ""

    @property
    def text(self) -> str:
        """What is kept of it."""
        return f"{self.phase.value}~{self.after_ms}~{self.after_id}"


def place_of(text: str) -> Place | None:
    """Return the place that a text says; None where it says none."""
    found = _PLACE.fullmatch(text)
    return None if found is None else Place(Phase(found[1]), int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done with an object."""

    object_id: str
    session_id: str
    verdict: Verdict
    grace_s: int
    place: Place
    """Behind it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A page of verdicts."""

    planned: Sequence[Planned]
    walked: int
    """How many entries of the index it is about; of the last page those that were planned."""
    next: Place | None
    """Where to go on; None at the end of all there is."""


@dataclass(frozen=True, slots=True)
class Due:
    """How much is due to go."""

    expire: int
    erase: int
    oldest_ms: int | None
    """Since when the oldest of it is; None: nothing is due."""

    @property
    def count(self) -> int:
        """All of it."""
        return self.expire + self.erase


@dataclass(frozen=True, slots=True)
class Time:
    """What a sweep goes by."""

    now_ms: int
    swept_ms: int | None
    """How far the last one came that did all that was due; None before the first."""
    is_behind: bool
    """The catalog is older than what the stores have seen."""


def look_at_time(connection: Connection) -> Time:
    """Return what time it is, and up to which time was swept."""
    swept_ms = _SWEPT.run(connection).value()
    return Time(now_ms(connection), swept_ms, is_behind(connection))


def set_swept(connection: Connection, seen_ms: int | None, new_ms: int) -> bool:
    """Note up to which time was swept; False where somebody else has noted one meanwhile."""
    return _SET_SWEPT.run(connection, {"seen_ms": seen_ms, "new_ms": new_ms}).changed == 1


def plan_page(
    connection: Connection, place: Place, at_ms: int, limit: int, *, with_kept: bool
) -> Plan:
    """Judge what is behind ``place``, up to ``limit`` entries, at that time. ``with_kept``: also
    what is to be left as it is.
    """
    after = {"after_ms": place.after_ms, "after_id": place.after_id}
    until = {"now_ms": at_ms} if place.phase is Phase.DUE else {}
    ends = _ENDS[place.phase].run(connection, after | until | {"skipped": limit - 1}).first()
    here, last = after | until, {}
    if ends is not None:
        last = {"last_ms": ends.at_ms, "last_id": ends.object_id}
    if place.phase is Phase.EXPIRED and not with_kept:
        here |= {"now_ms": at_ms}
    rows = _PAGES[place.phase, ends is not None, not with_kept].run(connection, here | last).rows
    planned = [
        Planned(
            row.object_id,
            row.session_id,
            verdict_on(claims, at_ms),
            claims.policy.grace_s,
            Place(place.phase, row.at_ms, row.object_id),
        )
        for row, claims in _with_claims(connection, rows)
    ]
    walked = len(planned) if ends is None else limit
    return Plan(planned, walked, _next_of(place.phase, ends))


def _with_claims(connection: Connection, rows: Sequence[Any]) -> list[tuple[Any, Any]]:
    claims = claims_of(connection, rows) if rows else {}
    return [(row, claims[row.object_id]) for row in rows]


def _next_of(phase: Phase, ends: Any) -> Place | None:  # noqa: ANN401 - a row, or None
    if ends is not None:
        return Place(phase, ends.at_ms, ends.object_id)
    return Place(Phase.EXPIRED) if phase is Phase.DUE else None


def expire(connection: Connection, planned: Collection[Planned], at_ms: int) -> int:
    """Have objects expire that are due by that time, and by now: they can be had back until their
    grace is over. Return how many did.
    """
    now = min(at_ms, now_ms(connection))
    # Who holds a session locks it: what was answered before this waited is seen after.
    lock_sessions(connection, {each.session_id for each in planned})
    by_grace: dict[int, list[str]] = defaultdict(list)
    for each in planned:
        by_grace[each.grace_s].append(each.object_id)
    return sum(
        connection.execute(
            update(objects)
            .where(objects.c.object_id.in_(ids), _TO_EXPIRE, ~IS_HELD, ~IS_BEHIND)
            .where(objects.c.expires_ms <= now)
            .values(expired_ms=now, erase_after_ms=now + grace_s * 1000)
        ).rowcount
        for grace_s, ids in by_grace.items()
    )


def revive(connection: Connection, planned: Collection[Planned], at_ms: int) -> int:
    """Have objects readable again that expired by a clock that was ahead; return how many are."""
    now = min(at_ms, now_ms(connection))
    ids = [each.object_id for each in planned]
    return connection.execute(
        update(objects)
        .where(objects.c.object_id.in_(ids), _EXPIRED)
        .where(or_(objects.c.expires_ms.is_(None), objects.c.expires_ms > now))
        .values(expired_ms=None, erase_after_ms=None)
    ).rowcount


def count_due(connection: Connection, at_ms: int) -> Due:
    """Return how much is due to expire, or to be erased, at that time."""
    now = {"now_ms": at_ms}
    due, erasable = _DUE.run(connection, now).first(), _ERASABLE.run(connection, now).first()
    oldest = [row.oldest_ms for row in (due, erasable) if row.oldest_ms is not None]
    return Due(due.many, erasable.many, min(oldest, default=None))


def count_revivable(connection: Connection, at_ms: int) -> int:
    """Return how many expired by a clock that was ahead."""
    return int(_REVIVABLE.run(connection, {"now_ms": at_ms}).value())


def count_living(connection: Connection) -> int:
    """Return how many objects there are that are not erased."""
    return int(_LIVING.run(connection).value())
