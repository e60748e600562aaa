"""The gateway that a run works on: the real one, over parts of the run's own.

Its catalog is a file in the run's folder or a schema in the deployment's database (`catalogs`), its
payloads lie in the deployment's store under the run's namespace, its identity and its sessions are
made for the run and are known to nobody else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy import Connection, func, select

from crypto import Identity
from storage_gateway.backends import KeyedStore, Shelf, shelf_of
from storage_gateway.backends.faulty import FaultyStore
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.faulty import FaultyCatalog
from storage_gateway.catalog.sessions import register_router
from storage_gateway.catalog.tables import graves, intents
from storage_gateway.catalog.work import load_deployment, record_marker
from storage_gateway.config import Config
from storage_gateway.custody import make_identity
from storage_gateway.database_url import DatabaseURL
from storage_gateway.parts import Parts, marker_key, stress_namespace
from storage_gateway.sessions import Sessions
from storage_gateway.stores import OpenStore, backends_of, join_stores, members_of, open_stores

from .catalogs import open_run_catalog

STRESS_FOLDER = "stress"

HORIZON_S = 0.5
RECOVERY_INTERVAL_S = 0.1
LEASE_S, RENEW_S = 15.0, 1.0
BODY_IDLE_S = 10.0
DRAIN_S = 2.0


class Reachable(Protocol):
    """What takes requests, in this process or another one."""

    url: str


class GatewayLike(Reachable, Protocol):
    """What is needed of a gateway here; `app.Gateway` is one."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self) -> None:
        """End."""


MakeGateway = Callable[[Config, Parts], GatewayLike]


class RunClock:
    """A database clock that a case can set forward and back."""

    def __init__(self) -> None:
        """Begin with the true time."""
        self.shift_ms = 0

    def __call__(self, database_ms: int) -> int:
        """Return the time that units see."""
        return database_ms + self.shift_ms


@dataclass(frozen=True, slots=True)
class World:
    """The run's parts, with their faults, and the config that its gateways get."""

    config: Config
    folder: Path
    catalog: FaultyCatalog
    store: FaultyStore
    stores: tuple[OpenStore, ...]
    """Those below the faults."""
    parts: Parts
    database: DatabaseURL | None
    """The deployment's, where the run's catalog is a schema in it."""
    clock: RunClock
    sessions: Sessions = field(repr=False)
    make_gateway: MakeGateway = field(repr=False)

    @property
    def prefix(self) -> str:
        """Below which every blob of the run lies."""
        return f"{self.parts.deployment_id}/{self.parts.namespace}/"

    @property
    def shelves(self) -> dict[str, Shelf]:
        """The stores, for threads beside the event loop that this is called on."""
        loop = asyncio.get_running_loop()
        return {store.name: shelf_of(store, loop) for store in self.stores}

    @asynccontextmanager
    async def gateway(self, **settings: object) -> AsyncIterator[GatewayLike]:
        """Run a gateway over the parts, in this process."""
        running = self.make_gateway(msgspec.structs.replace(self.config, **settings), self.parts)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()

    async def unsettled(self) -> dict[str, int]:
        """Count the intents and graves that are left, without the catalog's faults."""

        def unit(connection: Connection) -> dict[str, int]:
            return {
                table.name: count
                for table in (intents, graves)
                if (count := connection.execute(select(func.count()).select_from(table)).scalar())
            }

        return await self.catalog.inner.read(unit)


def run_folder(config: Config, run_id: str) -> Path:
    """Return where a run keeps its files."""
    return config.data_dir / STRESS_FOLDER / run_id


def run_config(config: Config, run_id: str) -> Config:
    """Return the serving gateway's settings, with short times, on loopback, for a run's gateway."""
    return msgspec.structs.replace(
        config,
        data_dir=run_folder(config, run_id),
        host="127.0.0.1",
        port=0,
        tls_certificate=None,
        tls_key=None,
        behind_proxy=None,
        backends=backends_of(config),  # the deployment's, whose folder this is not
        catalog_url=None,  # of the deployment; the run's processes are told in another way
        catalog_password_file=None,
        enable_stress=False,
        workers=1,
        body_idle_s=BODY_IDLE_S,
        drain_s=DRAIN_S,
        instance_lease_s=LEASE_S,
        instance_renew_s=RENEW_S,
        recovery_interval_s=RECOVERY_INTERVAL_S,
        late_write_horizon_s=HORIZON_S,
    )


@dataclass(frozen=True, slots=True)
class RunParts:
    """The parts of a run, as they are without faults."""

    catalog: Catalog
    stores: tuple[OpenStore, ...]
    store: KeyedStore
    """What they make together."""
    identity: Identity = field(repr=False)
    deployment_id: str
    run_id: str
    clock: RunClock

    def over(self, catalog: Catalog, store: KeyedStore) -> Parts:
        """Return what a gateway works on: these, with catalog and store as they are given."""
        return Parts(
            catalog=catalog,
            store=store,
            identity=self.identity,
            deployment_id=self.deployment_id,
            namespace=stress_namespace(self.run_id),
        )


async def _open_catalog(
    folder: Path, database: DatabaseURL | None, run_id: str, clock: RunClock
) -> Catalog:
    """Open the run's catalog. A run that is stopped meanwhile waits for that, and closes it."""
    work = asyncio.to_thread(open_run_catalog, folder, database, run_id, clock)
    opening = asyncio.create_task(work)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait([opening])
        if opening.exception() is None:
            await asyncio.to_thread(opening.result().close)
        raise


async def open_run_parts(
    config: Config,
    deployment_id: str,
    run_id: str,
    opened: AsyncExitStack,
    *,
    database: DatabaseURL | None,
) -> RunParts:
    """Open or create the parts of a run: also for a process that comes back to them."""
    clock = RunClock()
    catalog = await _open_catalog(config.data_dir, database, run_id, clock)
    opened.push_async_callback(asyncio.to_thread, catalog.close)
    marker = marker_key(deployment_id)
    stores = await open_stores(config, marker, opened)
    for each in stores:
        # Else the run would write into the mount point of a disk that is not there.
        await each.stat(marker)
    store = join_stores(config, members_of(config, stores), opened)
    identity: Identity = await asyncio.to_thread(make_identity, config.data_dir)

    def prepare(connection: Connection) -> None:
        load_deployment(connection, deployment_id)
        for name in store.names:
            record_marker(connection, name)
        register_router(connection, str(identity.recipient()), identity.key_class)

    await catalog.run(prepare)
    return RunParts(catalog, stores, store, identity, deployment_id, run_id, clock)


@asynccontextmanager
async def open_world(
    serving: Config,
    deployment_id: str,
    run_id: str,
    *,
    database: DatabaseURL | None,
    seed: int,
    make_gateway: MakeGateway,
) -> AsyncIterator[World]:
    """Make a run's folder and parts; at the end they are closed, and nothing is deleted."""
    config = run_config(serving, run_id)
    await asyncio.to_thread(lambda: config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True))
    async with AsyncExitStack() as opened:
        plain = await open_run_parts(config, deployment_id, run_id, opened, database=database)
        catalog = FaultyCatalog(plain.catalog, seed=seed)
        store = FaultyStore(plain.store, seed=seed)
        yield World(
            config=config,
            folder=config.data_dir,
            catalog=catalog,
            store=store,
            stores=plain.stores,
            parts=plain.over(catalog, store),
            database=database,
            clock=plain.clock,
            sessions=Sessions(
                plain.catalog,
                identity=plain.identity,
                miners_max=config.miners_max,
                token_lifetime_s=config.token_lifetime_s,
            ),
            make_gateway=make_gateway,
        )
