"""The catalog in one SQLite file, for one process or several on the same machine.

One thread owns the one writing connection and puts up to 64 waiting units into one transaction,
each in a savepoint of its own (group commit). A unit's answer is released only after COMMIT
returned: an answer that was seen is durable (WAL with ``synchronous=FULL``). Those who read wait
for two threads, each with a connection of its own, which takes what waits in one transaction too.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from storage_gateway.errors import CatalogUnavailable, StorageFull

from .answers import Answer, Outcome, release
from .clock import Clock, attach_clock, true_time
from .contract import Catalog, Unit, accept
from .schema import prepare_schema, require_schema

T = TypeVar("T")

GROUP_UNITS_MAX = 64
READERS = 2
READ_UNITS_MAX = 8
"""In one transaction. Few: a unit that takes long keeps those beside it waiting."""
BUSY_TIMEOUT_MS = 10_000
CHECKPOINT_PATIENCE_S = 0.2
CLOSED = "the catalog is closed"
_PRIMARY_CODE = 0xFF
"""The low byte of an SQLite error code; the others say more precisely where."""


class SQLiteCatalog(Catalog):
    """One SQLite file. Open it with `SQLiteCatalog.open`; `close` waits for what was begun."""

    kind = "sqlite"

    def __init__(self, path: Path, *, clock: Clock = true_time) -> None:
        """Prepare; no file is touched before `open`."""
        self._path = path
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._writer_engine = _make_engine(path, writing=True, clock=clock)
        self._reader_engine = _make_engine(path, writing=False, clock=clock)
        self._read_queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        # A daemon: a program that ends without closing the catalog must end all the same. What is
        # then cut off is a transaction whose answer nobody got.
        self._writer = threading.Thread(
            target=self._write_forever, name="catalog-write", daemon=True
        )
        self._readers = [
            threading.Thread(target=self._read_forever, name="catalog-read", daemon=True)
            for _ in range(READERS)
        ]
        # To ask and to close: what comes after the end of the queue would never be answered.
        self._lock = threading.Lock()
        self._closing = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock = true_time,
        as_it_is: bool = False,
        check: Unit[None] = accept,
    ) -> Self:
        """Open or create the catalog at ``path``; makes or migrates its tables.

        ``as_it_is``: makes and migrates nothing, and refuses what would need it. ``check`` looks at
        a file that is there before anything is made, and raises to refuse it.

        Raises:
            CatalogUnavailable: the file cannot be used, or is of another schema version.

        """
        catalog = cls(path, clock=clock)
        try:
            if path.exists():  # to look at it would make it
                with catalog._reader_engine.begin() as connection:
                    check(connection)
                    if as_it_is:
                        require_schema(connection, str(path))
            elif as_it_is:
                raise CatalogUnavailable(f"{path} holds no catalog; nothing was made")
            if not as_it_is:
                with catalog._writer_engine.begin() as connection:
                    prepare_schema(connection, str(path))
        except (DBAPIError, sqlite3.Error) as error:
            catalog._dispose()
            raise CatalogUnavailable(f"{path}: {getattr(error, 'orig', error)}") from error
        except BaseException:
            catalog._dispose()
            raise
        for thread in (catalog._writer, *catalog._readers):
            thread.start()
        return catalog

    async def run(self, unit: Unit[T]) -> T:
        """See `Catalog.run`."""
        return await self._ask(self._queue, unit)

    def run_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.run_blocking`."""
        return self._submit(unit).result()

    def _submit(self, unit: Unit[T]) -> Future[T]:
        future: Future[T] = Future()
        self._enqueue(self._queue, unit, future)
        return future

    async def read(self, unit: Unit[T]) -> T:
        """See `Catalog.read`."""
        return await self._ask(self._read_queue, unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        """See `Catalog.read_blocking`."""
        future: Future[T] = Future()
        self._enqueue(self._read_queue, unit, future)
        return future.result()

    async def _ask(self, asked: "_Queue", unit: Unit[T]) -> T:
        answer: Answer[T] = Answer(asyncio.get_running_loop())
        self._enqueue(asked, unit, answer)
        try:
            return await answer.waiter
        finally:
            del answer  # its error holds this frame; see `raising`

    def _enqueue(self, asked: "_Queue", unit: Unit[T], answer: "Future[T] | Answer[T]") -> None:
        with self._lock:
            if self._closing:
                raise CatalogUnavailable(CLOSED)
            asked.put((unit, answer))

    def clean_pages(self) -> bool:
        """Write the whole log back, so that no page of it holds what was deleted.

        Together with ``secure_delete`` (freed bytes are zeroed) this is what lets the gateway say
        "erased". Returns False while a reader still needs the log; ask again later.

        Raises:
            CatalogUnavailable: the log cannot be written back.

        """
        # A connection of its own with little patience: while a checkpoint waits for a reader it
        # keeps every writer waiting.
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=CHECKPOINT_PATIENCE_S)
            ) as connection:
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise CatalogUnavailable("the catalog's log cannot be written back") from error
        return int(busy) == 0

    def close(self) -> None:
        """Finish what is queued, then close every connection."""
        with self._lock:
            self._closing = True
            self._queue.put(None)
            for _ in self._readers:
                self._read_queue.put(None)
        for thread in (self._writer, *self._readers):
            thread.join()
        self._dispose()

    def _dispose(self) -> None:
        self._reader_engine.dispose()
        self._writer_engine.dispose()

    def _write_forever(self) -> None:
        with self._writer_engine.connect() as connection:
            for batch in _batches(self._queue, GROUP_UNITS_MAX):
                _run_batch(connection, batch)

    def _read_forever(self) -> None:
        connection: Connection | None = None
        for batch in _batches(self._read_queue, READ_UNITS_MAX):
            wanted = [asked for asked in batch if not _is_given_up(asked)]
            if not wanted:
                continue
            try:
                if connection is None:
                    connection = self._reader_engine.connect()
                with connection.begin():
                    outcomes = [_read_unit(connection, unit) for unit, _ in wanted]
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                outcomes = [(None, _unreadable(error))] * len(wanted)
                if connection is not None:
                    _drop(connection)
                    connection = None
            release([answer for _, answer in wanted], outcomes)
        if connection is not None:
            connection.close()


