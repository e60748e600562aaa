"""Which objects of a session are not wrapped for the keys that are current."""

from sqlalchemy import ColumnElement, Connection, select

from storage_gateway.records import Session

from .tables import objects, wraps
from .wraps import parties_of


def awaiting_rewrap(connection: Connection, session: Session) -> ColumnElement[bool]:
    """Return what is true of the session's objects whose head is for outdated key versions.

    By the ids of sets, of which there are few: no object's list of parties is read.
    """
    query = select(wraps).where(wraps.c.session_id == session.session_id)
    outdated = []
    for row in connection.execute(query):
        parties = parties_of(row.parties)
        if session.at_present(parties) != parties:
            outdated.append(row.wrap_id)
    return objects.c.wrap_id.in_(outdated)
