"""The way out: stored leaves are checked, or opened, before their first byte goes to anyone."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from crypto import (
    LEAF_CHUNKS,
    LEAF_SIZE,
    SEGMENT_LEAVES,
    SEGMENT_SIZE,
    CryptoError,
    LeafMismatch,
    Opener,
    Secret,
    check_leaf,
    open_head,
    opened_size,
)

from .backends import KeyedStore, Range
from .backends.last_resort import LastResort
from .catalog import Catalog, Unit
from .catalog.objects import load_manifest
from .catalog.registry import KeyVersion, keys_of_reader
from .catalog.segments import load_segment_page
from .damage import damage_told, record_damage_told
from .errors import BlobCorrupt, BlobMissing, CIDSuperseded, Erased
from .keyring import Keyring
from .memory import Account, Budget
from .raising import fresh
from .records import ROUTER, Caller, Manifest, ObjectState, Segment

Bytes = bytes | bytearray

LEAVES_IN_RUN = 4
"""Leaves read and checked in one hop to a worker thread: a hop costs as much as a leaf's check."""
RUNS_AHEAD = 1
"""Runs fetched while an earlier one is being sent, as far as there is memory for them."""
SEGMENTS_IN_PAGE = 16
"""Segments whose tags one download has in memory: those of the largest object take 20 MiB."""
SENT_BYTES_MAX = 320 << 10
"""What a connection may hold unsent; see `api.object_handlers`."""


@dataclass(frozen=True, slots=True)
class _StoredLeaf:
    index: int
    key: str
    offset: int
    size: int
    position: int
    digest: bytes
    tag_key: Secret
    tag: bytes
    last: bool

    @property
    def segment(self) -> int:
        return self.index // SEGMENT_LEAVES


@dataclass(frozen=True, slots=True)
class Loaded:
    """A manifest, a tombstone's too, and the first page of its segments, as of one moment."""

    manifest: Manifest
    segments: tuple[Segment, ...]
    keys: tuple[KeyVersion, ...] = ()
    """Of who asked, and the router's."""


def check_pin(manifest: Manifest, pinned_cid: str | None) -> None:
    """Raise CIDSuperseded when a name pins a payload that is not the object's."""
    if pinned_cid is not None and pinned_cid != manifest.cid:
        raise CIDSuperseded("the name pins another payload", cid=manifest.cid)


