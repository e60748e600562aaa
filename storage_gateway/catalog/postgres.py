"""The catalog in a PostgreSQL database, for any number of processes on any number of machines.

Each unit is one READ COMMITTED transaction of its own, in a thread with a connection of its own.
The server makes waiting COMMITs durable together, so there is no grouping here. What is lost before
COMMIT was sent took no effect, and is run again; what is lost after may have taken effect, and the
caller is told to read it back. Decision 0014 has the reasons.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from storage_gateway.database_url import DatabaseURL
from storage_gateway.errors import CatalogUnavailable, StorageFull

from .answers import bearable
from .clock import Clock, attach_clock, true_time
from .contract import Catalog, Unit, accept
from .postgres_link import UNIT_S_MAX, Link, connect
from .postgres_pages import PageCleaner
from .schema import prepare_schema, require_schema, schema_version
from .tables import SCHEMA_VERSION

T = TypeVar("T")

WRITERS = 8
READERS = 4
MIGRATION_S_MAX = 3600.0
LONG_IDLE_MS_MAX = 60_000
"""How long one that is paused in a migration or a copy keeps the next from trying."""
RETRIES_MAX = 6
LATE = "the catalog did not answer in time"
RETRY_S_FIRST = 0.02
MIGRATION_LOCK = 0x73746F7261676577
"""Of the advisory lock under which a schema is made and migrated, "storagew". Each schema of a
database has a lock of its own: a stress run must not wait for the deployment, nor let it wait."""

# SQLSTATE codes and classes, https://www.postgresql.org/docs/current/errcodes-appendix.html
UNDONE_BY_OTHERS = frozenset({"40001", "40P01"})
"""Serialisation failure, deadlock: nobody's fault, and to be run again."""
DISK_FULL = "53100"
NO_RIGHT = "42501"
CONNECTION_CLASSES = ("08", "57P")
"""The connection broke, or the server was told to end it, or is starting up or shutting down."""


