"""The parts of a run, opened as `parts` opens those of a deployment: for the run, and for the
processes of its own.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from crypto import CLASSIC, X25519Identity
from storage_gateway.backends import KeyedStore, Member, Replicas
from storage_gateway.backends.ipfs import IPFSStore
from storage_gateway.bad_copies import BadCopies
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.sessions import register_router
from storage_gateway.catalog.work import load_deployment, record_marker
from storage_gateway.config import Config
from storage_gateway.custody import make_copies_identity
from storage_gateway.database_url import DatabaseURL
from storage_gateway.key_provider import identity_file
from storage_gateway.keyring import Keyring
from storage_gateway.markers import make_marker, marker_key
from storage_gateway.parts import Parts, payloads_prefix, stress_namespace
from storage_gateway.pins import pins_in
from storage_gateway.stores import OpenStore, backends_of, join_stores, members_of, open_stores

from .catalogs import open_run_catalog
from .run_stores import is_own

KEYS_REFRESH_S, KEYS_S_MAX = 1.0, 20.0
"""How often the file with the run's identities is read, and how long that may take."""


class RunClock:
    """A database clock that a case can set forward and back."""

    def __init__(self) -> None:
        """Begin with the true time."""
        self.shift_ms = 0

    def __call__(self, database_ms: int) -> int:
        """Return the time that units see."""
        return database_ms + self.shift_ms


@dataclass(frozen=True, slots=True)
class RunParts:
    """The parts of a run, as they are without faults."""

    catalog: Catalog
    stores: tuple[OpenStore, ...]
    members: tuple[Member, ...]
    """The same, with their faults."""
    store: KeyedStore
    """What they make together."""
    keyring: Keyring = field(repr=False)
    copies_identity: X25519Identity = field(repr=False)
    deployment_id: str
    run_id: str
    clock: RunClock

    def over(self, catalog: Catalog, store: KeyedStore) -> Parts:
        """Return what a gateway works on: these, with catalog and store as they are given."""
        return Parts(
            catalog=catalog,
            store=store,
            keyring=self.keyring,
            copies_identity=self.copies_identity,
            deployment_id=self.deployment_id,
            namespace=stress_namespace(self.run_id),
            replicas=self.store if isinstance(self.store, Replicas) else None,
            nodes=tuple(store for store in self.stores if isinstance(store, IPFSStore)),
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
    before: Callable[[KeyedStore], KeyedStore] = lambda store: store,
) -> RunParts:
    """Open or create the parts of a run: also for a process that comes back to them.

    ``before`` returns what stands before a store.
    """
    clock = RunClock()
    catalog = await _open_catalog(config.data_dir, database, run_id, clock)
    opened.push_async_callback(asyncio.to_thread, catalog.close)
    marker = marker_key(deployment_id)
    stores = await open_stores(config, marker, opened, pins_in(catalog))
    for backend, each in zip(backends_of(config), stores, strict=True):
        if is_own(backend, config.data_dir):
            await make_marker(each, marker)
        # Else the run would write into the mount point of a disk that is not there.
        await each.stat(marker)
    members = members_of(config, [before(each) for each in stores])
    for member, each in zip(members, stores, strict=True):
        member.bare = each  # what only its kind can do, it can do here as well
    bad_copies = BadCopies(catalog, payloads_prefix(deployment_id, stress_namespace(run_id)))
    opened.push_async_callback(bad_copies.close)
    store = join_stores(config, members, opened, on_bad=bad_copies.note)
    copies_identity = await asyncio.to_thread(make_copies_identity, config.data_dir)
    keyring = await _run_keyring(config.data_dir)
    opened.push_async_callback(keyring.close)

    def prepare(connection: Connection) -> None:
        load_deployment(connection, deployment_id)
        for name in store.names:
            record_marker(connection, name)
        register_keyring(connection, keyring)

    await catalog.run(prepare)
    return RunParts(
        catalog,
        stores,
        members,
        store,
        keyring,
        copies_identity,
        deployment_id,
        run_id,
        clock,
    )


async def _run_keyring(folder: Path) -> Keyring:
    """Return the run's own identities: made by the first of its processes, known to all."""
    keyring = Keyring(
        identity_file(folder),
        refresh_s=KEYS_REFRESH_S,
        fresh_s=math.inf,
        ttl_s=math.inf,
        timeout_s=KEYS_S_MAX,
    )
    try:
        await keyring.make(CLASSIC, first=True)
        await keyring.refresh()
    except BaseException:
        await keyring.close()
        raise
    keyring.start()
    return keyring


def register_keyring(connection: Connection, keyring: Keyring) -> None:
    """Have a catalog know the newest identity of a run as the router's."""
    newest = keyring.opening()[-1]
    register_router(connection, str(newest.recipient()), newest.key_class)
