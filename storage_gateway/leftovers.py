"""Leftovers: what buckets keep beside the objects, under this deployment's prefix, is removed.

Uploads in parts are none of ours. Old versions and marks of deletion are there where somebody
switched versioning on, against our advice: an erased payload would be there for ever. What is read
under a key is never changed by it, and where the catalog still names what was deleted, or what is
read is not right, the versions stay: it can be brought back.
"""

import logging
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial

from urn import mint

from .backends import Member
from .backends.replica_reads import unseen
from .backends.s3 import S3Store
from .backends.s3_answers import ObjectVersion
from .backends.s3_leftovers import BucketLeftovers, KeptKey, NotToldError
from .catalog import Catalog
from .catalog.copies import stores_of
from .catalog.high_water import is_behind
from .catalog.leftovers import Named, find_named
from .catalog.segments import load_segment_page
from .copies import check_copy
from .errors import BackendUnavailable, BlobCorrupt, BlobMissing, StorageFull
from .passes import Turn, run_passes, turn_at

logger = logging.getLogger(__name__)

NAME = "leftovers"
TICK_S = 60.0
"""So often a round goes on, until it has ended."""
KEYS_MAX = 10_000
"""Looked at in one turn."""
NOT_TOLD = frozenset({"keys", "ended", "behind"})
"""Of a report: what is of every pass, or was told by itself."""
UPLOADS = "uploads"
PAYLOADS, MANIFESTS = "payloads", "manifests"
BY_THEMSELVES = ("sessions", "retentions")
"""Copies that are brought again from the catalog, whatever becomes of an old version."""
STEPS = (UPLOADS, PAYLOADS, MANIFESTS, *BY_THEMSELVES)
"""What is gone through of a bucket, one after the other; all but the first are folders."""
_NAME = re.compile(r"([a-z2-7]{32})/(0|[1-9][0-9]{0,8})", re.ASCII)
"""Of a key in such a folder: the payload and its segment, or the record and its generation."""


@dataclass(slots=True)
class LeftoversReport:
    """What one pass did. Counts are of what a bucket keeps beside what is read of it."""

    keys: int = 0
    """Looked at, and uploads in parts."""
    uploads: int = 0
    """Uploads in parts that were found."""
    uploads_removed: int = 0
    versions: int = 0
    """Old versions, and marks of deletion."""
    versions_removed: int = 0
    kept: int = 0
    """Of both: the store did not remove them, as it does where objects are locked."""
    restorable: int = 0
    """Keys of what the catalog names, and that are not read right: see the log for what to do."""
    skipped: int = 0
    """Buckets that did not answer, or were not seen to be ours."""
    unknown: int = 0
    """Questions that a bucket does not know, or does not answer to us."""
    behind: bool = False
    """The catalog is older than what the stores have seen: nothing was done."""
    ended: bool = False
    """The pass came to the end of all there is."""


@dataclass(slots=True)
class _Work:
    """One turn, and how far the round came."""

    turn: Turn
    left: int
    report: LeftoversReport
    store: str = ""
    step: str = UPLOADS
    after: str = ""

    async def go_on(self) -> bool:
        """Note how far it came, with one key more; False when the turn is over."""
        self.left -= 1
        self.report.keys += 1
        await self.turn.reach(self.position)
        return self.left > 0 and not self.turn.is_over

    @property
    def position(self) -> str:
        return f"{self.store}/{self.step}/{self.after}"