class PostgresCatalog(Catalog):
    """One database. Open it with `PostgresCatalog.open`; `close` waits for what was begun."""

    kind = "postgresql"

    def __init__(self, url: DatabaseURL, *, clock: Clock = true_time) -> None:
        """Prepare; nobody is asked before `open`."""
        self._where = str(url)
        self._writer_engine = _make_engine(url, WRITERS, clock, writing=True)
        self._reader_engine = _make_engine(url, READERS, clock, writing=False)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="catalog-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="catalog-read")
        self._pages = PageCleaner(url)
        self._abandoned: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closing = False

    @classmethod
    def open(
        cls,
        url: DatabaseURL,
        *,
        clock: Clock = true_time,
        as_it_is: bool = False,
        check: Unit[None] = accept,
    ) -> Self:
        """Open the catalog at ``url``; makes or migrates its tables; checks that it is durable.

        ``as_it_is``: makes and migrates nothing, and refuses what would need it. ``check`` looks at
        what is there before anything is made, and raises to refuse it.

        Raises:
            CatalogUnavailable: it cannot be used as it is; the text says why, without secrets.

        """
        catalog = cls(url, clock=clock)
        try:
            with catalog._writer_engine.connect() as connection, connection.begin():
                _refuse_what_forgets(connection, catalog._where)
                check(connection)
                if as_it_is:
                    require_schema(connection, catalog._where)
                known = schema_version(connection) == SCHEMA_VERSION
            if not known:
                attempt = _Attempt(catalog._writer_engine, time.monotonic() + MIGRATION_S_MAX)
                attempt.run(_unhurried(partial(_migrate, where=catalog._where)))
        except SQLAlchemyError as error:
            catalog.close()
            raise CatalogUnavailable(f"{catalog._where}: {_first_line(error)}") from None
        except BaseException:
            catalog.close()
            raise
        return catalog

    async def run(self, unit: Unit[T]) -> T:
        """See `Catalog.run`."""
        return await self._wait(self._submit(unit))

    def run_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.run_blocking`."""
        return _outcome(self._submit(unit))

    def run_long(self, unit: Unit[T], *, within_s: float) -> T:
        """As `run_blocking`, on the calling thread, once, for as long as ``within_s``."""
        attempt = _Attempt(self._writer_engine, time.monotonic() + within_s)
        try:
            return attempt.run(_unhurried(unit))
        except SQLAlchemyError as error:
            failure = error
        raise _lost_in_commit() if attempt.is_unknown(failure) else _translate(failure)

    async def read(self, unit: Unit[T]) -> T:
        """See `Catalog.read`."""
        return await self._wait(self._begin(self._readers, self._read, unit))

    def read_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.read_blocking`."""
        return _outcome(self._begin(self._readers, self._read, unit))

    def clean_pages(self) -> bool:
        """Rewrite the table of manifests, so that no file of a table holds a dropped head.

        `postgres_pages` says what that does not reach: WAL, archives, replicas, free disk blocks.
        """
        return self._pages.clean()

    @property
    def log_kept_by(self) -> frozenset[str]:
        """See `Catalog.log_kept_by`."""
        return self._pages.log_kept_by

    def close(self) -> None:
        """See `Catalog.close`."""
        with self._lock:
            self._closing = True
        self._pages.close()
        self._writers.shutdown()
        self._readers.shutdown()
        self._writer_engine.dispose()
        self._reader_engine.dispose()

    def _submit(self, unit: Unit[T]) -> Future[T]:
        with self._lock:
            before = set(self._abandoned)
        return self._begin(self._writers, partial(self._write, before), unit)

    def _begin(
        self, threads: ThreadPoolExecutor, work: Callable[[Unit[T], float], T], unit: Unit[T]
    ) -> Future[T]:
        with self._lock:
            if self._closing:
                raise CatalogUnavailable("the catalog is closed")
            return threads.submit(work, unit, time.monotonic() + UNIT_S_MAX)

    async def _wait(self, future: Future[T]) -> T:
        """Wait for a unit, at most `UNIT_S_MAX`: what a server that hangs will not end by itself.

        What is not waited for to the end, here or by a caller that is cancelled, is dropped from
        the queue. If it runs already it is remembered: units that come later see what it did.
        """
        wrapped = asyncio.wrap_future(future)
        try:
            await asyncio.wait({wrapped}, timeout=UNIT_S_MAX)
            if not wrapped.done():
                raise CatalogUnavailable(LATE)
            return wrapped.result()
        finally:
            if not wrapped.done():
                wrapped.cancel()
                if not future.cancel():
                    self._remember(future)
            del wrapped, future  # their error holds this frame; see `raising`

    def _remember(self, future: Future[Any]) -> None:
        with self._lock:
            self._abandoned.add(future)
        future.add_done_callback(self._forget)

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._abandoned.discard(future)

    def _write(self, before: set[Future[Any]], unit: Unit[T], deadline: float) -> T:
        if wait(before, max(0.0, deadline - time.monotonic())).not_done:
            raise CatalogUnavailable(LATE)
        return _run(self._writer_engine, unit, deadline, writing=True)

    def _read(self, unit: Unit[T], deadline: float) -> T:
        return _run(self._reader_engine, unit, deadline, writing=False)


def _unhurried(unit: Unit[T]) -> Unit[T]:
    """Return the unit without the server's limits, which are for one that others wait for.

    It may also do something else between two statements, as to read the migrations from disk.
    """

    def unhurried(connection: Connection) -> T:
        for setting in ("statement_timeout", "lock_timeout"):
            connection.execute(text(f"SET LOCAL {setting} = 0"))
        idle = "SET LOCAL idle_in_transaction_session_timeout"
        connection.execute(text(f"{idle} = {LONG_IDLE_MS_MAX}"))
        return unit(connection)

    return unhurried


def _outcome(future: Future[T]) -> T:
    try:
        return future.result(UNIT_S_MAX + 1)
    except TimeoutError:
        raise CatalogUnavailable(LATE) from None


def _run(engine: Engine, unit: Unit[T], deadline: float, *, writing: bool) -> T:
    """Run a unit until it took effect, was refused, or may not be run again.

    Waits between the tries with full jitter, so that those who met do not meet again.
    """
    retries = 0
    while True:
        attempt = _Attempt(engine, deadline)
        try:
            return attempt.run(unit)
        except SQLAlchemyError as error:
            failure = error
        # Out here, so that no error carries along what the server said: it may quote a row.
        if writing and attempt.is_unknown(failure):
            raise _lost_in_commit()
        wait_s = RETRY_S_FIRST * 2**retries * secrets.randbelow(1000) / 1000
        retries += 1
        late = time.monotonic() + wait_s >= deadline
        if late or retries > RETRIES_MAX or not _may_be_run_again(failure):
            raise _translate(failure)
        time.sleep(wait_s)


class _Attempt:
    """One transaction, and how far it came."""

    def __init__(self, engine: Engine, deadline: float) -> None:
        self._engine = engine
        self._deadline = deadline
        self._committing = False

    def run(self, unit: Unit[T]) -> T:
        with self._engine.connect() as connection:
            link = _link(connection)
            link.begin_unit(self._deadline)
            transaction = connection.begin()
            try:
                answer = unit(connection)
            except BaseException as error:
                # In no local: it would be held by the frame that it holds; see `raising`.
                if bearable(error) is error:
                    raise
                raise bearable(error) from error
            if link.info.transaction_status == TransactionStatus.INERROR:
                # The unit swallowed an error: PostgreSQL would take COMMIT for ROLLBACK, silently.
                raise CatalogUnavailable("the catalog refused a statement of the transaction")
            self._committing = True
            transaction.commit()
            return answer

    def is_unknown(self, error: SQLAlchemyError) -> bool:
        """Tell whether, after this error, it cannot be known if the transaction took effect."""
        return self._committing and not _refused(error)


def _lost_in_commit() -> CatalogUnavailable:
    return CatalogUnavailable(
        "the connection was lost in a COMMIT: whether it took effect must be read back"
    )


def _refused(error: SQLAlchemyError) -> bool:
    """Tell whether the server answered a COMMIT with an error: then nothing took effect.

    Not so when it ended the connection (FATAL), which may happen after the COMMIT was durable.
    """
    orig = getattr(error, "orig", None)
    return isinstance(orig, psycopg.Error) and orig.diag.severity_nonlocalized == "ERROR"


def _may_be_run_again(error: SQLAlchemyError) -> bool:
    """Tell whether an error that undid a transaction says nothing against running it again."""
    if not isinstance(error, DBAPIError):
        return False
    code = _sqlstate(error)
    if not code:  # as when no connection could be made, with too many open for example
        return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError)
    return (
        error.connection_invalidated
        or code in UNDONE_BY_OTHERS
        or code.startswith(CONNECTION_CLASSES)
    )


def _translate(error: SQLAlchemyError) -> Exception:
    code = _sqlstate(error)
    if code == DISK_FULL:
        return StorageFull("the disk under the catalog is full")
    if code:
        return CatalogUnavailable(f"the catalog refused a transaction (SQLSTATE {code})")
    return CatalogUnavailable(f"the catalog did not answer ({type(error).__name__})")


def _sqlstate(error: SQLAlchemyError) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _link(connection: Connection) -> Link:
    link: object = connection.connection.dbapi_connection
    if not isinstance(link, Link):
        raise CatalogUnavailable("the connection to the catalog was lost")
    return link


def _make_engine(url: DatabaseURL, connections: int, clock: Clock, *, writing: bool) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, writing=writing),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=1,  # `open` is not one of the threads
        use_native_hstore=False,
        # Error texts would carry heads and names into traces.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(_raw: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the DBAPI's
        attach_clock(entry.info, clock)

    return engine


def _refuse_what_forgets(connection: Connection, where: str) -> None:
    """Refuse a server whose COMMITs a power cut can undo.

    Without ``synchronous_commit`` answers come before they are durable: `connect` sets it for us.
    """
    if connection.execute(text("SHOW fsync")).scalar_one() != "on":
        raise CatalogUnavailable(
            f"{where} runs with fsync = off and would lose answered uploads in a power cut: turn it"
            " on in postgresql.conf"
        )


def _migrate(connection: Connection, where: str) -> None:
    """Migrate, one process at a time."""
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), :key))")
    connection.execute(lock, {"key": MIGRATION_LOCK})
    prepare_schema(connection, where)


def _first_line(error: SQLAlchemyError) -> str:
    code = _sqlstate(error)
    orig = getattr(error, "orig", None)
    if isinstance(orig, psycopg.Error) and code:
        remedy = ": give the role the right CREATE on its schema" if code == NO_RIGHT else ""
        return f"{orig.diag.message_primary} (SQLSTATE {code}){remedy}"
    return str(orig).strip().partition("\n")[0]