_Asked = tuple[Unit[Any], Future[Any] | Answer[Any]]
_Queue = queue.SimpleQueue[_Asked | None]


def _batches(asked: _Queue, units_max: int) -> Iterator[list[_Asked]]:
    """Yield what waits, as soon as anything does, until the queue ends."""
    while (first := asked.get()) is not None:
        batch = [first]
        while len(batch) < units_max:
            try:
                item = asked.get_nowait()
            except queue.Empty:  # another thread may be faster
                break
            if item is None:
                yield batch
                return
            batch.append(item)
        yield batch


def _is_given_up(asked: _Asked) -> bool:
    """Tell whether its caller was cancelled: what only reads need not be done then."""
    _, answer = asked
    return isinstance(answer, Answer) and answer.is_given_up


def _drop(connection: Connection) -> None:
    """Close what may be within a transaction still: no other could be begun on it."""
    with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
        connection.invalidate()
        connection.close()


def _read_unit(connection: Connection, unit: Unit[Any]) -> Outcome:
    try:
        return unit(connection), None
    except BaseException as error:  # noqa: BLE001 - it is the answer
        return None, _unreadable(error)


def _unreadable(error: BaseException) -> BaseException:
    if not isinstance(error, (DBAPIError, sqlite3.Error)):
        return error
    unreadable = CatalogUnavailable("the catalog cannot be read")
    unreadable.__cause__ = error
    return unreadable


def _run_batch(connection: Connection, batch: "list[_Asked]") -> None:
    outcomes: list[Outcome] = []
    try:
        with connection.begin():
            if len(batch) == 1:
                # Alone in its transaction, a unit needs no savepoint: what undoes it undoes all.
                outcomes = [(batch[0][0](connection), None)]
            else:
                # Not from the batch: the frame of this line, which the errors of units hold, would
                # hold answers, and those the errors.
                units = [unit for unit, _ in batch]
                outcomes = [_run_unit(connection, unit) for unit in units]
    except BaseException as error:  # noqa: BLE001 - the transaction failed: nobody may get an answer
        outcomes = [(None, _translate(error))] * len(batch)
        _end_transaction(connection)
    release([answer for _, answer in batch], outcomes)
    del batch, outcomes  # an error that came through this frame holds it; see `raising`


def _run_unit(connection: Connection, unit: Unit[Any]) -> Outcome:
    """Return the unit's answer, or why it was undone; raise when the whole transaction is."""
    raw = _raw(connection)
    # Not SQLAlchemy's: each costs more than most units.
    raw.execute("SAVEPOINT unit")
    try:
        answer = unit(connection)
        raw.execute("RELEASE unit")
    except BaseException as error:
        if not raw.in_transaction:
            # On a full disk or an I/O error SQLite undoes the units before this one as well, and a
            # COMMIT of nothing would seem to succeed.
            raise
        raw.execute("ROLLBACK TO unit")
        raw.execute("RELEASE unit")
        return None, _translate(error)
    return answer, None


def _raw(connection: Connection) -> sqlite3.Connection:
    raw: object = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        raise CatalogUnavailable("the connection to the catalog was lost")
    return raw


def _end_transaction(connection: Connection) -> None:
    """Undo what a COMMIT that failed left open: SQLAlchemy takes it for ended."""
    with contextlib.suppress(sqlite3.Error, CatalogUnavailable):
        _raw(connection).rollback()


def _translate(error: BaseException) -> BaseException:
    if not isinstance(error, (SQLAlchemyError, sqlite3.Error)):
        return error
    translated: Exception = CatalogUnavailable("the catalog refused a transaction")
    if _is_disk_full(error):
        translated = StorageFull("the disk under the catalog is full")
    translated.__cause__ = error
    return translated


def _is_disk_full(error: BaseException | None) -> bool:
    """Look also at what the error was raised from: undoing a savepoint fails on a full disk."""
    while error is not None:
        code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)
        if code & _PRIMARY_CODE == sqlite3.SQLITE_FULL:
            return True
        error = error.__context__
    return False


def _make_engine(path: Path, *, writing: bool, clock: Clock) -> Engine:
    engine = create_engine(
        # Not as text: a path may hold what means something in a URL.
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        # Error texts would carry heads and names into traces.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the DBAPI's
        attach_clock(entry.info, clock)
        # The driver must not begin transactions by itself: BEGIN is emitted below.
        raw.isolation_level = None
        # The journal's mode is the file's, and to set it is to write: not for who only looks.
        pragmas = ["journal_mode = WAL"] if writing else ["query_only = ON"]
        pragmas += ["synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"]
        pragmas.append(f"busy_timeout = {BUSY_TIMEOUT_MS}")
        for pragma in pragmas:
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        _raw(connection).execute("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
