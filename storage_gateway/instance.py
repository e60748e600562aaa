"""This process as the catalog knows it: a lease that is renewed while the process lives."""

import asyncio
import logging

from .catalog import Catalog
from .catalog.work import end_instance, renew_instance, start_instance
from .errors import GatewayError

logger = logging.getLogger(__name__)


class Instance:
    """One process's lease. What it began can be claimed by others once the lease has run out."""

    def __init__(
        self, catalog: Catalog, instance_id: str, *, lease_s: float, renew_s: float
    ) -> None:
        """Nothing is written before `start`."""
        self._catalog = catalog
        self.instance_id = instance_id
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the lease and go on renewing it."""
        await self._catalog.run(lambda c: start_instance(c, self.instance_id, self._lease_s))
        self._task = asyncio.create_task(self._renew_forever())

    async def stop(self) -> None:
        """Give the lease back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._catalog.run(lambda c: end_instance(c, self.instance_id))

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await self._catalog.run(
                    lambda c: renew_instance(c, self.instance_id, self._lease_s)
                )
            except GatewayError as error:
                # Commits check the lease, so a lease that cannot be renewed costs uploads, no data.
                logger.warning("lease not renewed", extra={"code": error.code})
