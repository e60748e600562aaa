"""Stores, and the gateways of IPFS that are asked for what none of them serves.

A gateway is a stranger: asking it tells which leaf is wanted, when, and from where. So it is never
asked to be quicker, nor beside a store, and never for what a store has right. What it says proves
nothing: where it does not help either, the answer is what the stores said.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing, CatalogUnavailable
from storage_gateway.raising import fresh

from .contract import Check, Range
from .ipfs_gateway import IPFSGateway, Permit
from .replicas import Replicas

T = TypeVar("T")

logger = logging.getLogger(__name__)

OnLost = Callable[[BlobMissing | BlobCorrupt], Awaitable[object]]


async def _tell_nobody(_error: BlobMissing | BlobCorrupt) -> None:
    """Nobody asked."""


class LastResort:
    """Reads leaves from stores, and from gateways at last."""

    def __init__(self, stores: Replicas, gateways: Sequence[IPFSGateway]) -> None:
        """Of the gateways, one at least, the first ones are asked first."""
        self._stores = stores
        self._gateways = tuple(gateways)
        self._tried = {gateway: asyncio.Lock() for gateway in gateways}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stores; gateways keep nothing for us."""
        return self._stores.names

    async def fetch(
        self,
        ranges: Sequence[Range],
        check: Check[T],
        threads: Executor,
        *,
        permit: Permit,
        on_lost: OnLost = _tell_nobody,
    ) -> list[T]:
        """Return what ``check`` makes of each range, in order; all have their digests.

        ``permit`` is asked each time before a gateway is, and before what it answered is used;
        ``on_lost`` is told what was wrong when a gateway served what no store has right.

        Raises:
            BlobMissing, BlobCorrupt, BackendUnavailable: as the stores; or what ``permit`` raises.

        """
        if self._stores.rest:
            # All of them hang, or nearly: each leaf would wait for each of them.
            # Without the catalog no gateway may be asked; a store may.
            with suppress(BackendUnavailable, BlobCorrupt, CatalogUnavailable):
                return await self._ask(ranges, check, threads, permit)
            return await self._stores.fetch(ranges, check, threads)
        try:
            return await self._stores.fetch(ranges, check, threads)
        except (BackendUnavailable, BlobCorrupt, BlobMissing) as error:
            failure = error
        if len(ranges) > 1 and self._stores.some_answered:
            # Only what no store has right is anybody else's business.
            return await self._one_by_one(ranges, check, threads, permit, on_lost)
        try:
            found = await self._ask(ranges, check, threads, permit)
        except (BackendUnavailable, BlobCorrupt):
            raise failure from None
        if isinstance(failure, BlobCorrupt | BlobMissing):
            await on_lost(fresh(failure))
        return found

    async def _one_by_one(
        self,
        ranges: Sequence[Range],
        check: Check[T],
        threads: Executor,
        permit: Permit,
        on_lost: OnLost,
    ) -> list[T]:
        made = []
        for at, wanted in enumerate(ranges):

            def check_it(_: int, data: bytes, at: int = at) -> T:
                return check(at, data)

            made += await self.fetch([wanted], check_it, threads, permit=permit, on_lost=on_lost)
        return made

    async def _ask(
        self, ranges: Sequence[Range], check: Check[T], threads: Executor, permit: Permit
    ) -> list[T]:
        asking = [
            asyncio.create_task(self._ask_for(wanted, partial(check, at), threads, permit))
            for at, wanted in enumerate(ranges)
        ]
        try:
            return await asyncio.gather(*asking)
        finally:
            # Without one of them the others are of no use.
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask_for(
        self, leaf: Range, check: Callable[[bytes], T], threads: Executor, permit: Permit
    ) -> T:
        failure: Exception | None = None
        for gateway in self._gateways:
            try:
                async with self._alone_if_tried(gateway):
                    return await gateway.fetch(leaf, check, threads, permit=permit)
            except (BackendUnavailable, BlobCorrupt) as error:
                told = {"store": gateway.name, "kind": type(error).__name__}
                logger.info("gateway did not serve", extra=told)
                failure = error
        raise failure or BackendUnavailable("there is no gateway")

    @asynccontextmanager
    async def _alone_if_tried(self, gateway: IPFSGateway) -> AsyncGenerator[None]:
        """Ask one that rested for one leaf at a time.

        The first is its probe: the others would be refused meanwhile, and with them the whole read,
        which would break off the probe. So it would rest for ever.
        """
        if gateway.reads.is_closed:
            yield
            return
        async with self._tried[gateway]:
            yield
