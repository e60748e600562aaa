"""The way out: stored leaves are checked, or opened, before their first byte goes to anyone."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

from crypto import (
    LEAF_CHUNKS,
    LEAF_SIZE,
    CryptoError,
    Identity,
    LeafMismatch,
    Opener,
    Secret,
    check_leaf,
    open_head,
    opened_size,
)

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.objects import load_manifest, load_readable
from .errors import BlobCorrupt, BlobMissing, CIDSuperseded, Erased
from .records import Manifest, ObjectState, Segment

Bytes = bytes | bytearray

LEAVES_IN_RUN = 4
"""Leaves read and checked in one hop to a worker thread: a hop costs as much as a leaf's check."""
RUNS_AHEAD = 1
"""Runs fetched while an earlier one is being sent: with it, what one download holds in memory."""


@dataclass(frozen=True, slots=True)
class _StoredLeaf:
    index: int
    key: str
    offset: int
    size: int
    position: int
    tag_key: Secret
    tag: bytes
    last: bool


class Reads:
    """Serves objects for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: KeyedStore,
        threads: Executor,
        identity: Identity,
        payloads: str,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``."""
        self._catalog = catalog
        self._store = store
        self._threads = threads
        self._identity = identity
        self._payloads = payloads

    async def manifest(self, object_id: str, pinned_cid: str | None) -> Manifest:
        """Return a manifest, a tombstone's too.

        Raises:
            NotFound: no such object.
            CIDSuperseded: the name pins a payload that is not the object's.

        """
        manifest = await self._catalog.read(lambda c: load_manifest(c, object_id))
        if pinned_cid is not None and pinned_cid != manifest.cid:
            raise CIDSuperseded("the name pins another payload", cid=manifest.cid)
        return manifest

    async def sealed(self, object_id: str) -> AsyncGenerator[Bytes]:
        """Yield the whole age file: the head, then each leaf after its tag was verified.

        Raises:
            Erased, NotFound: before the first piece.
            BlobMissing, BlobCorrupt, BackendUnavailable: nothing of the bad leaf was yielded.

        """
        manifest, segments = await self._catalog.read(lambda c: load_readable(c, object_id))
        if manifest.head is None:
            raise Erased("the object was erased")
        leaves = self._leaves(manifest, segments, _verify)
        async with aclosing(leaves):
            # The first leaves are verified before the head goes out: damage in a small object,
            # that is nearly every object, is then a clean error and not a broken download.
            first = await anext(leaves)
            yield manifest.head
            yield first
            async for leaf in leaves:
                yield leaf

    async def plaintext(self, object_id: str) -> AsyncGenerator[Bytes]:
        """Yield the opened payload, each chunk after its tag was checked.

        Raises:
            Erased, NotFound, BlobMissing, BlobCorrupt, BackendUnavailable: as `sealed`.

        """
        manifest, segments = await self._catalog.read(lambda c: load_readable(c, object_id))
        if manifest.head is None:
            raise Erased("the object was erased")
        try:
            opened = open_head(manifest.head, [self._identity])
            opened.check_context(manifest.context())
        except CryptoError as error:
            raise BlobCorrupt(f"the head of {object_id} does not open") from error
        opener = opened.opener()
        leaves = self._leaves(manifest, segments, lambda leaf, sealed: _open(opener, leaf, sealed))
        async with aclosing(leaves):
            async for leaf in leaves:
                yield leaf

    async def _leaves(
        self,
        manifest: Manifest,
        segments: tuple[Segment, ...],
        check: Callable[[_StoredLeaf, bytes], Bytes],
    ) -> AsyncGenerator[Bytes]:
        """Yield checked leaves in order, fetching a few ahead."""
        plan = _stored_leaves(f"{self._payloads}{manifest.payload_id}/", manifest, segments)
        runs = [plan[at : at + LEAVES_IN_RUN] for at in range(0, len(plan), LEAVES_IN_RUN)]
        ahead: deque[asyncio.Task[list[Bytes]]] = deque()
        try:
            for number in range(len(runs) + RUNS_AHEAD):
                if number < len(runs):
                    fetching = self._fetch(manifest, runs[number], check)
                    ahead.append(asyncio.create_task(fetching))
                if number >= RUNS_AHEAD:
                    for leaf in await ahead.popleft():
                        yield leaf
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _fetch(
        self,
        manifest: Manifest,
        run: list[_StoredLeaf],
        check: Callable[[_StoredLeaf, bytes], Bytes],
    ) -> list[Bytes]:
        def work() -> list[Bytes]:
            return [check(leaf, self._store.read(leaf.key, leaf.offset, leaf.size)) for leaf in run]

        try:
            # One hop for reading and checking: a second one costs as much as the check itself.
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BlobMissing:
            # Perhaps no damage: an erasure since the manifest was read deletes under its readers.
            now = await self._catalog.read(lambda c: load_manifest(c, manifest.object_id))
            if now.state is not ObjectState.COMMITTED:
                raise Erased("the object was erased while it was read") from None
            raise


def _stored_leaves(
    prefix: str, manifest: Manifest, segments: tuple[Segment, ...]
) -> list[_StoredLeaf]:
    leaves: list[_StoredLeaf] = []
    for segment in segments:
        for at, tag in enumerate(segment.leaf_tags):
            offset = at * LEAF_SIZE
            leaves.append(
                _StoredLeaf(
                    index=len(leaves),
                    key=f"{prefix}{segment.index}",
                    offset=offset,
                    size=min(LEAF_SIZE, segment.size - offset),
                    position=at,
                    tag_key=segment.tag_key,
                    tag=tag,
                    last=segment is segments[-1] and at == len(segment.leaf_tags) - 1,
                )
            )
    if sum(leaf.size for leaf in leaves) != manifest.payload_size:
        raise BlobCorrupt(f"the segments of {manifest.object_id} do not add up to its payload")
    return leaves


def _verify(leaf: _StoredLeaf, sealed: bytes) -> bytes:
    try:
        check_leaf(leaf.tag_key, leaf.position, sealed, leaf.tag)
    except LeafMismatch as error:
        raise BlobCorrupt(f"leaf {leaf.index} in {leaf.key} does not have its tag") from error
    return sealed


def _open(opener: Opener, leaf: _StoredLeaf, sealed: bytes) -> bytearray:
    first_chunk = leaf.index * LEAF_CHUNKS
    try:
        plaintext = bytearray(opened_size(len(sealed)))
        opener.open_run_into(first_chunk, sealed, plaintext, last=leaf.last)
    except CryptoError as error:
        raise BlobCorrupt(f"leaf {leaf.index} in {leaf.key} does not open") from error
    return plaintext
