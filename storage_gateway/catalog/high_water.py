"""Units on whether a catalog is the newest that there is, or an old one that was put back."""

from sqlalchemy import Connection, select

from .statements import Statement
from .tables import deployment

_BEHIND = Statement(select(deployment.c.behind_ms))


def is_behind(connection: Connection) -> bool:
    """Tell whether the stores were found to have seen a later state of this catalog.

    What such a catalog does not name may be what was committed since it was copied: nothing may be
    given up on its word.
    """
    return _BEHIND.run(connection).value() is not None
