"""Units on payloads of several segments whose common root is still to come to a node."""

from collections.abc import Collection

from sqlalchemy import Connection, and_, bindparam, delete, exists, or_, select

from .copies import PLACED
from .objects import is_committed
from .statements import Statement, insert_once
from .tables import placements, roots

_ALL_THERE = ~exists().where(
    placements.c.payload_id == roots.c.payload_id,
    placements.c.backend == roots.c.backend,
    placements.c.state != PLACED,
)
_CAN_COME = Statement(
    select(roots.c.backend).where(
        roots.c.payload_id == bindparam("payload_id_is"),
        roots.c.backend == bindparam("backend_is"),
        _ALL_THERE,
    )
)
_PAGE = Statement(
    select(roots)
    .where(
        or_(
            roots.c.payload_id > bindparam("after_payload"),
            and_(
                roots.c.payload_id == bindparam("after_payload"),
                roots.c.backend > bindparam("after_backend"),
            ),
        ),
        _ALL_THERE,
    )
    .order_by(roots.c.payload_id, roots.c.backend)
    .limit(bindparam("count"))
)
_DROP = Statement(
    delete(roots).where(
        roots.c.payload_id == bindparam("payload_id_is"),
        roots.c.backend == bindparam("backend_is"),
    )
)

RootKey = tuple[str, str]
"""A payload's id, and the name of a store."""


def expect_roots(connection: Connection, payload_id: str, backends: Collection[str]) -> None:
    """Note, with the payload's commit, that its root is to come to these stores."""
    for backend in backends:
        insert_once(connection, roots, {"payload_id": payload_id, "backend": backend})


def list_roots(connection: Connection, after: RootKey, limit: int) -> list[RootKey]:
    """Return a page of what is to come, and can: each segment is in that store. In order."""
    page = {"after_payload": after[0], "after_backend": after[1], "count": limit}
    return [(row.payload_id, row.backend) for row in _PAGE.run(connection, page)]


def can_come(connection: Connection, payload_id: str, backend: str) -> bool:
    """Tell whether a root is to come, and each segment is in that store."""
    wanted = {"payload_id_is": payload_id, "backend_is": backend}
    return _CAN_COME.run(connection, wanted).first() is not None


def has_come(connection: Connection, payload_id: str, backend: str) -> bool:
    """Note that a root has come. False when the payload was given up meanwhile: it is to go."""
    _DROP.run(connection, {"payload_id_is": payload_id, "backend_is": backend})
    return is_committed(connection, payload_id)
