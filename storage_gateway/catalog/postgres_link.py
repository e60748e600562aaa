"""One connection to PostgreSQL, which waits for the server only as long as the unit may take."""

import time
from typing import Any, Final, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.abc import PQGen

from storage_gateway.database_url import DatabaseURL

T = TypeVar("T")

UNIT_S_MAX: Final = 10.0
"""How long a unit may take with all its waiting, as long as SQLite's units wait for each other."""
CONNECT_S_MAX = 5
STATEMENT_MS_MAX = 9_000
"""Shorter than a unit's time: the server then says that it gave up, and nothing is left open."""
IDLE_MS_MAX = 5_000
"""How long the locks of a process that was paused within a unit keep others waiting: shorter than
a lease, so that nobody else loses his own by it."""

DEFAULTS: dict[str, str | int] = {
    "application_name": "storage-gateway",
    "connect_timeout": CONNECT_S_MAX,
    "gssencmode": "disable",
    "target_session_attrs": "read-write",  # never a standby
    "tcp_user_timeout": int(UNIT_S_MAX * 1000),
}
_SETTINGS = """
SELECT set_config('statement_timeout', %(statement)s, false),
       set_config('lock_timeout', %(statement)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle)s, false),
       set_config('synchronous_commit',
                  replace(current_setting('synchronous_commit'), 'off', 'on'), false),
       current_schema()
"""


class Link(psycopg.Connection[Any]):
    """A connection with a deadline. What does not come in time closes it.

    A server that hangs sends nothing and closes nothing, so its own timeouts do not help.
    """

    _deadline = 0.0

    def begin_unit(self, deadline: float) -> None:
        """Wait no longer than this, by `time.monotonic`."""
        self._deadline = deadline

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server; psycopg calls this for all that it asks.

        Raises:
            psycopg.OperationalError: the time is over; the connection is closed.

        """
        left_s = max(0.0, self._deadline - time.monotonic())
        try:
            return super().wait(gen, interval, left_s if timeout is None else min(left_s, timeout))
        except psycopg.OperationalError:
            if time.monotonic() >= self._deadline:
                self.pgconn.finish()
            raise


def connect(url: DatabaseURL, *, writing: bool) -> Link:
    """Connect, and settle what every transaction of the connection depends on.

    Raises:
        psycopg.OperationalError: the server cannot be reached, does not let us in, or does not put
            us into the schema that the URL asks for.

    """
    link = Link.connect(**(DEFAULTS | url.expose()))  # type: ignore[arg-type]  # libpq's own names
    link.begin_unit(time.monotonic() + UNIT_S_MAX)
    settings = {"statement": str(STATEMENT_MS_MAX), "idle": str(IDLE_MS_MAX)}
    found = link.execute(_SETTINGS, settings).fetchone()
    link.commit()
    if url.schema is not None and (found is None or found[-1] != url.schema):
        # A pooler may drop what a client asks for as it connects: these tables would be others'.
        link.close()
        raise psycopg.OperationalError(
            f"the connection is not in the schema {url.schema}: it was dropped, or a pooler between"
            " ignores the search path: name the server itself in catalog_url"
        )
    # A reader sees one moment; a writer waits for others' rows and then sees what they became.
    link.isolation_level = (
        IsolationLevel.READ_COMMITTED if writing else IsolationLevel.REPEATABLE_READ
    )
    link.read_only = not writing
    return link
