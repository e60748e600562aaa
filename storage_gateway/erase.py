"""Erasing, in its simple form: the head goes at once, the payload as soon as the store allows."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from .catalog import Catalog
from .catalog.erasing import erase, erase_expired
from .catalog.graves import touch_grave
from .errors import GatewayError
from .records import Manifest, ObjectState
from .settle import Settler

logger = logging.getLogger(__name__)


async def _bring_none(_manifest: Manifest) -> None:
    pass


class Erasure:
    """Erases objects for one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        settler: Settler,
        bring_copy: Callable[[Manifest], Awaitable[None]] = _bring_none,
    ) -> None:
        """The settler deletes the payload's blobs; ``bring_copy`` brings the tombstone's copy, and
        removes those before it.
        """
        self._catalog = catalog
        self._settler = settler
        self._bring_copy = bring_copy

    async def erase(self, object_id: str) -> Manifest:
        """Make an object unreadable, durably, before returning; again is the same.

        The answer is `erasing` until a recovery pass has seen the stores clean after the
        late-write horizon, then `erased`.

        Raises:
            NotFound: no such object.
            Held: a hold is on it, or on its session.
            Retained: its terms are those of compliance, and its time is not over.
            CatalogBehind: this catalog is an old one, which does not know of holds that came since.

        """
        manifest = await self._catalog.run(lambda c: erase(c, object_id))
        if manifest.state is ObjectState.ERASING:
            await self._clear(manifest)
        return manifest

    async def erase_expired(self, object_id: str) -> Manifest | None:
        """Erase an object as `erase` does, if it has expired and its grace is over; None: it was
        claimed since, or is erased already.

        Raises:
            NotFound: no such object.

        """
        manifest = await self._catalog.run(partial(erase_expired, object_id=object_id))
        if manifest is not None:
            await self._clear(manifest)
        return manifest

    async def _clear(self, manifest: Manifest) -> None:
        """Bring the tombstone to the stores, and delete the payload, as far as they allow now."""
        try:
            await self._bring_copy(manifest)
        except GatewayError as error:
            # Written down: it will be brought, and until then the object is not erased.
            told = {"object_id": manifest.object_id, "code": error.code}
            logger.warning("tombstone not everywhere yet", extra=told)
        try:
            # The wait for late writes counts from the last deletion, not from the last asking.
            if await self._settler.delete_payload(manifest.payload_id):
                await self._catalog.run(lambda c: touch_grave(c, manifest.payload_id))
        except GatewayError as error:
            # The head is gone and the grave stands: recovery deletes the rest.
            logger.warning(
                "payload not deleted yet",
                extra={"payload_id": manifest.payload_id, "code": error.code},
            )
