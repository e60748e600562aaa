"""What outlives a process: a disk, a catalog, a clock; and what clients were told meanwhile.

All of it can be copied at any moment (an `Image`), and the power be cut: a `World` made from an
image then holds what was durable, and as much of the rest as was chosen. The catalog is SQLite in
memory behind the transactions of `SQLiteCatalog`; what it had committed survives, as with
``synchronous=FULL``, and nothing of a transaction that was under way.
"""

import asyncio
import base64
import hashlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, text

from storage_gateway.catalog import Unit, sqlite
from storage_gateway.catalog.schema import prepare_schema
from storage_gateway.catalog.tables import instances, metadata
from tests.forgetful import BASE, ForgetfulFs
from tests.planted_bugs import LIFE
from tests.workers import PAYLOADS

T = TypeVar("T")

ROOTS = {"local": BASE / "store", "second": BASE / "second"}
"""Where each store lies."""
START_MS = 1_700_000_000_000

_CONTENT = [
    f"SELECT {', '.join(c.name for c in table.c if not c.name.endswith('_ms'))} FROM {table.name}"  # noqa: S608
    for table in metadata.sorted_tables
    if table is not instances
]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one client asked for in a slot, and what it was told."""

    task_id: str
    content: bytes = field(repr=False)
    object_id: str | None = None
    """Told with 201."""
    erase_asked: bool = False
    erase_answered: bool = False
    refused: str | None = None
    """The code of the error that it was told instead."""
    wronged: bool = False
    """It was refused although nothing had happened that its error could tell of."""


@dataclass(frozen=True, slots=True)
class Image:
    """A moment: the disk with what is not synced, the catalog, the clock, what was told."""

    fs: ForgetfulFs
    catalog: bytes
    now_ms: int
    ids_made: int
    attempts: dict[str, Attempt]
    write_quorum: int = 0
    """0: there is one store; else there are two, and so many must have a payload."""

    def after_power_cut(self, chosen: Sequence[int]) -> "Image":
        return replace(self, fs=self.fs.crash_choosing(chosen))

    def fingerprint(self) -> object:
        """Return what is equal only for moments with nothing unsynced that are the same."""
        # The catalog's hash: all fingerprints of a part are kept, and its bytes would be gigabytes.
        seen = (self.fs.fingerprint(), hash(self.catalog), self.now_ms)
        return *seen, tuple(self.attempts.items())


class Ledger:
    """A catalog's database. One for a whole test: making it costs more than using it."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.ids_made = 0
        self.loops: list[asyncio.AbstractEventLoop] = []
        """Those of the processes that used it."""
        engine = sqlite._make_engine(
            Path(":memory:"), writing=True, clock=lambda _true_ms: self.now_ms
        )
        self._connection = engine.connect()
        with self._connection.begin():
            prepare_schema(self._connection, ":memory:")
        self.committed = self.empty = self._raw.serialize()

    @property
    def _raw(self) -> sqlite3.Connection:
        return sqlite._raw(self._connection)

    def run(self, unit: Unit[T]) -> T:
        """Run a unit in a transaction of its own, as the catalog's writing thread does."""
        future: Future[T] = Future()
        sqlite._run_batch(self._connection, [(unit, future)])
        if not self._raw.in_transaction:
            self.committed = self._raw.serialize()
        return future.result()

    def read(self, unit: Unit[T]) -> T:
        with self._connection.begin():
            return unit(self._connection)

    def next_id(self) -> str:
        """Stand in for `new_random_id`: a schedule that is played again has the same ids, since
        their order is the order in which recovery takes things up.
        """
        self.ids_made += 1
        digest = hashlib.sha256(b"%d" % self.ids_made).digest()
        return base64.b32encode(digest[:20]).decode().lower()

    def content(self) -> object:
        """Return every row of every table but leases, and without times."""
        return tuple(tuple(self._raw.execute(query)) for query in _CONTENT)

    def aborted(self) -> list[str]:
        """Return the payload ids of graves of uploads."""
        query = "SELECT payload_id FROM graves WHERE reason = 'aborted'"
        return [row[0] for row in self._raw.execute(query)]

    def restore(self, committed: bytes) -> None:
        """Go back to what a transaction had left."""
        self._connection.info[LIFE] = object()
        self._raw.rollback()
        self._raw.deserialize(committed)
        self.committed = committed

    def end_processes(self) -> None:
        """Close the loops of processes that have ended, or will never go on."""
        while self.loops:
            self.loops.pop().close()

    def close(self) -> None:
        self.end_processes()
        self._connection.close()
        self._connection.engine.dispose()


class World:
    """The present."""

    def __init__(
        self, ledger: Ledger, image: Image | None = None, *, write_quorum: int = 0
    ) -> None:
        self.ledger = ledger
        self.time_passed = False
        if image is None:
            image = Image(ForgetfulFs(), ledger.empty, START_MS, 0, {}, write_quorum)
        self.write_quorum = image.write_quorum
        self.roots = ROOTS if self.write_quorum else {"local": ROOTS["local"]}
        self.fs = image.fs.copy()
        self.attempts = dict(image.attempts)
        ledger.restore(image.catalog)
        ledger.now_ms = image.now_ms
        ledger.ids_made = image.ids_made

    def image(self) -> Image:
        ledger = self.ledger
        return Image(
            self.fs.copy(),
            ledger.committed,
            ledger.now_ms,
            ledger.ids_made,
            dict(self.attempts),
            self.write_quorum,
        )

    def buried_alive(self) -> list[str]:
        """Return which uploads have a grave while something of them is stored.

        That is wrong where nobody can have written since: they are buried once all is deleted.
        """
        return [
            f"{payload_id} was buried before it was deleted"
            for payload_id in self.ledger.aborted()
            for folder in self.payload_folders()
            if payload_id in {name for name, _, _ in self.fs.scan(folder)}
            and any(True for _ in self.fs.scan(folder / payload_id))
        ]

    def payload_folders(self) -> list[Path]:
        """Return where the payloads of each store lie."""
        return [root / PAYLOADS.rstrip("/") for root in self.roots.values()]

    def fingerprint(self) -> object:
        """Return what is equal only where all that invariants look at is equal."""
        return self.fs.fingerprint(), self.ledger.content(), tuple(self.attempts.items())

    def rows(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """Return the rows of a query."""

        def unit(connection: Connection) -> list[tuple[object, ...]]:
            return [tuple(row) for row in connection.execute(text(statement), values)]

        return self.ledger.read(unit)
