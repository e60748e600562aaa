"""The gateway that a run works on: the real one, over parts of the run's own.

Its catalog is a file in the run's folder or a schema in the deployment's database (`catalogs`),
its payloads lie in the deployment's stores under the run's namespace (`run_stores`), its identity
and its sessions are made for the run and are known to nobody else.
"""

import asyncio
import collections
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy import Connection, func, select

from retention import FOREVER
from storage_gateway.backends import KeyedStore, Replicas, Shelf, shelf_of
from storage_gateway.backends.faulty import FaultyStore
from storage_gateway.catalog.faulty import FaultyCatalog
from storage_gateway.catalog.tables import graves, intents
from storage_gateway.config import Config
from storage_gateway.database_url import DatabaseURL
from storage_gateway.parts import (
    Parts,
)
from storage_gateway.sessions import Sessions
from storage_gateway.stores import backends_of
from storage_gateway.upkeep import Upkeep

from .run_parts import RunClock, open_run_parts
from .run_stores import OWN_FOLDER, RunStore, behind_proxies, horizon_of, run_backends

STRESS_FOLDER = "stress"

RECOVERY_INTERVAL_S = 0.1
NEVER_S = 86400.0
"""Between passes that would mend what a case breaks, and that it looks at, in a long run."""
SETTLED_S = 0.5
"""How long repair, where a case has it run, waits for what may come by itself."""
LEASE_S, RENEW_S = 15.0, 1.0
TOKENS_S = 90 * 86400.0
"""The clock of a run may leap."""
BODY_IDLE_S = 10.0
ANSWER_WITHIN_S, DECIDE_WITHIN_S = 30.0, 300.0
DRAIN_S = 2.0


class Reachable(Protocol):
    """What takes requests, in this process or another one."""

    url: str


class GatewayLike(Reachable, Protocol):
    """What is needed of a gateway here; `app.Gateway` is one."""

    upkeep: Upkeep
    """Its passes, once it was started."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self) -> None:
        """End."""


MakeGateway = Callable[[Config, Parts | None], GatewayLike]
"""Without parts it opens those of the data folder in its settings."""


@dataclass(frozen=True, slots=True)
class World:
    """The run's parts, with their faults, and the config that its gateways get."""

    config: Config
    folder: Path
    catalog: FaultyCatalog
    store: FaultyStore
    """Over all stores together."""
    stores: tuple[RunStore, ...]
    """Each by itself; the deployment's come first."""
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
    def decisive(self) -> tuple[RunStore, ...]:
        """Stores, the first one among them, without which the others make no quorum: all but those
        of one failure domain fewer than it needs.
        """
        first = self.stores[0].domain
        others = dict.fromkeys(s.domain for s in reversed(self.stores) if s.domain != first)
        left = list(others)[: self.config.quorum - 1]
        return tuple(each for each in self.stores if each.domain not in left)

    @property
    def shelves(self) -> dict[str, Shelf]:
        """The stores, for threads beside the event loop that this is called on."""
        loop = asyncio.get_running_loop()
        return {each.name: shelf_of(each.store, loop) for each in self.stores}

    async def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.store.heal()
        self.catalog.heal()
        for each in self.stores:
            await each.heal()

    async def wait_late(self) -> None:
        """Wait until no store is still taking what a quorum of the others has."""
        if isinstance(self.store.inner, Replicas):
            await self.store.inner.wait_late()

    def injected(self) -> "collections.Counter[str]":
        """Return how many faults there were, by what they were."""
        found = self.store.injected + self.catalog.injected
        for each in self.stores:
            found += each.injected()
        return found

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


