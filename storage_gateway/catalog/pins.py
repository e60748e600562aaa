"""Units on what content-addressed stores were asked to keep, by its key."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from .objects import is_committed
from .statements import Statement, insert_once
from .tables import pins
from .work import find_intent, has_grave

_PIN = Statement(
    select(pins).where(pins.c.backend == bindparam("backend_is"), pins.c.key == bindparam("key_is"))
)
_PAGE = Statement(
    select(pins)
    .where(
        pins.c.backend == bindparam("backend_is"),
        pins.c.key > bindparam("after"),
        pins.c.key < bindparam("end"),
    )
    .order_by(pins.c.key)
    .limit(bindparam("count"))
)


@dataclass(frozen=True, slots=True)
class PinRow:
    """A key, and the root that keeps what is under it; ``leaf_digests`` are joined."""

    key: str
    root: str
    size: int
    leaf_digests: bytes


def record_pin(connection: Connection, backend: str, payload_id: str, pin: PinRow) -> bool:
    """Write down what a store is about to be asked for; again is the same.

    False, and nothing is written, where nothing names the payload any more, as nothing would ever
    remove the pin; or where the key is of something else, as it is written once.
    """
    if not _is_named(connection, payload_id):
        return False
    row = {
        "backend": backend,
        "key": pin.key,
        "payload_id": payload_id,
        "root": pin.root,
        "size": pin.size,
        "leaf_digests": pin.leaf_digests,
    }
    if insert_once(connection, pins, row):
        return True
    found = find_pin(connection, backend, pin.key)
    return found is not None and found.root == pin.root


def _is_named(connection: Connection, payload_id: str) -> bool:
    return (
        find_intent(connection, payload_id) is not None
        or has_grave(connection, payload_id)
        or is_committed(connection, payload_id)
    )


def find_pin(connection: Connection, backend: str, key: str) -> PinRow | None:
    """Return what is written down of a key."""
    row = _PIN.run(connection, {"backend_is": backend, "key_is": key}).first()
    return None if row is None else PinRow(row.key, row.root, row.size, row.leaf_digests)


def keys_of_roots(connection: Connection, backend: str, roots: Collection[str]) -> dict[str, str]:
    """Return, of those of the roots that are written down, under which key each keeps something.

    There is no index of roots: all rows of the store are gone through, so ask for many at once.
    """
    query = select(pins.c.root, pins.c.key).where(pins.c.backend == backend, pins.c.root.in_(roots))
    return {row.root: row.key for row in connection.execute(query)}


def list_pins(
    connection: Connection, backend: str, prefix: str, after: str, limit: int
) -> list[PinRow]:
    """Return a page of what is below a prefix, a whole folder name ending in ``/``, by key."""
    # "0" is the character after "/": the keys of the folder are between them, in bytes.
    end = f"{prefix.removesuffix('/')}0" if prefix else "\U0010ffff"
    page = {"backend_is": backend, "after": max(after, prefix), "end": end, "count": limit}
    return [
        PinRow(row.key, row.root, row.size, row.leaf_digests) for row in _PAGE.run(connection, page)
    ]
