"""Bringing interrupted uploads to their end; requests and recovery passes both call this.

Every step is idempotent and is decided by `plan.next_intent_step`; dying between any two of them
leaves an intent that the next pass takes up.
"""

import logging
from functools import partial

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.graves import touch_grave
from .catalog.high_water import set_behind
from .catalog.objects import Ownership
from .catalog.work import (
    IntentRow,
    abort_intent,
    bury,
    bury_again,
    claim_intent,
    find_intent,
)
from .errors import BackendUnavailable, CatalogBehind, GatewayError
from .old_copies import OldCopies
from .plan import IntentStep, IntentView, next_intent_step

logger = logging.getLogger(__name__)

FIRST_INSTANCE_FENCE = 1


class Settler:
    """Aborts what cannot be finished, on behalf of one process."""

    def __init__(
        self,
        catalog: Catalog,
        store: KeyedStore,
        *,
        instance_id: str,
        payloads: str,
        copies: OldCopies | None = None,
    ) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``. Without ``copies`` no
        store holds manifests.
        """
        self._catalog = catalog
        self._store = store
        self._instance_id = instance_id
        self._payloads = payloads
        self._copies = copies
        self.working: set[str] = set()
        """Payload ids that requests of this process are at work on."""
        self._unburied: dict[str, str] = {}
        """Payload ids, each with its object id, that were written to and that nothing in the
        catalog may name: it did not answer when they were to be buried."""

    async def settle_upload(self, payload_id: str, object_id: str, *, wrote: bool) -> None:
        """Settle an upload whose request has ended; a committed one has no intent any more.

        Asked of the writer, not of a reader: what a cancelled request left in its queue, the
        beginning of the upload or its commit, has then taken effect before. ``wrote`` tells that
        the request had begun to write: when another process has claimed and buried the upload
        since, it may have done so after the last look into the grave.

        Raises:
            GatewayError: it is not settled; its intent stands, or `settle_unburied` takes it up.

        """
        try:
            intent = await self._catalog.run(lambda c: find_intent(c, payload_id))
            buried_again = (
                intent is None
                and wrote
                and await self._catalog.run(lambda c: bury_again(c, payload_id, object_id))
            )
        except GatewayError:
            if wrote:
                self._unburied[payload_id] = object_id
            raise
        self._unburied.pop(payload_id, None)
        if intent is not None:
            await self.settle(intent)
        elif buried_again:
            await self.delete_payload(payload_id)
            await self._catalog.run(lambda c: touch_grave(c, payload_id))

    async def settle_unburied(self) -> None:
        """Settle again what a failing catalog kept `settle_upload` from burying.

        Raises:
            GatewayError: catalog or store fail; what is left of it is for the next call.

        """
        for payload_id, object_id in tuple(self._unburied.items()):
            await self.settle_upload(payload_id, object_id, wrote=True)

    async def settle(self, intent: IntentRow) -> bool:
        """Do the next steps for an intent until it waits or is buried; True when it was buried."""
        while True:
            mine = intent.instance_id == self._instance_id
            step = next_intent_step(
                IntentView(
                    state=intent.state,
                    mine=mine,
                    working=mine and intent.payload_id in self.working,
                    owner_alive=intent.owner_alive,
                )
            )
            if step is IntentStep.WAIT:
                return False
            logger.debug("settling", extra={"payload_id": intent.payload_id, "step": step})
            if step is IntentStep.DELETE:
                await self._delete_and_bury(intent)
                return True
            if step is IntentStep.CLAIM:
                await self._claim(intent)
            else:
                await self._abort(intent)
            found = await self._catalog.read(partial(find_intent, payload_id=intent.payload_id))
            if found is None:
                logger.debug("settled by another", extra={"payload_id": intent.payload_id})
                return False
            intent = found

    async def _claim(self, intent: IntentRow) -> None:
        claimed = await self._catalog.run(lambda c: claim_intent(c, intent, self._instance_id))
        if claimed is not None:
            logger.info("intent claimed", extra={"payload_id": intent.payload_id})

    async def _abort(self, intent: IntentRow) -> None:
        await self._catalog.run(lambda c: abort_intent(c, _ownership(intent)))

    async def _notice_copies(self, intent: IntentRow) -> None:
        """See that it is an old catalog, if the upload was committed in a later one: its manifest
        is copied after that, and here it can be committed no more.
        """
        if self._copies is not None and await self._copies.has_newer(intent.object_id):
            if await self._catalog.run(set_behind):
                told = {"payload_id": intent.payload_id, "object_id": intent.object_id}
                logger.error(
                    "the catalog is older than the stores: run passes run rebuild", extra=told
                )
            raise CatalogBehind("a store has the manifest of what would be deleted")

    async def _delete_and_bury(self, intent: IntentRow) -> None:
        await self._notice_copies(intent)
        await self.delete_payload(intent.payload_id)
        await self._catalog.run(lambda c: bury(c, _ownership(intent)))
        logger.info("upload aborted", extra={"payload_id": intent.payload_id})

    async def delete_payload(self, payload_id: str) -> int:
        """Delete every blob under a payload id; return how many were found.

        Raises:
            BackendUnavailable: some may be left; what could be reached is deleted all the same.

        """
        prefix = f"{self._payloads}{payload_id}/"
        keys: list[str] = []
        failure: BackendUnavailable | None = None
        try:
            async for blob in self._store.list(prefix):
                keys.append(blob.key)  # noqa: PERF401 - those before an error count, too
        except BackendUnavailable as error:
            failure = error
        # The first segment's key is always tried: its folder may be there without a file in it.
        # Each once, in the order of the list: a set of texts has another order in every process.
        for key in dict.fromkeys([f"{prefix}0", *keys]):
            try:
                await self._store.delete(key)
            except BackendUnavailable as error:
                failure = error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it holds this frame; see `raising`
        return len(keys)


def _ownership(intent: IntentRow) -> Ownership:
    return Ownership(intent.payload_id, intent.instance_id, intent.fence)
