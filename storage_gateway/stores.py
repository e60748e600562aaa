"""The stores that a configuration names, and the one that they make together."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from .backends import KeyedStore, LocalStore, Member, Replicas
from .config import Config, LocalBackend

STORE_FOLDER = "store"
"""Where payloads lie in the data folder, unless backends are configured."""


def backends_of(config: Config) -> tuple[LocalBackend, ...]:
    """Return where payloads lie, with the default."""
    return config.backends or (LocalBackend(name="local", path=config.data_dir / STORE_FOLDER),)


def open_stores(config: Config, opened: AsyncExitStack) -> tuple[LocalStore, ...]:
    """Open each by itself; ``opened`` is told how to close them."""
    stores = []
    for backend in backends_of(config):
        store = LocalStore(backend.path, name=backend.name)
        opened.push_async_callback(asyncio.to_thread, store.close)
        stores.append(store)
    return tuple(stores)


def members_of(config: Config, stores: Sequence[KeyedStore]) -> tuple[Member, ...]:
    """Return the stores with the failure domains that they stand in."""
    return tuple(
        Member(store, domain=backend.domain)
        for store, backend in zip(stores, backends_of(config), strict=True)
    )


def join_stores(config: Config, members: Sequence[Member], opened: AsyncExitStack) -> KeyedStore:
    """Return the one store that they make together."""
    if len(members) == 1:
        return members[0].store
    replicas = Replicas(members, write_quorum=config.quorum)
    opened.push_async_callback(replicas.close)
    return replicas
