"""Erasing, in its simple form: the head goes at once, the payload as soon as the store allows."""

import logging

from .catalog import Catalog
from .catalog.objects import erase
from .catalog.work import touch_grave
from .errors import GatewayError
from .records import Manifest, ObjectState
from .settle import Settler

logger = logging.getLogger(__name__)


class Erasure:
    """Erases objects for one gateway process."""

    def __init__(self, *, catalog: Catalog, settler: Settler) -> None:
        """The settler deletes the payload's blobs."""
        self._catalog = catalog
        self._settler = settler

    async def erase(self, object_id: str) -> Manifest:
        """Make an object unreadable, durably, before returning; again is the same.

        The answer is `erasing` until a recovery pass has seen the stores clean after the
        late-write horizon, then `erased`.

        Raises:
            NotFound: no such object.

        """
        manifest = await self._catalog.run(lambda c: erase(c, object_id))
        if manifest.state is ObjectState.ERASING:
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
        return manifest
