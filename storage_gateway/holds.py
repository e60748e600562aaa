"""Holds: the operator's order that an object, or a whole session, stays, whoever wants it gone."""

import logging
from functools import partial

from .bringing import Bringing
from .catalog import Catalog
from .catalog.holding import (
    HoldRow,
    Scope,
    list_holds,
    place_hold,
    release_hold,
)
from .errors import CopiesLate
from .ids import new_random_id

logger = logging.getLogger(__name__)


class Holds:
    """Places and releases holds, for one gateway process."""

    def __init__(self, catalog: Catalog, bringing: Bringing) -> None:
        """``bringing`` brings the copies that tell of them."""
        self._catalog = catalog
        self._bringing = bringing

    async def place(self, scope: Scope, *, who: str, why: str) -> HoldRow:
        """Hold an object or a session: what was not erased before is not erased from now on.

        Raises:
            Erased, UnknownSession: there is nothing to hold any more.
            CopiesLate: it is held, and that is not in as many stores as it must be; ``hold_id`` is
                in the extensions.

        """
        hold_id = new_random_id()
        unit = partial(place_hold, scope=scope, hold_id=hold_id, who=who, why=why)
        placed = await self._catalog.run(unit)
        _tell("hold placed", scope, placed.hold_id)
        await self._bring(scope, placed.hold_id)
        return placed

    async def release(self, scope: Scope, hold_id: str, *, who: str, why: str) -> HoldRow:
        """Release a hold, which stays on record; again is the same.

        Raises:
            NoSuchHold: it is none of the object, or of the session.
            CopiesLate: as `place`.

        """
        asked = hold_id if hold_id.isalnum() else ""  # PostgreSQL takes no zero byte
        unit = partial(release_hold, scope=scope, hold_id=asked, who=who, why=why)
        released = await self._catalog.run(unit)
        _tell("hold released", scope, hold_id)
        await self._bring(scope, hold_id)
        return released

    async def all(self, scope: Scope) -> list[HoldRow]:
        """Return those on an object, or on a session as a whole, also those that were released."""
        return await self._catalog.read(partial(list_holds, scope=scope))

    async def _bring(self, scope: Scope, hold_id: str) -> None:
        try:
            if scope.object_id:
                await self._bringing.of_claims(scope.session_id, scope.object_id)
            else:
                await self._bringing.of_session(scope.session_id)
        except CopiesLate as error:
            raise CopiesLate(
                "too few stores took the copy in time; the hold is as was asked", hold_id=hold_id
            ) from error


def _tell(what: str, scope: Scope, hold_id: str) -> None:
    on = {"session_id": scope.session_id, "object_id": scope.object_id or None}
    logger.warning(what, extra=on | {"hold_id": hold_id})