class Reads:
    """Serves objects for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: KeyedStore,
        threads: Executor,
        memory: Budget,
        keyring: Keyring,
        payloads: str,
        store_of: Callable[[Collection[str] | None], KeyedStore | LastResort] | None = None,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``.

        ``store_of`` is `WantedStores.for_parties`; without it all is read from ``store``.
        """
        self._catalog = catalog
        self._store_of = store_of or (lambda _backends: store)
        self._threads = threads
        self._memory = memory
        self._keyring = keyring
        self._payloads = payloads

    async def manifest(self, object_id: str, pinned_cid: str | None) -> Manifest:
        """Return a manifest, a tombstone's too.

        Raises:
            NotFound: no such object.
            CIDSuperseded: the name pins a payload that is not the object's.

        """
        manifest = await self._catalog.read(lambda c: load_manifest(c, object_id))
        check_pin(manifest, pinned_cid)
        return manifest

    def look(self, object_id: str, caller: Caller | None = None) -> Unit[Loaded]:
        """Return the unit that finds all that the beginning of a download needs.

        It raises:
            NotFound: no such object.

        """

        def unit(connection: Connection) -> Loaded:
            manifest = load_manifest(connection, object_id)
            if manifest.state is not ObjectState.COMMITTED:
                return Loaded(manifest, ())
            page = load_segment_page(
                connection, manifest.payload_id, first=0, count=SEGMENTS_IN_PAGE
            )
            if caller is None:
                return Loaded(manifest, page)
            keys = keys_of_reader(
                connection, manifest.slot.session_id, caller.kind.value, caller.miner
            )
            return Loaded(manifest, page, tuple(keys))

        return unit

    async def _load(self, object_id: str) -> Loaded:
        return await self._catalog.read(self.look(object_id))

    async def sealed(self, object_id: str, loaded: Loaded | None = None) -> AsyncGenerator[Bytes]:
        """Yield the whole age file: the head, then each leaf after its tag was verified.

        A piece counts as sent when the next one is asked for. ``loaded`` is what `look` found a
        moment ago, if that was asked.

        Raises:
            Erased, NotFound: before the first piece.
            Busy: there was no memory for it in time; before the first piece, too.
            BlobMissing, BlobCorrupt, BackendUnavailable: nothing of the bad leaf was yielded.

        """
        manifest, head, segments = _readable(loaded or await self._load(object_id))
        if len(head) + manifest.payload_size != manifest.sealed_size:
            # The size was announced: who is sent less waits for the rest.
            raise record_damage_told(object_id, "the head has another size than it had")
        leaves = self._leaves(manifest, segments, _verify)
        async with aclosing(leaves):
            # The first leaves are verified before the head goes out: damage in a small object,
            # that is nearly every object, is then a clean error and not a broken download.
            first = await anext(leaves)
            yield head
            yield first
            del first
            async for leaf in leaves:
                yield leaf
                del leaf  # sent: not to be held while the next one is waited for

    async def plaintext(
        self, object_id: str, loaded: Loaded | None = None
    ) -> AsyncGenerator[Bytes]:
        """Yield the opened payload, each chunk after its tag was checked.

        Raises:
            KeyProviderUnavailable: the router's keys are out of reach; before the first piece.
            Erased, NotFound, Busy, BlobMissing, BlobCorrupt, BackendUnavailable: as `sealed`.

        """
        manifest, head, segments = _readable(loaded or await self._load(object_id))
        routers = [party.recipient for party in manifest.wrapped_for if party.role == ROUTER]
        identities = await self._keyring.opening_for(routers)
        try:
            opened = open_head(head, identities)
            opened.check_context(manifest.context())
        except CryptoError as error:
            raise record_damage_told(object_id, "the head does not open") from error
        opener = opened.opener()
        leaves = self._leaves(manifest, segments, lambda leaf, sealed: _open(opener, leaf, sealed))
        async with aclosing(leaves):
            async for leaf in leaves:
                yield leaf
                del leaf

    async def _leaves(
        self,
        manifest: Manifest,
        segments: tuple[Segment, ...],
        check: Callable[[_StoredLeaf, bytes], Bytes],
    ) -> AsyncGenerator[Bytes]:
        """Yield checked leaves in order, fetching ahead what there is memory for."""
        plan = _Plan(f"{self._payloads}{manifest.payload_id}/", manifest)
        plan.add(segments)
        # One for all runs: those that are fetched at once ask a gateway that rested in turn.
        store = self._store_of(manifest.backends)
        unsent = min(SENT_BYTES_MAX, manifest.payload_size)
        ahead: deque[tuple[list[_StoredLeaf], asyncio.Task[list[Bytes]]]] = deque()
        # One leaf at a time is what a download needs to go on, if slowly.
        async with self._memory.admit(unsent + plan.leaves[0].size) as memory:
            memory.take(unsent)
            try:
                while plan.leaves or ahead:
                    if plan.wants_more():
                        plan.add(await self._next_page(manifest, plan.segments))
                    while len(ahead) <= RUNS_AHEAD and (run := plan.next_run(memory)):
                        fetching = self._fetch(store, manifest, run, check)
                        ahead.append((run, asyncio.create_task(fetching)))
                    run, fetched = ahead.popleft()
                    try:
                        leaves = await fetched
                    finally:
                        del fetched  # its error holds this frame; see `raising`
                    # Dropped one by one: a list would keep the whole run until its last was sent.
                    leaves.reverse()
                    for stored in run:
                        yield leaves.pop()
                        memory.give(stored.size)
            finally:
                for _, task in ahead:
                    task.cancel()
                await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)

    async def _next_page(self, manifest: Manifest, first: int) -> tuple[Segment, ...]:
        def unit(connection: Connection) -> tuple[Segment, ...]:
            if load_manifest(connection, manifest.object_id).state is not ObjectState.COMMITTED:
                raise Erased("the object was erased while it was read")
            return load_segment_page(
                connection, manifest.payload_id, first=first, count=SEGMENTS_IN_PAGE
            )

        return await self._catalog.read(unit)

    async def _fetch(
        self,
        store: KeyedStore | LastResort,
        manifest: Manifest,
        run: list[_StoredLeaf],
        check: Callable[[_StoredLeaf, bytes], Bytes],
    ) -> list[Bytes]:
        ranges = [Range(leaf.key, leaf.offset, leaf.size, leaf.digest) for leaf in run]

        def check_it(at: int, sealed: bytes) -> Bytes:
            return check(run[at], sealed)

        async def refuse_erased() -> None:
            now = await self._catalog.read(lambda c: load_manifest(c, manifest.object_id))
            if now.state is not ObjectState.COMMITTED:
                raise Erased("the object was erased while it was read") from None
            if now.payload_id != manifest.payload_id:
                raise CIDSuperseded("the object was resealed long since", cid=now.cid) from None

        tell = partial(
            damage_told,
            self._catalog,
            object_id=manifest.object_id,
            payload_id=manifest.payload_id,
            segment=run[0].segment,
            store=store,
        )
        try:
            if isinstance(store, LastResort):
                # What is erased may still be with others: nobody is to be served with it.
                return await store.fetch(
                    ranges, check_it, self._threads, permit=refuse_erased, on_lost=tell
                )
            return await store.fetch(ranges, check_it, self._threads)
        except (BlobMissing, BlobCorrupt) as error:
            damage = fresh(error)
        # Perhaps no damage: an erasure since the manifest was read deletes under its readers.
        await refuse_erased()
        raise await tell(damage)


