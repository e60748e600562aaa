"""Units on what content-addressed stores were asked to keep, by its key."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from .statements import Statement, insert_once
from .tables import pins

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


def record_pin(connection: Connection, backend: str, payload_id: str, pin: PinRow) -> None:
    """Write down what a store is about to be asked for; again is the same.

    A key is written once, so what is there under it says the same.
    """
    row = {
        "backend": backend,
        "key": pin.key,
        "payload_id": payload_id,
        "root": pin.root,
        "size": pin.size,
        "leaf_digests": pin.leaf_digests,
    }
    insert_once(connection, pins, row)


def find_pin(connection: Connection, backend: str, key: str) -> PinRow | None:
    """Return what is written down of a key."""
    row = _PIN.run(connection, {"backend_is": backend, "key_is": key}).first()
    return None if row is None else PinRow(row.key, row.root, row.size, row.leaf_digests)


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
