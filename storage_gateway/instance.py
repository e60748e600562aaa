"""This process as the catalog knows it: a lease that is renewed while the process lives.

The catalog judges the lease by the database's clock, when a claim or a commit asks. The process
itself must know when to stop writing even while it cannot ask: it counts from before it asked for
the lease, by its own clock that never jumps, so by its count a lease never ends too late.
"""

import asyncio
import logging

from .catalog import Catalog
from .catalog.work import end_instance, renew_instance, start_instance
from .errors import GatewayError, IntentLost

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
        self._held_until = 0.0
        self._renewed = asyncio.Event()

    async def start(self) -> None:
        """Take the lease and go on renewing it."""
        asked = asyncio.get_running_loop().time()
        await self._catalog.run(lambda c: start_instance(c, self.instance_id, self._lease_s))
        self._held_until = asked + self._lease_s
        self._task = asyncio.create_task(self._renew_forever())

    async def stop(self) -> None:
        """Give the lease back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._catalog.run(lambda c: end_instance(c, self.instance_id))

    async def hold(self) -> None:
        """Return at once while the lease holds; else wait until it was renewed.

        Uploads ask before each leaf: what is written without a lease may lie where recovery of
        another process has cleared away already.

        Raises:
            IntentLost: it could not be renewed for as long as a whole lease.

        """
        if self._is_held():
            return
        try:
            async with asyncio.timeout(self._lease_s):
                while not self._is_held():
                    self._renewed.clear()
                    await self._renewed.wait()
        except TimeoutError:
            raise IntentLost("this process lost its lease and could not renew it") from None

    def _is_held(self) -> bool:
        return asyncio.get_running_loop().time() < self._held_until

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            asked = asyncio.get_running_loop().time()
            try:
                await self._catalog.run(
                    lambda c: renew_instance(c, self.instance_id, self._lease_s)
                )
            except GatewayError as error:
                # Commits check the lease, so a lease that cannot be renewed costs uploads, no data.
                logger.warning("lease not renewed", extra={"code": error.code})
            except Exception:
                # Were it to end here, the process would live on and never commit again.
                logger.exception("lease not renewed, unexpectedly")
            else:
                self._held_until = asked + self._lease_s
                self._renewed.set()
