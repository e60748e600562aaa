"""Units that dig graves and start their wait anew; `work` goes through them, and closes them."""

from sqlalchemy import Connection, bindparam, update

from .clock import now_ms
from .statements import Statement, insert_once
from .tables import graves

ABORTED = "aborted"
ERASED = "erased"
SUPERSEDED = "superseded"
"""Another payload has taken its place."""

_GRAVE = update(graves).where(graves.c.payload_id == bindparam("payload_id_is"))
_DIG_AGAIN = Statement(_GRAVE.values(buried_ms=bindparam("now_ms"), reason=bindparam("new_reason")))
_DOOM = Statement(_GRAVE.values(doomed_until_ms=bindparam("until_ms")))
_HASTEN = Statement(
    update(graves)
    .where(graves.c.object_id == bindparam("object_id_is"))
    .values(doomed_until_ms=None)
)
_TOUCH_GRAVE = Statement(_GRAVE.values(buried_ms=bindparam("now_ms")))


def dig_grave(
    connection: Connection, payload_id: str, object_id: str, reason: str, *, doomed_s: float = 0.0
) -> None:
    """Give a payload up, for ``reason``; where it was given up before, its wait starts anew, for
    this reason: with a grave of an upload no object would ever be erased.

    For ``doomed_s`` seconds nothing of it is deleted: there may be readers.
    """
    now = now_ms(connection)
    grave = {"payload_id": payload_id, "object_id": object_id, "reason": reason}
    if not insert_once(connection, graves, grave | {"buried_ms": now}):
        again = {"payload_id_is": payload_id, "new_reason": reason, "now_ms": now}
        _DIG_AGAIN.run(connection, again)
    if doomed_s > 0:
        until_ms = now + int(doomed_s * 1000)
        _DOOM.run(connection, {"payload_id_is": payload_id, "until_ms": until_ms})


def hasten_graves(connection: Connection, object_id: str) -> None:
    """Let nobody read any more what of an object was superseded: it is erased."""
    _HASTEN.run(connection, {"object_id_is": object_id})


def touch_grave(connection: Connection, payload_id: str) -> None:
    """Start a grave's wait anew: something was just deleted under its payload id."""
    _TOUCH_GRAVE.run(connection, {"payload_id_is": payload_id, "now_ms": now_ms(connection)})
