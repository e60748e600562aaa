"""Units on the high-water mark: whether this catalog is the newest that the stores have seen.

The mark is a number that is raised in the catalog first and in the stores after. So stores that
have a higher one have seen a later state of the catalog than it is in: an old backup was restored.
What such a catalog does not name may be objects that were acknowledged, so nothing is destroyed on
its word until it was made whole again (`rebuild`).
"""

from sqlalchemy import Connection, bindparam, exists, select, update

from .clock import now_ms
from .statements import Statement
from .tables import deployment

IS_BEHIND = exists().where(deployment.c.behind_ms.is_not(None))
"""For statements that must change nothing then."""

_FOUND = Statement(select(deployment.c.high_water, deployment.c.behind_ms))
_RAISE = Statement(
    update(deployment)
    .where(deployment.c.high_water == bindparam("seen"), deployment.c.behind_ms.is_(None))
    .values(high_water=bindparam("new_mark"))
)
_SET_BEHIND = Statement(
    update(deployment).where(deployment.c.behind_ms.is_(None)).values(behind_ms=bindparam("now_ms"))
)
_CLEAR = Statement(
    update(deployment).values(high_water=bindparam("new_mark"), behind_ms=bindparam("none"))
)


def high_water(connection: Connection) -> int:
    """Return the catalog's mark."""
    row = _FOUND.run(connection).first()
    return 0 if row is None else int(row.high_water)


def is_behind(connection: Connection) -> bool:
    """Tell whether the stores were seen to be ahead of this catalog."""
    row = _FOUND.run(connection).first()
    return row is not None and row.behind_ms is not None


def raise_mark(connection: Connection) -> int | None:
    """Raise the mark by one; None when it is behind, or another process was faster."""
    seen = high_water(connection)
    if _RAISE.run(connection, {"seen": seen, "new_mark": seen + 1}).changed != 1:
        return None
    return seen + 1


def set_behind(connection: Connection) -> bool:
    """Note that the stores are ahead; False when that was known."""
    return _SET_BEHIND.run(connection, {"now_ms": now_ms(connection)}).changed == 1


def clear_behind(connection: Connection, seen: int) -> None:
    """Note that the catalog was made whole, from stores whose highest mark was ``seen``."""
    _CLEAR.run(connection, {"new_mark": max(seen, high_water(connection)), "none": None})
