"""The write path of a gateway without its HTTP half, several on one data folder if need be.

Every point that an upload passes on its way to store and catalog can be told to a `Script`, which
fails, cancels or waits at one of them: the same points for every kind of mishap.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, text

from crypto import Meta, X25519Identity
from storage_gateway.backends import BlobInfo, Check, KeyedStore, LocalStore, Range, SegmentWriter
from storage_gateway.catalog import Catalog, Unit
from storage_gateway.catalog.sessions import create_session, load_session, register_router
from storage_gateway.catalog.work import load_deployment, start_instance
from storage_gateway.errors import BackendUnavailable, BlobMissing, GatewayError
from storage_gateway.ids import new_random_id
from storage_gateway.keyring import Keyring
from storage_gateway.memory import Budget
from storage_gateway.read import Reads
from storage_gateway.records import INPUT, USER, Manifest, Party, Session, Slot
from storage_gateway.recovery import Recovery
from storage_gateway.settle import Settler
from storage_gateway.write import Uploads
from tests.databases import databases

T = TypeVar("T")

DEPLOYMENT = "d" * 32
PAYLOADS = f"{DEPLOYMENT}/main/payloads/"
MARKER = f"{DEPLOYMENT}/marker"
SESSION = "101"
MEMORY_BYTES = 256 << 20
DECIDE_WITHIN_S = 300.0
PIECE_SIZE = 900_000
"""Of a body: neither a part nor a multiple of anything."""


class Script:
    """Numbers the points that are passed, and does something at one of them."""

    def __init__(self, at: int = -1, action: Callable[[], None] = lambda: None) -> None:
        self.at = at
        self.action = action
        self.points: list[str] = []
        self._lock = threading.Lock()

    def reach(self, point: str) -> None:
        """Pass a point; raises what the action raises. Called from any thread."""
        with self._lock:
            here = len(self.points)
            self.points.append(point)
        if here == self.at:
            self.action()


class ScriptedCatalog(Catalog):
    """A catalog whose transactions are points: before each is asked for, after it took effect."""

    def __init__(self, inner: Catalog) -> None:
        self.inner = inner
        self.kind = inner.kind
        self.script = Script()

    async def run(self, unit: Unit[T]) -> T:
        self.script.reach("transaction begins")
        answer = await self.inner.run(unit)
        self.script.reach("transaction took effect")
        return answer

    def run_blocking(self, unit: Unit[T]) -> T:
        return self.inner.run_blocking(unit)

    async def read(self, unit: Unit[T]) -> T:
        return await self.inner.read(unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        return self.inner.read_blocking(unit)

    def clean_pages(self) -> bool:
        self.script.reach("pages are cleaned")
        return self.inner.clean_pages()

    def close(self) -> None:
        self.inner.close()


class ScriptedStore:
    """A store whose operations are points."""

    name = "local"
    names = ("local",)

    def __init__(self, inner: LocalStore) -> None:
        self.inner = inner
        self.script = Script()
        self.wait_in_write = threading.Event()
        self.wait_in_write.set()
        self.wait_in_finish = asyncio.Event()
        self.wait_in_finish.set()

    def create(self, key: str) -> SegmentWriter:
        return _ScriptedWriter(self, self.inner.create(key), key.rpartition("/")[2])

    async def put(self, key: str, data: bytes) -> None:
        await self.inner.put(key, data)

    async def fetch(self, ranges: Sequence[Range], check: Check[T], threads: Executor) -> list[T]:
        return await self.inner.fetch(ranges, check, threads)

    async def get(self, key: str, offset: int, size: int) -> bytes:
        return await self.inner.get(key, offset, size)

    async def stat(self, key: str) -> BlobInfo:
        return await self.inner.stat(key)

    async def delete(self, key: str) -> None:
        self.script.reach("delete begins")
        await self.inner.delete(key)
        self.script.reach("delete took effect")

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[BlobInfo]:
        self.script.reach("list begins")
        async for blob in self.inner.list(prefix, after=after):
            yield blob


class _ScriptedWriter:
    def __init__(self, store: ScriptedStore, inner: SegmentWriter, segment: str) -> None:
        self._store = store
        self._inner = inner
        self._segment = segment
        self.held = inner.held

    def write(self, offset: int, data: memoryview) -> None:
        self._store.script.reach(f"write begins {self._segment}")
        self._store.wait_in_write.wait()
        self._inner.write(offset, data)
        self._store.script.reach(f"write took effect {self._segment}")

    def only_copies(self, size: int) -> bool:
        return False

    async def finish(self) -> tuple[str, ...]:
        self._store.script.reach(f"finish begins {self._segment}")
        await self._store.wait_in_finish.wait()
        placed = await self._inner.finish()
        self._store.script.reach(f"finish took effect {self._segment}")
        return placed

    async def abort(self) -> None:
        await self._inner.abort()


@dataclass(frozen=True, slots=True)
class UseCases:
    """What one process does with a catalog and a store."""

    settler: Settler
    uploads: Uploads
    recovery: Recovery
    reads: Reads


def use_cases(
    catalog: Catalog,
    store: KeyedStore,
    threads: ThreadPoolExecutor,
    router: X25519Identity,
    instance_id: str,
    *,
    horizon_s: float,
) -> UseCases:
    """Put them together as a gateway does."""
    settler = Settler(catalog, store, instance_id=instance_id, payloads=PAYLOADS)
    return UseCases(
        settler=settler,
        uploads=Uploads(
            catalog=catalog,
            store=store,
            threads=threads,
            memory=Budget(MEMORY_BYTES, wait_s=1),
            settler=settler,
            keyring=Keyring.of(router),
            instance_id=instance_id,
            payloads=PAYLOADS,
        ),
        recovery=Recovery(
            catalog=catalog,
            store=store,
            settler=settler,
            payloads=PAYLOADS,
            horizon_s=horizon_s,
            decide_within_s=DECIDE_WITHIN_S,
        ),
        reads=Reads(
            catalog=catalog,
            store=store,
            threads=threads,
            memory=Budget(MEMORY_BYTES, wait_s=1),
            keyring=Keyring.of(router),
            payloads=PAYLOADS,
        ),
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """One process's use cases on a data folder."""

    catalog: ScriptedCatalog
    store: ScriptedStore
    settler: Settler
    recovery: Recovery
    uploads: Uploads
    reads: Reads
    session: Session
    instance_id: str

    def scripted(self, script: Script) -> None:
        """Follow a script from now on."""
        self.catalog.script = self.store.script = script

    async def upload(self, task_id: str, body: AsyncGenerator[bytes]) -> Manifest:
        """Upload an input."""
        slot = Slot(SESSION, task_id, INPUT, None)
        await self.uploads.check(slot)
        return await self.uploads.seal(slot, self.session, body, META)

    async def upload_sealed(self, task_id: str, body: AsyncGenerator[bytes]) -> Manifest:
        """Upload an input that is an age file to the router already."""
        slot = Slot(SESSION, task_id, INPUT, None)
        await self.uploads.check(slot)
        return await self.uploads.adopt(slot, self.session, body)

    async def read(self, manifest: Manifest) -> bytes:
        """Return an object's plaintext."""
        return b"".join([bytes(piece) async for piece in self.reads.plaintext(manifest.object_id)])

    async def sql(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """Run a statement; return its rows, if it has any."""

        def unit(connection: Connection) -> list[tuple[object, ...]]:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

        return await self.catalog.inner.run(unit)

    async def expire_lease(self) -> None:
        """Let this worker's lease run out, as if it had been paused for long."""
        await self.sql(
            "UPDATE instances SET lease_until_ms = 0 WHERE instance_id = :i", i=self.instance_id
        )

    async def left(self) -> dict[str, int]:
        """Count what is there of anything unfinished: blobs of nobody, intents, empty slots."""
        committed = {row[0] for row in await self.sql("SELECT payload_id FROM objects")}
        counts = {
            table: await self.sql(f"SELECT count(*) FROM {query}")  # noqa: S608
            for table, query in {
                "intents": "intents",
                "slots": "slots WHERE payload_id NOT IN (SELECT payload_id FROM objects)",
            }.items()
        }
        blobs = [blob.key async for blob in self.store.inner.list(PAYLOADS)]
        orphans = [key for key in blobs if key.split("/")[-2] not in committed]
        found = {name: int(str(rows[0][0])) for name, rows in counts.items()}
        return {name: n for name, n in (found | {"blobs": len(orphans)}).items() if n}


META = Meta(content_type="text/plain")


@dataclass(slots=True)
class Folder:
    """A data folder, its router, and the workers that were opened on it."""

    path: Path
    router: X25519Identity = field(default_factory=X25519Identity.generate)
    user: X25519Identity = field(default_factory=X25519Identity.generate)

    @asynccontextmanager
    async def worker(
        self, *, lease_s: float = 3600.0, horizon_s: float = 900.0
    ) -> AsyncIterator[Worker]:
        """Open a worker; at the end nothing of it is tidied up but files and threads."""
        catalog = ScriptedCatalog(await asyncio.to_thread(databases.open, self.path))
        local = LocalStore(self.path / "store")
        store = ScriptedStore(local)
        instance_id = new_random_id()
        threads = ThreadPoolExecutor(2)
        try:
            session = await catalog.run(self._prepare)
            await catalog.run(lambda c: start_instance(c, instance_id, lease_s))
            try:
                await local.stat(MARKER)
            except (BlobMissing, BackendUnavailable):
                await local.put(MARKER, b"")
            uses = use_cases(catalog, store, threads, self.router, instance_id, horizon_s=horizon_s)
            yield Worker(
                catalog=catalog,
                store=store,
                settler=uses.settler,
                recovery=uses.recovery,
                uploads=uses.uploads,
                reads=uses.reads,
                session=session,
                instance_id=instance_id,
            )
        finally:
            for close in (threads.shutdown, local.close, catalog.close):
                await asyncio.to_thread(close)

    def _prepare(self, connection: Connection) -> Session:
        load_deployment(connection, DEPLOYMENT)
        register_router(connection, str(self.router.recipient()), "classic")
        members = [Party(USER, None, 1, str(self.user.recipient()))]
        try:
            return create_session(
                connection,
                session_id=SESSION,
                custody="router",
                key_class="classic",
                members=members,
                new_tokens=[],
                token_lifetime_s=3600,
            )
        except GatewayError:  # another worker was first
            return load_session(connection, SESSION)


async def body_of(
    content: bytes, at_piece: Callable[[int], None] = lambda _index: None
) -> AsyncGenerator[bytes]:
    """Yield content in pieces; ``at_piece`` is told before each of them, and before the end."""
    pieces: Iterable[int] = range(0, len(content), PIECE_SIZE)
    index = -1
    for index, at in enumerate(pieces):
        at_piece(index)
        await asyncio.sleep(0)
        yield content[at : at + PIECE_SIZE]
    at_piece(index + 1)
    await asyncio.sleep(0)
