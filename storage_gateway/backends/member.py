"""One of several stores that are one: where it stands, and how it did."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from storage_gateway.errors import BackendUnavailable

from .contract import BlobInfo, KeyedStore
from .health import Breaker, Latency, rest_after
from .metered import MeteredStore, Observe

T = TypeVar("T")


class Member:
    """A store, where it stands, and how it did."""

    def __init__(
        self,
        store: KeyedStore,
        *,
        domain: str,
        ready: bool = True,
        observe: Observe | None = None,
    ) -> None:
        """``domain`` is the failure domain; ``observe`` is told of what the store is asked for.

        A store that is not ``ready`` is not written to, and what it lacks is not missing.
        """
        self.bare = store
        """The store itself, for what only its kind can do."""
        self.store: KeyedStore = store if observe is None else MeteredStore(store, observe)
        self.domain = domain
        self.ready = ready
        """It was seen to be this deployment's: else it may be a mount point without its disk."""
        self.lagging = 0
        self.hedged = 0
        """Reads that it took so long for that another store was asked as well."""
        self.reads = Breaker()
        self.writes = Breaker()
        self.deletes = Breaker()
        """Not one for both: who may list and not delete would seem to be well every other time."""
        self.lists = Breaker()
        self.latency = Latency()

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name

    async def delete(self, key: str) -> None:
        """Remove a blob, unless the store rests.

        Raises:
            BackendUnavailable: it rests, or as in the contract; the blob may be there.

        """
        probe = self._enter(self.deletes)
        await self._count(self.deletes, self.store.delete(key), probe=probe)

    async def list(self, prefix: str) -> "list[BlobInfo]":
        """Return what is in a folder, unless the store rests.

        Raises:
            BackendUnavailable: it rests, or as in the contract; anything may be there.

        """
        probe = self._enter(self.lists)
        return await self._count(self.lists, _listed(self.store, prefix), probe=probe)

    def _enter(self, breaker: Breaker) -> bool:
        now = asyncio.get_running_loop().time()
        if not breaker.is_closed and not breaker.wants_probe(now):
            raise BackendUnavailable(f"store {self.name} did not answer lately")
        return breaker.enter(now)

    async def _count(self, breaker: Breaker, call: Awaitable[T], *, probe: bool) -> T:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            answer = await call
        except BackendUnavailable:
            now = clock()
            # Who refuses at once holds up nobody: it may be asked again at once, too.
            breaker.fail(now, probe=probe, rest_s=rest_after(now - began))
            raise
        except BaseException:
            breaker.drop(clock(), probe=probe)
            raise
        breaker.succeed()
        return answer


async def _listed(store: KeyedStore, prefix: str) -> list[BlobInfo]:
    return [blob async for blob in store.list(prefix)]