def _readable(loaded: Loaded) -> tuple[Manifest, bytes, tuple[Segment, ...]]:
    manifest = loaded.manifest
    if manifest.state is not ObjectState.COMMITTED or manifest.head is None:
        raise Erased("the object was erased")
    return manifest, manifest.head, loaded.segments


class _Plan:
    """The leaves still to be read, as far ahead as a page of segments tells."""

    def __init__(self, prefix: str, manifest: Manifest) -> None:
        self._prefix = prefix
        self._manifest = manifest
        self._segments_all = -(-manifest.payload_size // SEGMENT_SIZE)
        self.segments = 0
        self.leaves: deque[_StoredLeaf] = deque()

    def wants_more(self) -> bool:
        return len(self.leaves) < SEGMENT_LEAVES and self.segments < self._segments_all

    def add(self, page: tuple[Segment, ...]) -> None:
        """Take the next page; raise BlobCorrupt unless it fits to the payload's size."""
        found = [(s.index, s.size, len(s.leaf_tags), len(s.leaf_digests)) for s in page]
        if found != [self._wanted(self.segments + at) for at in range(len(page))] or not page:
            detail = "the segments do not add up to the payload"
            raise record_damage_told(self._manifest.object_id, detail)
        for segment in page:
            leaves = zip(segment.leaf_digests, segment.leaf_tags, strict=True)
            for at, (digest, tag) in enumerate(leaves):
                leaf = _StoredLeaf(
                    index=segment.index * SEGMENT_LEAVES + at,
                    key=f"{self._prefix}{segment.index}",
                    offset=at * LEAF_SIZE,
                    size=min(LEAF_SIZE, segment.size - at * LEAF_SIZE),
                    position=at,
                    digest=digest,
                    tag_key=segment.tag_key,
                    tag=tag,
                    last=segment.index == self._segments_all - 1
                    and at == len(segment.leaf_tags) - 1,
                )
                self.leaves.append(leaf)
        self.segments += len(page)

    def next_run(self, memory: Account) -> list[_StoredLeaf]:
        """Take the next leaves of one segment, as many as there is memory for."""
        run: list[_StoredLeaf] = []
        while self.leaves and len(run) < LEAVES_IN_RUN:
            if run and self.leaves[0].segment != run[0].segment:
                break  # what cannot be served is told of by its segment
            if not memory.take(self.leaves[0].size):
                break
            run.append(self.leaves.popleft())
        return run

    def _wanted(self, index: int) -> tuple[int, int, int, int]:
        """Return number, size, and tags and digests of leaves that a segment must have."""
        size = min(SEGMENT_SIZE, self._manifest.payload_size - index * SEGMENT_SIZE)
        leaves = -(-size // LEAF_SIZE)
        return index, size, leaves, leaves


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
