"""Uploads that failed, until they are settled: beside their requests, which may be gone."""

import asyncio
import logging

from . import errors
from .late import Late
from .settle import Settler

logger = logging.getLogger(__name__)

SETTLE_S_MAX = 10.0
"""How long a stop waits for failed uploads to be cleared away: a store that does not answer would
keep it for hours. Recovery takes them up."""


class FailedUploads:
    """Those of one gateway process."""

    def __init__(self, settler: Settler) -> None:
        """There are none yet."""
        self._settler = settler
        self._settling: set[asyncio.Task[None]] = set()

    async def settle(
        self,
        payload_id: str,
        object_id: str,
        *,
        wrote: bool,
        late: Late | None,
        error: BaseException,
    ) -> None:
        """Settle one, as `Settler.settle_upload`; ``late`` is told first what it failed with.

        What cannot be settled now is left to recovery.
        """
        task = asyncio.create_task(self._settle(payload_id, object_id, late, error, wrote=wrote))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        # The caller may be cancelled (its client is gone): settling goes on all the same.
        await asyncio.shield(task)

    async def wait(self) -> None:
        """Wait until every one is settled, as far as it can be now, and soon."""
        try:
            async with asyncio.timeout(SETTLE_S_MAX):
                while self._settling:
                    await asyncio.wait(self._settling)
                await self._settler.settle_unburied()
        except errors.GatewayError as error:
            logger.warning("late writes not buried", extra={"code": error.code})
        except TimeoutError:
            logger.warning("left to recovery", extra={"uploads": len(self._settling)})
            for task in self._settling:
                task.cancel()
            await asyncio.gather(*self._settling, return_exceptions=True)

    async def _settle(
        self,
        payload_id: str,
        object_id: str,
        late: Late | None,
        error: BaseException,
        *,
        wrote: bool,
    ) -> None:
        if late is not None:
            await late.note(error)  # before the intent ends: whoever reads that it failed reads why
        del error  # it holds what was read of the body, and a store may take long
        try:
            await self._settler.settle_upload(payload_id, object_id, wrote=wrote)
        except errors.GatewayError as failure:
            # Not lost: recovery of this process takes it up, of others too while its intent stands.
            logger.warning(
                "upload not settled yet", extra={"payload_id": payload_id, "code": failure.code}
            )
