"""The high-water mark in the stores: what tells an old backup of the catalog from the catalog.

Each store has an object whose name is the mark, under ``high-water/``. It is written once, as all
is; the lower ones are removed. It is compared when a gateway starts, and before anything is
destroyed on the catalog's word.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from crypto import CopyError, CopySealer, recovery_identity

from .backends import KeyedStore, Member
from .catalog import Catalog
from .catalog.high_water import high_water, is_behind, raise_mark, set_behind
from .errors import BackendUnavailable, BlobCorrupt, BlobMissing, CatalogBehind, GatewayError

logger = logging.getLogger(__name__)

FOLDER = "high-water/"
DIGITS = 18
INTERVAL_S = 600.0
"""Between marks: a backup that is older than that is known as one."""
ASK_S_MAX = 5.0
"""How long a store is waited for."""
CONTENT = b"storage-gateway high-water mark v1\n"
"""Sealed and signed as a manifest copy is, for its name: no store can make one up."""
BYTES_MAX = 4096
TRIED_MAX = 16
"""Marks that are looked at, from the highest one on, until one is ours."""


def mark_key(prefix: str, mark: int) -> str:
    """Return the key of a mark, under the namespace's prefix."""
    return f"{prefix}{FOLDER}{mark:0{DIGITS}d}"


def parse_mark(prefix: str, key: str) -> int | None:
    """Return the mark that a key says; None: it is no mark's."""
    digits = key.removeprefix(f"{prefix}{FOLDER}")
    if digits == key or len(digits) != DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def _sealed(sealer: CopySealer, key: str) -> bytes:
    return sealer.seal(key, CONTENT, recovery_identity(sealer.identity).recipient())


async def mark_in(store: KeyedStore, sealer: CopySealer, prefix: str) -> int:
    """Return the highest mark in a store that this deployment signed; 0 when there is none.

    Raises:
        BackendUnavailable

    """
    keys = {
        mark: blob.key
        async for blob in store.list(f"{prefix}{FOLDER}")
        if (mark := parse_mark(prefix, blob.key)) is not None
    }
    for mark in sorted(keys, reverse=True)[:TRIED_MAX]:
        with suppress(BlobMissing, BlobCorrupt, CopyError):
            size = min((await store.stat(keys[mark])).size, BYTES_MAX)
            data = await store.get(keys[mark], 0, size)
            sealer.open(keys[mark], data, recovery_identity(sealer.identity))
            return mark
        logger.warning("mark refused", extra={"store": store.name, "key": keys[mark]})
    return 0


class HighWater:
    """Compares and raises the mark, for one gateway process."""

    def __init__(
        self, catalog: Catalog, members: Sequence[Member], *, sealer: CopySealer, prefix: str
    ) -> None:
        """``members`` are the stores that have names; ``sealer`` is the deployment's; ``prefix`` is
        the namespace's, ending in ``/``.
        """
        self._catalog = catalog
        self._members = tuple(members)
        self._sealer = sealer
        self._prefix = prefix
        self.is_behind = False
        """As it was when that was looked at last."""

    async def check(self) -> None:
        """Compare the catalog with the stores that can be reached.

        Raises:
            CatalogBehind: it is an old one.
            BackendUnavailable: no store can be reached.
            CatalogUnavailable

        """
        # The catalog after: another process may raise the mark meanwhile, there first.
        seen, read = await self._look()
        if self._members and not read:
            raise BackendUnavailable("no store tells its high-water mark")
        mine = await self._catalog.read(high_water)
        if seen > mine and await self._catalog.run(set_behind):
            logger.error(
                "the catalog is older than the stores: nothing is collected, and no upload of"
                " another process aborted, until passes run rebuild, or catalog rebuild, was run",
                extra={"mark": mine, "seen": seen},
            )
        self.is_behind = await self._catalog.read(is_behind)
        if self.is_behind:
            raise CatalogBehind("the stores have seen a later state of this catalog")

    async def seen(self) -> int:
        """Return the highest mark in any store that can be reached; 0 when there is none."""
        return (await self._look())[0]

    async def _look(self) -> tuple[int, int]:
        """Return the highest mark, and how many stores were read."""
        marks = await asyncio.gather(*map(self._mark_of, self._members))
        read = [mark for mark in marks if mark is not None]
        return max(read, default=0), len(read)

    async def raise_mark(self) -> None:
        """Raise the mark, unless the catalog is behind, or a store cannot be read: it may have a
        higher one, which must not be overtaken.

        Raises:
            CatalogUnavailable

        """
        if (await self._look())[1] < len(self._members):
            return
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

    async def _mark_of(self, member: Member) -> int | None:
        """Return the highest mark of a store, 0 where there is none; None: it was not read."""
        if not member.ready:
            return None
        try:
            async with asyncio.timeout(ASK_S_MAX):
                return await mark_in(member.store, self._sealer, self._prefix)
        except (GatewayError, TimeoutError) as error:
            told = {"store": member.name, "kind": type(error).__name__}
            logger.info("high-water mark not read", extra=told)
            return None

    async def _write(self, member: Member, mark: int) -> None:
        try:
            async with asyncio.timeout(ASK_S_MAX):
                if not member.ready:
                    return
                key = mark_key(self._prefix, mark)
                await member.store.put(key, _sealed(self._sealer, key))
                async for blob in member.store.list(f"{self._prefix}{FOLDER}"):
                    if (parse_mark(self._prefix, blob.key) or mark) < mark:
                        await member.store.delete(blob.key)
        except (GatewayError, TimeoutError) as error:
            told = {"store": member.name, "kind": type(error).__name__}
            logger.info("high-water mark not written", extra=told)