def run_config(config: Config, run_id: str, *, stores: int, quorum: int) -> Config:
    """Return the serving gateway's settings, with short times, on loopback, for a run's gateway.

    ``stores`` and ``quorum`` are those of the case.
    """
    folder = run_folder(config, run_id)
    backends = run_backends(backends_of(config), folder, stores)
    return msgspec.structs.replace(
        config,
        data_dir=folder,
        host="127.0.0.1",
        port=0,
        tls_certificate=None,
        tls_key=None,
        behind_proxy=None,
        backends=backends,
        write_quorum=config.write_quorum if stores == 1 else quorum,
        catalog_url=None,  # of the deployment; the run's processes are told in another way
        catalog_password_file=None,
        key_provider="file",  # the run has keys of its own
        key_passphrase_file=None,
        key_seed=None,
        key_transit_token_file=None,
        enable_stress=False,
        workers=1,
        token_lifetime_s=TOKENS_S,
        body_idle_s=BODY_IDLE_S,
        answer_within_s=ANSWER_WITHIN_S,
        decide_within_s=DECIDE_WITHIN_S,
        drain_s=DRAIN_S,
        instance_lease_s=LEASE_S,
        instance_renew_s=RENEW_S,
        recovery_interval_s=RECOVERY_INTERVAL_S,
        repair_interval_s=NEVER_S,
        repair_settled_s=SETTLED_S,
        scrub_interval_s=NEVER_S,
        gc_interval_s=NEVER_S,
        gc_dwell_s=7 * NEVER_S,
        leftovers_interval_s=NEVER_S,
        sweep_interval_s=NEVER_S,
        late_write_horizon_s=horizon_of(backends),
        retention_policies=(),
        retention_policy=FOREVER.name,
    )


def bytes_max(config: Config, *, stores: int) -> int:
    """Return what the load of a run on the serving gateway's settings may send and read back: what
    is configured, and no more than its own stores have room for beyond the reserve.
    """
    backends = backends_of(config)
    own = len(run_backends(backends, config.data_dir, stores)) - len(backends)
    if not own:
        return config.stress_bytes_max
    room = max(0, shutil.disk_usage(config.data_dir).free - config.reserve_bytes)
    # Half of it is sent, and stored in each of them; the deployment's store may be there, too.
    return min(config.stress_bytes_max, room // (own + 1))


@asynccontextmanager
async def open_world(
    serving: Config,
    deployment_id: str,
    run_id: str,
    *,
    database: DatabaseURL | None,
    seed: int,
    stores: int,
    quorum: int,
    make_gateway: MakeGateway,
) -> AsyncIterator[World]:
    """Make a run's folder and parts; at the end they are closed, and nothing is deleted."""
    config = run_config(serving, run_id, stores=stores, quorum=quorum)
    own = config.data_dir / OWN_FOLDER
    await asyncio.to_thread(lambda: own.mkdir(mode=0o700, parents=True, exist_ok=True))
    async with AsyncExitStack() as opened:
        plain_backends = backends_of(config)
        backends, proxies = await behind_proxies(plain_backends, opened, seed=seed)
        config = msgspec.structs.replace(config, backends=backends)
        faulty: dict[str, FaultyStore] = {}

        def before(store: KeyedStore) -> KeyedStore:
            faulty[store.name] = FaultyStore(store, seed=seed, label=f"store {store.name}")
            return faulty[store.name]

        plain = await open_run_parts(
            config, deployment_id, run_id, opened, database=database, before=before
        )
        catalog = FaultyCatalog(plain.catalog, seed=seed)
        store = FaultyStore(plain.store, seed=seed)
        yield World(
            config=config,
            folder=config.data_dir,
            catalog=catalog,
            store=store,
            stores=tuple(
                RunStore(each, faulty[each.name], backend, proxies.get(each.name))
                for each, backend in zip(plain.stores, plain_backends, strict=True)
            ),
            parts=plain.over(catalog, store),
            database=database,
            clock=plain.clock,
            sessions=Sessions(
                plain.catalog,
                keyring=plain.keyring,
                miners_max=config.miners_max,
                token_lifetime_s=config.token_lifetime_s,
            ),
            make_gateway=make_gateway,
        )
