"""Clearing dropped heads out of the files of PostgreSQL's tables.

PostgreSQL never writes over a row: an UPDATE leaves the old version on its page, and VACUUM leaves
its bytes there, in what is then free space. Only VACUUM FULL, which writes the living rows into a
new file and removes the old one, leaves no file of a table that holds them. It keeps everybody out
of the table meanwhile, so it does not wait for its turn, ends before others give up, and takes at
most a twentieth of the time.

The write-ahead log holds them too, until the server removes its older files. It is asked to, where
our role has the rights. What that does not reach: files of the log that the server keeps or uses
again, archives, replicas, backups, and blocks that the file system freed. docs/retention.md has the
list, and the settings that bound it.
"""

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from storage_gateway.database_url import DatabaseURL
from storage_gateway.errors import CatalogUnavailable

from .postgres_link import Link, connect

logger = logging.getLogger(__name__)

LOCK_PATIENCE_MS = 200
VACUUM_S_MAX = 300.0
FULL_BYTES_MAX = 2 << 30
"""Of the tables together, some two million manifests. Larger ones are only vacuumed: no disk
rewrites them in time. Their pages are not called clean."""
FULL_MS_MAX = 5_000
"""How long a rewrite may keep everybody out: shorter than a lease, and than a request waits."""
WATCH_CLIENT_MS = 1000
"""How often the server looks, in the midst of a rewrite, whether we are still there."""
SHARE = 20
"""All processes together are at it for one part in so many of the time."""
REST_LATE_S = 3600.0
"""After a rewrite that could not be done in time, and kept everybody out for nothing."""
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
_TABLES = ("objects", "kept_headers")
"""Those that hold heads."""
_SIZE_AND_LIVING = f"""
SELECT {" + ".join(f"pg_table_size('{table}')" for table in _TABLES)}, (
    SELECT greatest(count(*), 1) FROM instances
    WHERE lease_until_ms > extract(epoch FROM clock_timestamp()) * 1000
)
"""  # noqa: S608 - nothing in it comes from outside
_LOG_KEPT_BY = """
SELECT name FROM pg_settings
WHERE (name, setting) = ('wal_recycle', 'on') OR (name = 'archive_mode' AND setting <> 'off')
    OR (name IN ('wal_keep_size', 'wal_keep_segments') AND setting <> '0')
UNION ALL SELECT 'replication_slots' WHERE EXISTS (SELECT FROM pg_replication_slots)
UNION ALL SELECT 'replicas' WHERE EXISTS (SELECT FROM pg_stat_replication)
"""
"""All of it may be read by any role."""
_CUT = {"SELECT pg_switch_wal()": "no_switch", "CHECKPOINT": "no_checkpoint"}
"""What lets the server remove files of its log, each with what is said where our role may not."""


class PageCleaner:
    """Rewrites the tables that hold heads, when it is asked and may."""

    def __init__(self, url: DatabaseURL) -> None:
        """Nobody is asked before `clean`."""
        self._url = url
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._living = 1
        """How many processes clean the pages of this database."""
        self.log_kept_by = frozenset[str]()
        """Why the server's log may hold what was erased from pages, when it was last cut."""
        self._state = threading.Lock()
        self._closed = False
        self._socket: socket.socket | None = None
        """The connection that is waited on, under a descriptor of our own."""

    def clean(self) -> bool:
        """Rewrite the tables; False when that must wait, or when a version is still needed.

        False, too, while they are too large or the disk too slow: an operator's own VACUUM FULL
        is not seen.

        Raises:
            CatalogUnavailable: it cannot be done.

        """
        with self._lock:
            if self._closed or time.monotonic() < self._rest_until:
                return False
            began = time.monotonic()
            try:
                return self._rewrite()
            except psycopg.Error as error:
                code = error.sqlstate
            finally:
                ended = time.monotonic()
                self._rest_until = ended + (SHARE * self._living - 1) * (ended - began)
            if code == LOCK_NOT_AVAILABLE:
                return False
            if code == QUERY_CANCELED:
                logger.warning("catalog not rewritten in time", extra={"ms": FULL_MS_MAX})
                self._rest_until = ended + REST_LATE_S
                return False
        raise CatalogUnavailable(f"the catalog's pages cannot be cleaned (SQLSTATE {code})")

    def close(self) -> None:
        """Break off what `clean` waits for in another thread, and refuse it from now on."""
        with self._state:
            self._closed = True
            if self._socket is not None:
                with suppress(OSError):  # the server was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _breakable(self, link: Link) -> Iterator[None]:
        """Let `close` break the connection off.

        By a copy of its descriptor: libpq closes its own whenever it likes, and the number may be
        another file's by the time that `close` uses it.
        """
        with socket.socket(fileno=os.dup(link.fileno())) as copy:
            with self._state:
                if self._closed:
                    raise CatalogUnavailable("the catalog is closed")
                self._socket = copy
            try:
                yield
            finally:
                with self._state:
                    self._socket = None

    def _rewrite(self) -> bool:
        details: list[str] = []
        with connect(self._url, writing=True) as link, self._breakable(link):
            link.begin_unit(time.monotonic() + VACUUM_S_MAX)
            link.autocommit = True
            # Else it goes on, and keeps everybody out, after we were broken off or killed. Not on
            # every system can the server look.
            with suppress(psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
                link.execute(f"SET client_connection_check_interval = {WATCH_CLIENT_MS}")
            link.execute("SET statement_timeout = 0")
            link.execute(f"SET lock_timeout = {LOCK_PATIENCE_MS}")
            link.add_notice_handler(lambda notice: details.append(notice.message_detail or ""))
            (size, self._living) = link.execute(_SIZE_AND_LIVING).fetchone() or (0, 1)
            if size > FULL_BYTES_MAX:
                logger.warning("catalog too large to rewrite", extra={"bytes": size})
                link.execute(f"VACUUM {', '.join(_TABLES)}")
                return False
            link.execute(f"SET statement_timeout = {FULL_MS_MAX}")
            link.execute(f"VACUUM (FULL, VERBOSE) {', '.join(_TABLES)}")
            if _kept_versions(details) != [0] * len(_TABLES):
                return False
            link.execute("SET statement_timeout = 0")
            self._cut_log(link)
        return True

    def _cut_log(self, link: Link) -> None:
        """Let the server remove what it needs no more of its log, where that is its way; the heads
        that the rewrite left out are in no later part of it.
        """
        kept_by = {row[0] for row in link.execute(_LOG_KEPT_BY)}
        for statement, right in _CUT.items():
            try:
                link.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                kept_by.add(right)
        if kept_by != self.log_kept_by:
            logger.warning("the catalog's server keeps its log", extra={"because": sorted(kept_by)})
        self.log_kept_by = frozenset(kept_by)


def _kept_versions(details: list[str]) -> list[int]:
    """Return how many dead row versions VACUUM kept of each table because a transaction may still
    see them.

    It tells nowhere else. The number comes first in the notice's detail, in every language that the
    server speaks ("3 dead row versions cannot be removed yet.").
    """
    told = (re.match(r"\D*(\d+)", detail) for detail in details)
    return [int(found.group(1)) for found in told if found]
