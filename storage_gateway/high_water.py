"""The high-water mark in the stores: what tells an old backup of the catalog from the catalog.

Each store has an object whose name is the mark, under ``high-water/``. It is written once, as all
is; the lower ones are removed. It is compared when a gateway starts, and before anything is
destroyed on the catalog's word.
"""

import asyncio
import logging
from collections.abc import Sequence

from .backends import Member
from .catalog import Catalog
from .catalog.high_water import high_water, is_behind, raise_mark, set_behind
from .errors import CatalogBehind, GatewayError

logger = logging.getLogger(__name__)

FOLDER = "high-water/"
DIGITS = 18
INTERVAL_S = 600.0
"""Between marks: a backup that is older than that is known as one."""
ASK_S_MAX = 5.0
"""How long a store is waited for."""
CONTENT = b"storage-gateway high-water mark v1\n"


def mark_key(prefix: str, mark: int) -> str:
    """Return the key of a mark, under the namespace's prefix."""
    return f"{prefix}{FOLDER}{mark:0{DIGITS}d}"


def parse_mark(prefix: str, key: str) -> int | None:
    """Return the mark that a key says; None: it is no mark's."""
    digits = key.removeprefix(f"{prefix}{FOLDER}")
    if digits == key or len(digits) != DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


class HighWater:
    """Compares and raises the mark, for one gateway process."""

    def __init__(self, catalog: Catalog, members: Sequence[Member], *, prefix: str) -> None:
        """``members`` are the stores that have names; ``prefix`` is the namespace's, ending in
        ``/``.
        """
        self._catalog = catalog
        self._members = tuple(members)
        self._prefix = prefix
        self.is_behind = False
        """As it was when that was looked at last."""

    async def check(self) -> None:
        """Compare the catalog with the stores that can be reached.

        Raises:
            CatalogBehind: it is an old one.
            CatalogUnavailable

        """
        # The catalog after: another process may raise the mark meanwhile, there first.
        seen = await self.seen()
        mine = await self._catalog.read(high_water)
        if seen > mine and await self._catalog.run(set_behind):
            logger.error(
                "the catalog is older than the stores: nothing is collected, and no upload of"
                " another process aborted, until storage-gateway catalog rebuild was run",
                extra={"mark": mine, "seen": seen},
            )
        self.is_behind = await self._catalog.read(is_behind)
        if self.is_behind:
            raise CatalogBehind("the stores have seen a later state of this catalog")

    async def seen(self) -> int:
        """Return the highest mark in any store that can be reached; 0 when there is none."""
        marks = await asyncio.gather(*map(self._marks_of, self._members))
        return max((mark for found in marks for mark in found), default=0)

    async def raise_mark(self) -> None:
        """Raise the mark, unless the catalog is behind.

        Raises:
            CatalogUnavailable

        """
        mark = await self._catalog.run(raise_mark)
        if mark is not None:
            await asyncio.gather(*(self._write(member, mark) for member in self._members))

    async def run_forever(self) -> None:
        """Compare, then raise the mark, again and again, until cancelled."""
        while self._members:
            try:
                await self.check()
                await self.raise_mark()
            except GatewayError as error:
                logger.warning("high-water mark not raised", extra={"code": error.code})
            except Exception:
                logger.exception("high-water mark not raised, unexpectedly")
            await asyncio.sleep(INTERVAL_S)

    async def _marks_of(self, member: Member) -> list[int]:
        try:
            async with asyncio.timeout(ASK_S_MAX):
                blobs = member.store.list(f"{self._prefix}{FOLDER}")
                keys = [blob.key async for blob in blobs] if member.ready else []
        except (GatewayError, TimeoutError) as error:
            told = {"store": member.name, "kind": type(error).__name__}
            logger.info("high-water mark not read", extra=told)
            return []
        marks = [parse_mark(self._prefix, key) for key in keys]
        return [mark for mark in marks if mark is not None]

    async def _write(self, member: Member, mark: int) -> None:
        try:
            async with asyncio.timeout(ASK_S_MAX):
                if not member.ready:
                    return
                await member.store.put(mark_key(self._prefix, mark), CONTENT)
                for older in await self._marks_of(member):
                    if older < mark:
                        await member.store.delete(mark_key(self._prefix, older))
        except (GatewayError, TimeoutError) as error:
            told = {"store": member.name, "kind": type(error).__name__}
            logger.info("high-water mark not written", extra=told)
