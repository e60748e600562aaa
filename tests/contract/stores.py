"""The stores that the contract suite runs over. A new store joins by an entry in `KINDS`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from storage_gateway.backends import KeyedStore, LocalStore, Member, Replicas
from storage_gateway.backends.faulty import FaultyStore
from storage_gateway.backends.metered import MeteredStore
from storage_gateway.metrics import Metrics
from tests.servers.ipfs import IpfsNode
from tests.servers.s3 import S3Server

from .ipfs import ipfs_store, truncate_leaf
from .s3 import s3_store


@dataclass(frozen=True, slots=True)
class OpenStore:
    """An open store, and what the suite can do to it from outside."""

    store: KeyedStore
    vanish: Callable[[], object]
    """Make the store stop being there, while everything else goes on."""
    come_back: Callable[[], object]
    truncate: Callable[[str, int], object]
    """Cut a stored blob short, behind the store's back."""


@asynccontextmanager
async def _local(tmp_path: Path) -> AsyncIterator[OpenStore]:
    root, away = tmp_path / "store", tmp_path / "unmounted"

    def truncate(key: str, size: int) -> None:
        with (root / key).open("r+b") as file:
            file.truncate(size)

    store = LocalStore(root)
    try:
        yield OpenStore(
            store=store,
            vanish=lambda: root.rename(away),
            come_back=lambda: away.rename(root),
            truncate=truncate,
        )
    finally:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def _faulty(tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Without faults it must be as the store below it."""
    async with _local(tmp_path) as opened:
        yield replace(opened, store=FaultyStore(opened.store, seed=1))


@asynccontextmanager
async def _metered(tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with _local(tmp_path) as opened:
        yield replace(opened, store=MeteredStore(opened.store, Metrics().observe_store))


@asynccontextmanager
async def _replicas(tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Two stores, both of which must have everything."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        await asyncio.to_thread(folder.mkdir)
    async with _local(folders[0]) as one, _local(folders[1]) as two:
        both = (one, two)
        members = [Member(o.store, domain=f.name) for o, f in zip(both, folders, strict=True)]
        store = Replicas(members, write_quorum=2)
        yield OpenStore(
            store=store,
            vanish=lambda: [o.vanish() for o in both],
            come_back=lambda: [o.come_back() for o in both],
            truncate=lambda key, size: [o.truncate(key, size) for o in both],
        )
        await store.close()


@asynccontextmanager
async def _s3(server: S3Server, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with s3_store(server, tmp_path) as store:
        yield OpenStore(
            store=store,
            vanish=server.kill,
            come_back=server.start,
            truncate=partial(server.truncate, store.settings.bucket),
        )


@asynccontextmanager
async def _ipfs(node: IpfsNode, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with ipfs_store(node, tmp_path) as (store, pins):
        yield OpenStore(
            store=store,
            vanish=node.kill,
            come_back=node.start,
            truncate=lambda key, size: truncate_leaf(node, pins, key, size),
        )


BY_NIGHT = frozenset({"ceph", "juicefs"})
"""Kinds whose servers are not installed by day, or have quick tests of their own."""
Open = Callable[[pytest.FixtureRequest, Path], AbstractAsyncContextManager[OpenStore]]

KINDS: dict[str, Open] = {
    "ceph": lambda request, folder: _s3(request.getfixturevalue("ceph_server"), folder),
    "faulty": lambda _, folder: _faulty(folder),
    "ipfs": lambda request, folder: _ipfs(request.getfixturevalue("ipfs"), folder),
    "juicefs": lambda request, folder: _s3(request.getfixturevalue("juicefs_server"), folder),
    "local": lambda _, folder: _local(folder),
    "metered": lambda _, folder: _metered(folder),
    "replicas": lambda _, folder: _replicas(folder),
    "s3": lambda request, folder: _s3(request.getfixturevalue("s3_server"), folder),
}
