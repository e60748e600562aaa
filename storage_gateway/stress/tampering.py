"""Damaging what a run has stored, below its gateways, and putting it back.

What a store lost or changed is for repair to mend, in the cases that are about it; in the others
each damage is undone before the end, so that the run can be judged as if it had been mended.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import Connection, select, update

from storage_gateway.backend_settings import IPFSBackend
from storage_gateway.backends import KeyedStore
from storage_gateway.catalog.copies import load_placements
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.tables import objects
from storage_gateway.records import Manifest
from urn import CID, LEAF_SIZE, Codec, ObjectName, parse_name

from .nodes import open_node
from .run_stores import RunStore
from .world import World

Change = Callable[[bytes], bytes | None]
"""Makes of a blob what is to lie there instead; None: nothing."""
NOWHERE = "changing-places"
"""What an object has for a payload in the midst of a transaction."""


def object_id_of(urn: str) -> str:
    """Return the object that a URN of the run names."""
    name = parse_name(urn)
    if not isinstance(name, ObjectName):
        raise TypeError(f"{urn} is none of our names")
    return name.object_id


async def manifest_of(world: World, urn: str) -> Manifest:
    """Return the manifest behind a URN of the run, read without the catalog's faults."""
    object_id = object_id_of(urn)
    return await world.catalog.inner.read(lambda c: load_manifest(c, object_id))


async def blob_key(world: World, urn: str, segment: int = 0) -> str:
    """Return the key of a segment of an object."""
    manifest = await manifest_of(world, urn)
    return f"{world.parts.payloads}{manifest.payload_id}/{segment}"


async def copies_of(world: World, urn: str, state: str) -> dict[str, frozenset[int]]:
    """Return by store which segments of an object are in that state there, as the catalog says."""
    payload_id = (await manifest_of(world, urn)).payload_id
    return await world.catalog.inner.read(
        partial(load_placements, payload_id=payload_id, state=state)
    )


@asynccontextmanager
async def damaged(damaging: RunStore, key: str, change: Change) -> AsyncIterator[None]:
    """Have something else in a blob's place until the end of the block; see `spoil`."""
    right = await spoil(damaging, key, change)
    try:
        yield
    finally:
        if damaging.faulty.damaged.pop(key, None) is None:
            await _put_again(damaging.store, key, right)


async def spoil(spoiling: RunStore, key: str, change: Change) -> bytes:
    """Have something else in a blob's place until it is made again; return what was there.

    An IPFS node cannot be told to keep other bytes under a block's name: there they are what the
    run's gateways are answered. What is to be gone is gone from it.
    """
    store, backend = spoiling.store, spoiling.backend
    right = await _whole(store, key)
    wrong = change(right)
    if isinstance(backend, IPFSBackend) and wrong is not None:
        spoiling.faulty.damaged[key] = wrong
        return right
    await _put_again(store, key, wrong)
    if isinstance(backend, IPFSBackend):
        await _remove_leaves(backend, right)
    return right


async def _remove_leaves(backend: IPFSBackend, data: bytes) -> None:
    """Remove blocks that no pin holds any more; no other blob of a run has the same."""
    async with open_node(backend) as node:
        for at in range(0, len(data), LEAF_SIZE):
            leaf = data[at : at + LEAF_SIZE]
            await node.remove(CID(Codec.RAW, hashlib.sha256(leaf).digest()))


@asynccontextmanager
async def swapped(mixing: RunStore, key: str, other: str) -> AsyncIterator[None]:
    """Have two blobs in each other's places until the end of the block."""
    first, second = await _whole(mixing.store, key), await _whole(mixing.store, other)
    async with damaged(mixing, key, lambda _: second), damaged(mixing, other, lambda _: first):
        yield


async def _whole(store: KeyedStore, key: str) -> bytes:
    return await store.get(key, 0, (await store.stat(key)).size)


async def _put_again(store: KeyedStore, key: str, data: bytes | None) -> None:
    await store.delete(key)
    if data is not None:
        await store.put(key, data)


def flipped(at: int) -> Change:
    """Return what turns one bit over, in the byte at ``at`` of all there are, cyclically."""

    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


def replaced(label: str) -> Change:
    """Return what has other bytes, as many, in a blob's place."""
    return lambda data: other_bytes(label, len(data))


def other_bytes(label: str, size: int) -> bytes:
    """Return bytes that the label decides."""
    return hashlib.shake_256(label.encode()).digest(size)


@asynccontextmanager
async def heads_swapped(
    world: World, pairs: Sequence[tuple[str, str]], *, with_payloads: bool
) -> AsyncIterator[None]:
    """Have the heads of each two objects (their URNs) in each other's places in the catalog until
    the end of the block; ``with_payloads`` the payloads that they name go with them.
    """
    ids = [(object_id_of(one), object_id_of(other)) for one, other in pairs]

    def swap(connection: Connection) -> None:
        for one, other in ids:
            _swap(connection, one, other, with_payloads=with_payloads)

    await world.catalog.inner.run(swap)
    try:
        yield
    finally:
        await world.catalog.inner.run(swap)


def _swap(connection: Connection, one: str, other: str, *, with_payloads: bool) -> None:
    columns = objects.c.head, objects.c.payload_id
    first, second = (
        connection.execute(select(*columns).where(objects.c.object_id == object_id)).one()
        for object_id in (one, other)
    )
    # No two objects name the same payload, at no moment.
    steps = [(one, (first.head, NOWHERE)), (other, first), (one, second)]
    for object_id, (head, payload_id) in steps:
        values = {"head": head} | ({"payload_id": payload_id} if with_payloads else {})
        connection.execute(update(objects).where(objects.c.object_id == object_id).values(values))
