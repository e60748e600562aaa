"""Units on passes: which process is at work on which of them, and how far it came.

A pass goes through everything in the order of a key, and has been through all of it once it came to
the end: a *round*. Who is at work holds a lease; it goes on where the one before stopped.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select, update

from .clock import now_ms
from .statements import Statement, insert_once
from .tables import passes

LEASE_S_MAX = 3600
"""No pass asks for a longer one."""

_PASS = Statement(select(passes).where(passes.c.name == bindparam("name_is")))
_TAKE = Statement(
    update(passes)
    .where(
        passes.c.name == bindparam("name_is"),
        or_(
            passes.c.turn_id == bindparam("turn_id_is"),
            passes.c.lease_until_ms <= bindparam("now_ms"),
            # No lease is as long: the clock was set back since.
            passes.c.lease_until_ms > bindparam("longest_ms"),
        ),
    )
    .values(turn_id=bindparam("turn_id_is"), lease_until_ms=bindparam("until_ms"))
)
_KEEP = Statement(
    update(passes)
    .where(
        passes.c.name == bindparam("name_is"),
        passes.c.turn_id == bindparam("turn_id_is"),
        passes.c.lease_until_ms > bindparam("now_ms"),
    )
    .values(lease_until_ms=bindparam("until_ms"), position=bindparam("new_position"))
)
_END_ROUND = Statement(
    update(passes)
    .where(passes.c.name == bindparam("name_is"))
    .values(round_ended_ms=bindparam("now_ms"))
)


@dataclass(frozen=True, slots=True)
class PassRow:
    """How far a pass came: behind which key, when it last came to the end, and the time it is."""

    position: str
    round_ended_ms: int | None
    now_ms: int


def take_pass(connection: Connection, name: str, turn_id: str, lease_s: float) -> PassRow | None:
    """Be the one who is at work on a pass; None while somebody else is."""
    now = now_ms(connection)
    row = {"name": name, "turn_id": turn_id, "lease_until_ms": now, "position": ""}
    insert_once(connection, passes, row)
    wanted = {
        "now_ms": now,
        "until_ms": now + int(lease_s * 1000),
        "longest_ms": now + LEASE_S_MAX * 1000,
    }
    mine = {"name_is": name, "turn_id_is": turn_id}
    if _TAKE.run(connection, mine | wanted).changed != 1:
        return None
    return find_pass(connection, name)


def find_pass(connection: Connection, name: str) -> PassRow | None:
    """Return how far a pass came; None when it never began."""
    row = _PASS.run(connection, {"name_is": name}).first()
    if row is None:
        return None
    return PassRow(row.position, row.round_ended_ms, now_ms(connection))


def keep_pass(
    connection: Connection, name: str, turn_id: str, lease_s: float, position: str
) -> bool:
    """Note how far it came and hold the lease on; False when it was lost: stop at once."""
    now = now_ms(connection)
    kept = {"until_ms": now + int(lease_s * 1000), "new_position": position, "now_ms": now}
    mine = {"name_is": name, "turn_id_is": turn_id}
    return _KEEP.run(connection, mine | kept).changed == 1


def leave_pass(connection: Connection, name: str, turn_id: str, *, ended: bool) -> None:
    """Give the lease back; ``ended`` says that the round did: the next one begins in front."""
    now = now_ms(connection)
    found = find_pass(connection, name)
    position = "" if ended or found is None else found.position
    # Not the time it is: a clock that is set back would keep everybody out until it is that again.
    kept = {"until_ms": 0, "new_position": position, "now_ms": now}
    mine = {"name_is": name, "turn_id_is": turn_id}
    if _KEEP.run(connection, mine | kept).changed == 1 and ended:
        _END_ROUND.run(connection, {"name_is": name, "now_ms": now})
