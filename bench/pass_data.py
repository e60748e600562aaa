"""A deployment with many objects in two folders, made without a gateway: sealed, tagged, entered in
a catalog by the units that uploads use, and their blobs written without a sync.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select, update

from crypto import (
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    CopySealer,
    Secret,
    X25519Identity,
    leaf_tag,
    new_head,
    new_tag_key,
    recovery_identity,
)
from storage_gateway.backend_settings import LocalBackend
from storage_gateway.catalog.copies import BAD
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.outbox import Due, copy_came, load_copy
from storage_gateway.catalog.tables import outbox, placements
from storage_gateway.catalog.work import LEASE_S_MAX, end_instance, renew_instance
from storage_gateway.config import Config
from storage_gateway.custody import recipient_of_copies
from storage_gateway.drafts import Draft, manifest_of, recipients_of
from storage_gateway.ids import new_random_id
from storage_gateway.manifest_copies import FOLDERS, OBJECT, Copy, encode_copy, name_of
from storage_gateway.parts import CATALOG_FILE, Parts, open_parts
from storage_gateway.records import INPUT, Manifest, Segment, Session, Slot
from storage_gateway.sessions import MinerEntry, Sessions

SESSION = "bench"
MINER = "0x00000000000000000000000000000000000000a1"
STORES = ("one", "two")
LOSER = "two"
"""The store that loses its copies, so that they are made again."""
REBUILD = "rebuild"
BATCH = 500
TOKEN_S = 86400.0

Made = tuple[Ownership, Manifest, Segment]


def config_of(folder: Path) -> Config:
    """Return the settings of the deployment: scrub is not slowed."""
    return Config(
        data_dir=folder / "data",
        backends=tuple(LocalBackend(name=name, path=folder / name) for name in STORES),
        scrub_bytes_per_s=1e12,
        reserve_bytes=0,
    )


async def fill(folder: Path, count: int, size: int, on_made: Callable[[int], None]) -> None:
    """Make a deployment with that many objects of ``size`` bytes, at most a segment's; ``on_made``
    is told how many there are.
    """
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        session = await open_session(parts)
        for first in range(0, count, BATCH):
            made = [
                _make(folder, parts, session, number, size)
                for number in range(first, min(count, first + BATCH))
            ]
            await parts.catalog.run(_entering(made))
            on_made(first + len(made))
        await parts.catalog.run(lambda c: end_instance(c, SESSION))
    os.sync()  # else the disk would be at it while something else is measured


async def open_session(parts: Parts) -> Session:
    """Open the session that all objects are of."""
    user, miner = (str(X25519Identity.generate().recipient()) for _ in range(2))
    sessions = Sessions(
        parts.catalog, keyring=parts.keyring, miners_max=1, token_lifetime_s=TOKEN_S
    )
    opened = await sessions.open(
        session_id=SESSION,
        custody="router",
        user_recipient=user,
        miners=[MinerEntry(MINER, miner)],
    )
    return opened.session


def _make(folder: Path, parts: Parts, session: Session, number: int, size: int) -> Made:
    """Seal an object, and write what is to be stored of it into both stores."""
    slot = Slot(SESSION, f"t{number}", INPUT, None)
    draft = Draft(
        object_id=new_random_id(),
        payload_id=new_random_id(),
        slot=slot,
        key_class=session.key_class,
        parties=session.recipients_of(INPUT, None),
        wanted=session.wanted,
        store=parts.store,
    )
    head = new_head(recipients_of(draft.parties), context=draft.context())
    leaves = []
    for at in range(0, size, LEAF_PLAINTEXT_SIZE):
        plaintext = os.urandom(min(LEAF_PLAINTEXT_SIZE, size - at))
        run = head.sealer.claim(len(plaintext), last=at + len(plaintext) == size)
        sealed = bytearray(run.sealed_size)
        run.seal_into(plaintext, sealed)
        leaves.append(sealed)
    segment = _segment_of(leaves, new_tag_key(os.urandom))
    for name in STORES:
        path = folder / name / f"{parts.payloads}{draft.payload_id}" / "0"
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_bytes(b"".join(leaves))
    placed = [
        (digest, len(leaf)) for digest, leaf in zip(segment.leaf_digests, leaves, strict=True)
    ]
    return Ownership(draft.payload_id, SESSION, 1), manifest_of(draft, head, placed), segment


def _segment_of(leaves: list[bytearray], key: Secret) -> Segment:
    assert all(len(leaf) <= LEAF_SIZE for leaf in leaves)
    return Segment(
        index=0,
        size=sum(map(len, leaves)),
        leaf_digests=tuple(hashlib.sha256(leaf).digest() for leaf in leaves),
        tag_key=key,
        leaf_tags=tuple(leaf_tag(key, at, leaf) for at, leaf in enumerate(leaves)),
        stores=STORES,
    )


def _entering(made: list[Made]) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        renew_instance(connection, SESSION, LEASE_S_MAX)  # as a commit asks for a lease
        for owner, manifest, segment in made:
            begin_upload(connection, owner, object_id=manifest.object_id, slot=manifest.slot)
            commit_upload(connection, owner, manifest, placed=[segment], wanted=STORES)

    return unit


async def lose_copies(folder: Path) -> None:
    """Take all payloads away from a store, and have them known to be missing there."""
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        shutil.rmtree(folder / LOSER / parts.payloads)

        def unit(connection: Connection) -> None:
            lost = placements.c.backend == LOSER
            connection.execute(update(placements).where(lost).values(state=BAD))

        await parts.catalog.run(unit)
    os.sync()


async def write_copies(folder: Path) -> None:
    """Write the manifest copies of all there is into both stores, as the outbox would, unsynced."""
    config = config_of(folder)
    async with AsyncExitStack() as opened:
        parts = await open_parts(config, opened)
        sealer = CopySealer(parts.copies_identity, parts.deployment_id)
        recipient = recipient_of_copies(config, parts.copies_identity)
        while copies := await parts.catalog.read(_copies_due):
            for copy in copies:
                key = name_of(copy, sealer).below(parts.prefix)
                sealed = sealer.seal(key, encode_copy(copy), recipient)
                for store in STORES:
                    path = folder / store / key
                    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    path.write_bytes(sealed)
            dues = [Due(copy.kind, copy.record_id, copy.generation) for copy in copies]
            await parts.catalog.run(partial(_have_come, dues=dues))
    os.sync()


def _copies_due(connection: Connection) -> list[Copy]:
    due = select(outbox.c.kind, outbox.c.record_id).limit(BATCH)
    found = [
        load_copy(connection, kind=row.kind, record_id=row.record_id)
        for row in connection.execute(due).all()
    ]
    return [copy for copy in found if copy is not None]


def _have_come(connection: Connection, dues: list[Due]) -> None:
    for due in dues:
        copy_came(connection, due, stores=STORES)


def lose_catalog(folder: Path) -> None:
    """Take the catalog away."""
    for file in (folder / "data").glob(f"{CATALOG_FILE}*"):
        file.unlink()


async def open_copies(folder: Path) -> float:
    """Open every copy of an object in one store, and do nothing with it; return seconds."""
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(folder), opened)
        sealer, identity = (
            CopySealer(parts.copies_identity, parts.deployment_id),
            recovery_identity(parts.copies_identity),
        )
        store = folder / STORES[0]
        began = time.perf_counter()
        for path in (store / f"{parts.prefix}{FOLDERS[OBJECT]}").rglob("*"):
            if path.is_file():
                sealer.open(str(path.relative_to(store)), path.read_bytes(), identity)
        return time.perf_counter() - began
