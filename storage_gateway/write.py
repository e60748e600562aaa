"""The way in: a body is sealed, or a sealed one verified, placed, and committed.

The order is that of DESIGN: intent, slot and segment row first; payload bytes next; the manifest
last, in one transaction. Whatever ends an upload early is settled before the answer goes out, or,
where the answer was that it is pending (`late`), before it is told to have failed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial

from sqlalchemy import Connection

from crypto import (
    CHUNK_SIZE,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEALED_CHUNK_SIZE,
    CryptoError,
    Meta,
    SealedHead,
    new_head,
    open_head,
)

from . import errors
from .backends import KeyedStore
from .catalog import Catalog, Unit
from .catalog.blocks import Node, RecordBlocks, record_none
from .catalog.objects import (
    Ownership,
    begin_upload,
    check_slot_free,
    commit_upload,
    continue_upload,
)
from .catalog.resealing import begin_reseal, commit_reseal
from .catalog.roots import expect_roots
from .catalog.sessions import load_session
from .commits import Commits
from .drafts import Draft, Payload, manifest_of, recipients_of
from .failed import FailedUploads
from .ids import new_random_id
from .intake import Intake
from .keyring import Keyring
from .late import Late
from .leaves import Measure, Part, chained, cut_leaves, floor_of, split_head
from .memory import Budget
from .placing import Placer, Produce
from .producing import sealing, verifying
from .raising import Together
from .records import MINER, Manifest, Segment, Session, Slot, Wanted
from .refusals import refusal_of
from .room import Room
from .roots import Roots
from .settle import FIRST_INSTANCE_FENCE, Settler

logger = logging.getLogger(__name__)

Body = AsyncGenerator[bytes]

IN_CLEAR = Measure(LEAF_PLAINTEXT_SIZE, CHUNK_SIZE)
AS_SEALED = Measure(LEAF_SIZE, SEALED_CHUNK_SIZE)


@dataclass(slots=True)
class _Progress:
    """How far one upload got."""

    wrote: bool = False
    """Its intent stands and bytes may have gone to the store."""


async def _hold_nothing() -> None:
    pass


async def _bring_none(_manifest: Manifest) -> None:
    pass


class Uploads:
    """Takes bodies in for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: KeyedStore,
        threads: Executor,
        memory: Budget,
        settler: Settler,
        keyring: Keyring,
        instance_id: str,
        payloads: str,
        roots: Roots | None = None,
        store_of: Callable[[Wanted], KeyedStore] | None = None,
        check_room: Callable[[Wanted], None] = lambda _wanted: None,
        hold_lease: Callable[[], Awaitable[None]] = _hold_nothing,
        record_blocks: RecordBlocks = record_none,
        bring_copy: Callable[[Manifest], Awaitable[None]] = _bring_none,
        stale_grace_s: float = 0.0,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``.

        ``store_of`` is `WantedStores.for_writes`; without it all goes to ``store``.
        ``check_room`` raises StorageFull when no further segment should be begun; ``hold_lease``
        is `Instance.hold`; ``record_blocks`` is called in the transactions that record segments;
        ``bring_copy`` returns once as many stores have the manifest's copy as must;
        ``stale_grace_s`` is that of `Intake`.
        """
        self._catalog = catalog
        self._store_of = store_of or (lambda _wanted: store)
        self._threads = threads
        self._memory = memory
        self._settler = settler
        self._keyring = keyring
        self._commits = Commits(catalog, keyring)
        self._intake = Intake(catalog, keyring, grace_s=stale_grace_s)
        self._instance_id = instance_id
        self._payloads = payloads
        self._roots = roots or Roots(catalog, (), payloads=payloads)
        self._room = Room(check_room, threads)
        self._hold_lease = hold_lease
        self._record_blocks = record_blocks
        self._bring_copy = bring_copy
        self._turn = asyncio.Lock()
        self._failed = FailedUploads(settler)

    async def check(self, slot: Slot) -> Session:
        """Run the unit of `look`."""
        return await self._catalog.read(self.look(slot))

    def look(self, slot: Slot) -> Unit[Session]:
        """Return the unit that refuses what cannot succeed before a byte of the body is read.

        It raises:
            UnknownSession, InvalidField: no such session, or the miner is not one of it.
            SlotTaken, SlotBusy: the slot is not free.
            PlacementImpossible: the stores that the session wants are not there.

        """

        def unit(connection: Connection) -> Session:
            session = load_session(connection, slot.session_id)
            check_slot_free(connection, slot)
            if slot.miner is not None and session.party(MINER, slot.miner) is None:
                raise errors.InvalidField(
                    f"{slot.miner} is not a miner of session {slot.session_id}", field="miner"
                )
            self._store_of(session.wanted)
            return session

        return unit

    async def seal(
        self,
        slot: Slot,
        session: Session,
        body: Body,
        meta: Meta,
        *,
        size: int | None = None,
        late: Late | None = None,
        lifetime_s: int | None = None,
    ) -> Manifest:
        """Seal a plaintext body for the parties of its slot and commit it.

        ``size`` is that of the body, if it is known: a small one needs little memory. ``late`` is
        told when the body is there and its write quorum is not. ``lifetime_s`` is `Draft`'s.

        Raises:
            Busy: there was no memory for it in time; nothing was read.
            KeyProviderUnavailable: the router's keys are out of reach; nothing was read.
            RequestError, ServiceError: the upload was refused or failed; nothing of it is kept.

        """
        draft = self._draft(slot, session, lifetime_s)
        return await self.seal_draft(draft, body, meta, size=size, late=late)

    async def adopt(
        self,
        slot: Slot,
        session: Session,
        body: Body,
        *,
        size: int | None = None,
        late: Late | None = None,
        lifetime_s: int | None = None,
    ) -> Manifest:
        """Take a file that was sealed to the router: verify it, rewrap it, commit it.

        The payload stays as it was sent; every chunk of it is opened and checked. ``size`` is that
        of the whole file, if it is known; the rest as for `seal`.

        Raises:
            EnvelopeRefused, FileKeyReused, StaleKeyWriter: it is not acceptable.
            Busy, KeyProviderUnavailable, RequestError, ServiceError: as `seal`.

        """
        draft = self._draft(slot, session, lifetime_s)
        await self._keyring.sealing_for(draft.router)  # before anything is read
        try:
            async with self._memory.admit(floor_of(size, SEALED_CHUNK_SIZE)) as memory:
                head, rest = await split_head(body)
                adopted = await self._intake.adopt(head, draft)
                return await self.take_in(
                    draft,
                    Payload(
                        cut_leaves(chained(rest, body), AS_SEALED, memory, size=size),
                        lambda part: verifying(adopted.opener, part),
                        lambda: adopted,
                        memory,
                        late,
                    ),
                )
        except CryptoError as error:
            raise refusal_of(error) from error

    async def seal_draft(
        self, draft: Draft, body: Body, meta: Meta | None, *, size: int | None, late: Late | None
    ) -> Manifest:
        """Seal a plaintext body as the draft has it; as `seal`."""
        identity = await self._keyring.sealing_for(draft.router)
        async with self._memory.admit(floor_of(size, CHUNK_SIZE)) as memory:

            @cache
            def sealed_head() -> SealedHead:
                context = draft.context()
                made = new_head(recipients_of(draft.parties), context=context, meta=meta)
                # Opened again with the router's identity: what does not open is never committed.
                open_head(made.head, [identity]).check_context(context)
                return made

            return await self.take_in(
                draft,
                Payload(
                    cut_leaves(body, IN_CLEAR, memory, size=size),
                    lambda part: sealing(sealed_head().sealer, part),
                    sealed_head,
                    memory,
                    late,
                ),
            )

    async def wait_settled(self) -> None:
        """Wait until every failed upload is settled, as far as it can be now, and soon."""
        await self._failed.wait()

    def _draft(self, slot: Slot, session: Session, lifetime_s: int | None) -> Draft:
        return Draft(
            object_id=new_random_id(),
            payload_id=new_random_id(),
            slot=slot,
            key_class=session.key_class,
            parties=session.recipients_of(slot.direction, slot.miner),
            wanted=session.wanted,
            store=self._store_of(session.wanted),
            lifetime_s=lifetime_s,
        )

    async def take_in(self, draft: Draft, payload: Payload) -> Manifest:
        """Place a payload and commit it as the draft has it; `seal` and `adopt` end so.

        Raises:
            RequestError, ServiceError, CryptoError: it was refused or failed, and is settled.

        """
        owner = Ownership(draft.payload_id, self._instance_id, FIRST_INSTANCE_FENCE)
        progress = _Progress()
        self._settler.working.add(draft.payload_id)
        try:
            placer, unrecorded = await self._place_all(draft, owner, payload, progress)
            nodes: list[Node] = []
            manifest = manifest_of(draft, payload.head(), placer.leaf_digests, nodes.append)
            logger.debug("commit began", extra={"payload_id": draft.payload_id})
            roots = self._roots.expected(draft.store.names, placer.leaf_count)

            def commit(connection: Connection, manifest: Manifest) -> Manifest:
                draft.on_commit(connection)
                expect_roots(connection, draft.payload_id, roots)
                self._record_blocks(connection, draft.payload_id, unrecorded, nodes)
                make = partial(commit_upload, lifetime_s=draft.lifetime_s)
                if draft.replaces is not None:
                    make = partial(commit_reseal, old=draft.replaces, grace_s=draft.grace_s)
                return make(
                    connection, owner, manifest, placed=unrecorded, wanted=draft.store.names
                )

            committed = await self._commits.run(manifest, commit)
            logger.debug("upload committed", extra={"payload_id": draft.payload_id})
        except BaseException as error:
            self._settler.working.discard(draft.payload_id)
            await self._failed.settle(
                draft.payload_id,
                draft.object_id,
                wrote=progress.wrote,
                late=payload.late,
                error=error,
            )
            logger.debug("upload failed", extra={"payload_id": draft.payload_id})
            raise
        finally:
            self._settler.working.discard(draft.payload_id)
        await self._bring_copy(committed)
        await self._roots.bring(draft.payload_id, roots)
        return committed

    async def _place_all(
        self,
        draft: Draft,
        owner: Ownership,
        payload: Payload,
        progress: _Progress,
    ) -> tuple[Placer, list[Segment]]:
        async def open_segment(index: int, placed: Sequence[Segment]) -> None:
            await self._room.require(draft.wanted)

            def unit(connection: Connection) -> None:
                if index == 0 and draft.replaces is not None:
                    begin_reseal(connection, owner, draft.replaces, draft.parties)
                elif index == 0:
                    begin_upload(
                        connection,
                        owner,
                        object_id=draft.object_id,
                        slot=draft.slot,
                        wrapped_for=draft.parties,
                    )
                else:
                    continue_upload(
                        connection, owner, placed=placed, wanted=draft.store.names, index=index
                    )
                    self._record_blocks(connection, draft.payload_id, placed)

            await self._catalog.run(unit)
            if not progress.wrote:
                logger.debug("upload began", extra={"payload_id": draft.payload_id})
            progress.wrote = True

        placer = None
        try:
            async with Together() as group:
                placer = Placer(
                    group,
                    self._threads,
                    draft.store,
                    prefix=f"{self._payloads}{draft.payload_id}/",
                    open_segment=open_segment,
                    memory=payload.memory,
                )
                async for part in payload.parts:
                    await self._hold_lease()
                    if part.is_all and not _may_be_late(draft, payload):
                        prepare = partial(self._prepare, payload, part)
                        await placer.place_whole(prepare, len(part.data))
                        continue
                    produce = payload.produce(part)
                    await placer.place(produce, len(part.data), ends_leaf=part.ends_leaf)
                watching = self._watch(group, draft, owner, placer, payload)
                unrecorded = await placer.finish()
                if watching is not None:
                    watching.cancel()
                return placer, unrecorded
        finally:
            if placer is not None:
                await placer.quiesce()

    async def _prepare(self, payload: Payload, part: Part) -> Produce:
        """Make the head of a small body, in a round of the event loop that is its own.

        That takes a millisecond, and uploads that came together are told together that they may
        begin. One after the other in one round, none would be sent before all were sealed.
        """
        async with self._turn:
            await asyncio.sleep(0)
        # Asked before the intent, too: the queue may have been longer than what was left of it.
        await self._hold_lease()
        return payload.produce(part)

    def _watch(
        self,
        group: asyncio.TaskGroup,
        draft: Draft,
        owner: Ownership,
        placer: Placer,
        payload: Payload,
    ) -> "asyncio.Task[None] | None":
        if payload.late is None or not _may_be_late(draft, payload):
            return None
        watch = payload.late.watch(owner, draft.object_id, draft.slot, placer.wait_held)
        return group.create_task(watch)


def _may_be_late(draft: Draft, payload: Payload) -> bool:
    return payload.late is not None and len(draft.store.names) > 1
