"""Migration of a session from classic to hybrid keys, as one job.

New objects are hybrid from the moment it begins. Those that are there are resealed, not wrapped
anew: whoever kept a classic head, and breaks its class one day, must not come to a payload that is
still served. The classic keys retire when nothing is left of their class.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from .catalog import Catalog
from .catalog.jobs import Scope, Step
from .catalog.migrating import (
    begin_migration,
    check_migration,
    count_to_migrate,
    end_migration,
    list_to_migrate,
)
from .errors import InvalidField
from .reseal import PAGE, Reseal

UPLOADS_S = 0.2
"""How long it waits before it looks again for uploads that began before it."""


class Migrate:
    """Migrates sessions, for one gateway process."""

    repeats = False

    def __init__(self, catalog: Catalog, reseal: Reseal) -> None:
        """Nothing is looked at yet."""
        self._catalog = catalog
        self._reseal = reseal

    async def count(self, scope: Scope) -> dict[str, int]:
        """Return how many objects are to be resealed, by the session.

        Raises:
            InvalidField: no session of router custody is named.
            NoKeyOfClass: a party has no key of the new class yet.

        """
        session_id = _session_of(scope)
        await self._catalog.read(partial(check_migration, session_id=session_id))
        count = await self._catalog.read(partial(count_to_migrate, session_id=session_id))
        return {session_id: count}

    async def steps(self, scope: Scope) -> AsyncIterator[Step]:
        """Migrate: a session whose job is begun again is found where it was.

        Raises:
            InvalidField, NoKeyOfClass: as `count`.
            CatalogUnavailable, KeyProviderUnavailable, Busy

        """
        session_id = _session_of(scope)
        await self._catalog.run(partial(begin_migration, session_id=session_id))
        failed = False
        while not await self._catalog.run(partial(end_migration, session_id=session_id)):
            after, found = 0, False
            read = partial(list_to_migrate, session_id=session_id, limit=PAGE)
            while page := await self._catalog.read(partial(read, after=after)):
                found, after = True, page[-1].sequence
                step = await self._reseal.reseal_all(page)
                failed |= bool(step.failures)
                yield step
            if failed:
                return  # told; the keys of the old class stay, as something hangs on them
            if not found:
                await asyncio.sleep(UPLOADS_S)
                yield Step(0)


def _session_of(scope: Scope) -> str:
    if scope.session_id is None:
        raise InvalidField("name the session that is to be migrated", field="session_id")
    return scope.session_id
