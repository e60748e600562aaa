"""Old versions of what was given up, in buckets that keep them: gone before anything is `erased`.

Who deletes by key in such a bucket hides what was there; old manifest copies hold the head. The
pass `leftovers` goes through all that buckets keep, some day. Marks of deletion are left to it:
nothing is in them.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing

from .backends import Member
from .backends.replica_reads import unseen
from .backends.s3 import S3Store
from .backends.s3_leftovers import BucketLeftovers, KeptKey, NotToldError

logger = logging.getLogger(__name__)


class KeptVersions:
    """Those in the buckets among some stores."""

    def __init__(self, members: Sequence[Member]) -> None:
        """``members`` are the stores of the configuration."""
        self._members = [member for member in members if isinstance(member.bare, S3Store)]

    def looking(self) -> "Look":
        """Return what asks each bucket but once whether it keeps any: for one pass."""
        return Look(self._members)


class Look:
    """Looks of one pass."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Each is an S3 store."""
        self._members = members
        self._keeping: list[BucketLeftovers] | None = None

    async def remove(self, prefix: str, is_given_up: Callable[[str], bool]) -> bool:
        """Remove what is kept under keys below a prefix that are given up; tell whether nothing is
        left of them. A bucket that does not tell what it keeps counts as one that keeps nothing.

        Raises:
            BackendUnavailable: some of it may be left.

        """
        are_gone = True
        for bucket in await self._those_that_keep():
            async for kept in _kept(bucket, prefix):
                if not is_given_up(kept.key):
                    continue
                # What is read under the key came late: who lists the keys finds it.
                is_read = kept.latest is None or not kept.latest.is_marker
                are_gone = are_gone and kept.is_whole and not is_read
                for version in kept.others:
                    if not version.is_marker:
                        are_gone = await bucket.remove(version) and are_gone
        return are_gone

    async def _those_that_keep(self) -> list[BucketLeftovers]:
        if self._keeping is None:
            keeping = []
            for member in self._members:
                if not member.ready or not isinstance(member.bare, S3Store):
                    raise unseen(member)
                if await member.bare.leftovers.keeps_versions():
                    keeping.append(member.bare.leftovers)
            self._keeping = keeping
        return self._keeping


async def _kept(bucket: BucketLeftovers, prefix: str) -> AsyncIterator[KeptKey]:
    try:
        async with aclosing(bucket.kept(prefix, "")) as keys:
            async for kept in keys:
                yield kept
    except NotToldError as error:
        logger.debug("a bucket does not tell what it keeps", extra={"why": str(error)})