class Leftovers:
    """Passes over what buckets keep, of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        members: Sequence[Member],
        threads: Executor,
        prefix: str,
        deployment_id: str,
        interval_s: float,
    ) -> None:
        """``members`` are the stores of the configuration, of which buckets are asked; ``prefix``
        is what all keys of our objects begin with, ending in ``/``. None begins a round within
        ``interval_s`` after the end of the last one.
        """
        self._catalog = catalog
        self._members = {m.name: m for m in members if isinstance(m.bare, S3Store)}
        self._threads = threads
        self._prefix = prefix
        self._deployment_id = deployment_id
        self._interval_s = interval_s
        self._noted: set[tuple[str, str]] = set()
        """Stores and steps that were said not to be known."""
        self.newest: LeftoversReport | None = None
        """Of the last pass that this process made."""
        self.round_ended_ms: int | None = None
        """When all had been gone through the last time, by the catalog's clock, as far as this
        process knows."""
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """What this process found, removed and could not remove, by store and kind."""

    async def run_forever(self) -> None:
        """Run passes until cancelled; without buckets, none."""
        if self._members:
            run = partial(self.run_once, pause_s=self._interval_s)
            await run_passes(NAME, run, min(TICK_S, self._interval_s))

    async def run_once(
        self, limit: int = KEYS_MAX, *, pause_s: float = 0.0, within_s: float = math.inf
    ) -> LeftoversReport:
        """Look at ``limit`` keys at most, from where the pass before stopped, and at none after
        ``within_s``.

        A report that is all zeros, and not ended, says that another process is at work, or that the
        last round ended less than ``pause_s`` ago.

        Raises:
            CatalogUnavailable

        """
        report = LeftoversReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None:
                return report
            self.round_ended_ms = turn.round_ended_ms
            if turn.is_too_soon(pause_s):
                return report
            turn.end_s = time.monotonic() + within_s
            if await self._catalog.read(is_behind):
                report.behind = report.ended = True
                if self.newest is None or not self.newest.behind:  # it is asked every minute
                    logger.error("no leftovers are removed: the catalog is older than the stores")
            else:
                report.ended = turn.ended = await self._go_through(_work(turn, limit, report))
        self.newest = report
        if any(count for what, count in asdict(report).items() if what not in NOT_TOLD):
            logger.info("leftovers pass", extra=asdict(report))
        return report

    async def _go_through(self, work: _Work) -> bool:
        """Return whether the end was reached."""
        for name in sorted(self._members):
            if name < work.store:
                continue
            if name != work.store:
                work.store, work.step, work.after = name, UPLOADS, ""
            try:
                if not await self._go_through_bucket(self._members[name], work):
                    return False
            except (BackendUnavailable, StorageFull) as error:
                work.report.skipped += 1
                told = {"store": name, "code": error.code}
                logger.warning("leftovers not looked for", extra=told)
        return True

    async def _go_through_bucket(self, member: Member, work: _Work) -> bool:
        if not member.ready or not isinstance(member.bare, S3Store):
            raise unseen(member)
        bucket = member.bare.leftovers
        keeps_versions = await bucket.keeps_versions()
        for step in STEPS[STEPS.index(work.step) :]:
            if step != work.step:
                work.step, work.after = step, ""
            try:
                if step == UPLOADS:
                    is_done = await self._give_up_uploads(bucket, work)
                else:
                    is_done = not keeps_versions or await self._go_through_keys(
                        member, bucket, work
                    )
            except NotToldError as error:
                is_done = True
                self._note_unknown(work, str(error))
            if not is_done:
                return False
        return True

    def _note_unknown(self, work: _Work, why: str) -> None:
        work.report.unknown += 1
        asked = work.store, UPLOADS if work.step == UPLOADS else "versions"
        if asked not in self._noted:
            self._noted.add(asked)
            told = {"store": asked[0], "asked": asked[1], "why": why}
            logger.warning("a bucket does not tell what it keeps", extra=told)

    async def _give_up_uploads(self, bucket: BucketLeftovers, work: _Work) -> bool:
        async with aclosing(bucket.unfinished(f"{self._deployment_id}/")) as uploads:
            async for upload in uploads:
                is_gone = await bucket.give_up(upload)
                work.report.uploads += 1
                work.report.uploads_removed += is_gone
                self._count(work, "upload", is_gone=is_gone)
                if not await work.go_on():
                    return False
        return True

    async def _go_through_keys(self, member: Member, bucket: BucketLeftovers, work: _Work) -> bool:
        async with aclosing(bucket.kept(f"{self._prefix}{work.step}/", work.after)) as keys:
            async for kept in keys:
                await self._look_at(member, bucket, kept, work)
                work.after = kept.key
                if not await work.go_on():
                    return False
        return True

    async def _look_at(
        self, member: Member, bucket: BucketLeftovers, kept: KeptKey, work: _Work
    ) -> None:
        """Remove what is under a key beside what is read."""
        latest, others = kept.latest, kept.others
        if latest is None or not (others or latest.is_marker):
            return
        name = _NAME.fullmatch(kept.key.removeprefix(f"{self._prefix}{work.step}/"))
        if name is None:
            return  # nothing of ours wrote it
        work.report.versions += len(others) + latest.is_marker
        self.counts[work.store, "version", "found"] += len(others) + latest.is_marker
        # After it was listed: an upload is named before its first byte leaves us.
        named = await self._catalog.read(partial(find_named, identifier=name[1]))
        if named.is_open:
            return
        is_outdated = work.step == MANIFESTS and named.generation != int(name[2])
        if is_outdated or work.step in BY_THEMSELVES:
            named = Named()
        if named.object_id is not None:
            if await self._is_read_right(member, kept, named, work):
                await self._remove(bucket, others, work)
            return
        if not latest.is_marker and work.step not in BY_THEMSELVES:
            return  # recovery or gc removes it, and then the others go, too
        # The mark at last: without it the newest of the others would be read again.
        if await self._remove(bucket, others, work) and kept.is_whole and latest.is_marker:
            await self._remove(bucket, [latest], work)

    async def _remove(
        self, bucket: BucketLeftovers, versions: Sequence[ObjectVersion], work: _Work
    ) -> bool:
        """Tell whether all of them are gone."""
        are_gone = True
        for version in versions:
            is_gone = await bucket.remove(version)
            work.report.versions_removed += is_gone
            self._count(work, "version", is_gone=is_gone, is_found=False)
            are_gone = are_gone and is_gone
            await work.turn.hold()
        return are_gone

    async def _is_read_right(
        self, member: Member, kept: KeptKey, named: Named, work: _Work
    ) -> bool:
        """Tell whether what is read under a key is what the catalog names; tell of it if not."""
        latest = kept.latest
        others = [version for version in kept.others if not version.is_marker]
        if latest is None or named.object_id is None:
            return False
        if not latest.is_marker:
            if latest.tag and all(version.tag == latest.tag for version in others):
                return True  # written twice, as who is not sure does it
            if work.step == PAYLOADS and await self._is_right(member, kept.key):
                return True
        if latest.is_marker and not others:
            return False  # nothing to bring back: reads, scrub and repair see that it is missing
        work.report.restorable += 1
        told: dict[str, object] = {"store": work.store, "key": kept.key, "versions": len(others)}
        told["urn"] = mint(named.object_id).urn
        if work.step == PAYLOADS:
            payload_id, segment = _payload_of(kept.key)
            told["segment"] = segment
            stores = partial(stores_of, payload_id=payload_id, segment=segment)
            told["copies_left"] = len(await self._catalog.read(stores) - {work.store})
        told["remedy"] = RESTORE_VERSION
        logger.error("a key is not read right that an old version may be right of", extra=told)
        return False

    async def _is_right(self, member: Member, key: str) -> bool:
        payload_id, segment = _payload_of(key)
        page = await self._catalog.read(
            partial(load_segment_page, payload_id=payload_id, first=segment, count=1)
        )
        if not page:
            return False
        try:
            await check_copy(member.store, key, page[0], self._threads)
        except (BlobMissing, BlobCorrupt):
            return False
        return True

    def _count(self, work: _Work, kind: str, *, is_gone: bool, is_found: bool = True) -> None:
        work.report.kept += not is_gone
        self.counts[work.store, kind, "removed" if is_gone else "kept"] += 1
        if is_found:
            self.counts[work.store, kind, "found"] += 1


RESTORE_VERSION = (
    "if others have it right, repair makes it again; else bring the right version back in the"
    " bucket: remove the mark of deletion, or copy the version over what is read"
)


def _work(turn: Turn, limit: int, report: LeftoversReport) -> _Work:
    if not turn.position:
        return _Work(turn, limit, report)
    store, step, after = turn.position.split("/", 2)
    return _Work(turn, limit, report, store, step, after)


def _payload_of(key: str) -> tuple[str, int]:
    payload_id, segment = key.split("/")[-2:]
    return payload_id, int(segment)
