"""The recovery pass: what was interrupted is settled, what was given up is cleared away.

Runs at start and on a timer. It is bounded, idempotent, and may die anywhere and be run again.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from retention import ErasureStep, next_erasure_step

from .backends import KeyedStore
from .catalog import Catalog, now_ms
from .catalog.blind import forget_old
from .catalog.graves import ABORTED, SUPERSEDED, touch_grave
from .catalog.outcomes import OVERDUE_S, decide_all_overdue, forget_outcomes, list_pending
from .catalog.work import (
    Grave,
    close_grave,
    forget_dead_instances,
    list_graves,
    list_intents,
    mend_times,
)
from .errors import GatewayError
from .kept_versions import KeptVersions, Look
from .old_copies import OldCopies
from .settle import Settler

logger = logging.getLogger(__name__)

PAGE = 200


@dataclass(slots=True)
class RecoveryReport:
    """What one pass did."""

    uploads_aborted: int = 0
    uploads_overdue: int = 0
    """Answered with 202, not decided in time, and failed by this pass."""
    graves_closed: int = 0
    graves_waiting: int = 0
    blobs_deleted: int = 0
    failures: int = 0


class Recovery:
    """Recovery passes of one gateway process."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: KeyedStore,
        settler: Settler,
        payloads: str,
        horizon_s: float,
        decide_within_s: float,
        copies: OldCopies | None = None,
        versions: KeptVersions | None = None,
    ) -> None:
        """``payloads`` is the key prefix of all payloads; ``horizon_s`` the late-write horizon.

        ``decide_within_s`` is that of `LateUploads`. Without ``copies`` no store holds manifests,
        without ``versions`` none keeps what was deleted.
        """
        self._catalog = catalog
        self._store = store
        self._settler = settler
        self._payloads = payloads
        self._horizon_ms = int(horizon_s * 1000)
        self._decide_within_s = decide_within_s
        self._copies = copies
        self._versions = KeptVersions(()) if versions is None else versions
        self._pending_since: dict[str, float] = {}
        """When an upload that is pending was first seen, by the event loop's clock."""
        self.newest: RecoveryReport | None = None
        """Of the last pass that came to its end."""
        self.newest_ms: int | None = None
        """When that one began, by the catalog's clock."""
        self.passes = 0

    async def run_forever(self, interval_s: float) -> None:
        """Run passes until cancelled; a pass that fails is logged and the next one tries again."""
        while True:
            try:
                await self.run_once()
            except GatewayError as error:
                logger.warning("recovery pass failed", extra={"code": error.code})
            except Exception:
                logger.exception("recovery pass failed unexpectedly")
            await asyncio.sleep(interval_s)

    async def run_once(self) -> RecoveryReport:
        """Go once through all intents and graves.

        Raises:
            CatalogUnavailable: the catalog cannot be read; nothing else ends a pass early.

        """
        report = RecoveryReport()
        await self._catalog.run(mend_times)
        began_ms = await self._catalog.read(now_ms)
        await self._decide_overdue(report)
        await self._settle_unburied(report)
        await self._settle_intents(report)
        await self._clear_graves(report, began_ms)
        await self._catalog.run(_forget)
        if report != RecoveryReport(graves_waiting=report.graves_waiting):
            logger.info(
                "recovery pass",
                extra={
                    "uploads_aborted": report.uploads_aborted,
                    "uploads_overdue": report.uploads_overdue,
                    "graves_closed": report.graves_closed,
                    "blobs_deleted": report.blobs_deleted,
                    "failures": report.failures,
                },
            )
        self.newest, self.newest_ms = report, began_ms
        self.passes += 1
        return report

    async def _decide_overdue(self, report: RecoveryReport) -> None:
        """Fail uploads that were answered with 202 and that nobody has decided in time.

        In time by the database's clock, and by one that nobody sets: when the former was set
        forward, all that is pending seems overdue, and is well.
        """
        now, after, pending = asyncio.get_running_loop().time(), "", list[str]()
        while page := await self._catalog.read(partial(list_pending, after=after, limit=PAGE)):
            pending += page
            after = page[-1]
        self._pending_since = {found: self._pending_since.get(found, now) for found in pending}
        since = now - self._decide_within_s - OVERDUE_S
        overdue = {found for found, began in self._pending_since.items() if began <= since}
        if overdue:
            report.uploads_overdue = await self._catalog.run(
                partial(decide_all_overdue, among=overdue, limit=PAGE)
            )

    async def _settle_unburied(self, report: RecoveryReport) -> None:
        try:
            await self._settler.settle_unburied()
        except GatewayError as error:
            report.failures += 1
            logger.warning("late writes not buried", extra={"code": error.code})

    async def _settle_intents(self, report: RecoveryReport) -> None:
        after = ""
        while page := await self._catalog.read(partial(list_intents, after=after, limit=PAGE)):
            for intent in page:
                try:
                    report.uploads_aborted += await self._settler.settle(intent)
                except GatewayError as error:
                    report.failures += 1
                    logger.warning(
                        "intent not settled",
                        extra={"payload_id": intent.payload_id, "code": error.code},
                    )
            after = page[-1].payload_id

    async def _clear_graves(self, report: RecoveryReport, began_ms: int) -> None:
        after = ""
        pages, look = _Pages(self._catalog), self._versions.looking()
        while page := await self._catalog.read(partial(list_graves, after=after, limit=PAGE)):
            for grave in page:
                if (grave.doomed_until_ms or 0) > began_ms:
                    report.graves_waiting += 1
                    continue
                try:
                    await self._clear_grave(grave, report, began_ms, pages, look)
                except GatewayError as error:
                    report.failures += 1
                    logger.warning(
                        "grave not cleared",
                        extra={"payload_id": grave.payload_id, "code": error.code},
                    )
            after = page[-1].payload_id

    async def _clear_grave(
        self, grave: Grave, report: RecoveryReport, began_ms: int, pages: "_Pages", look: Look
    ) -> None:
        prefix = f"{self._payloads}{grave.payload_id}/"
        found = [blob async for blob in self._store.list(prefix)]
        older, may_close = await self._older_copies(grave)
        # An aborted upload had no manifest, so there is no head to be cleaned away.
        pages_clean = grave.reason == ABORTED
        if grave.reason == SUPERSEDED and not may_close:
            # A catalog that was rebuilt now would name what is to be deleted.
            report.graves_waiting += 1
            return
        while True:
            step = next_erasure_step(
                blobs_found=len(found) + len(older),
                last_deletion_ms=grave.buried_ms,
                pass_began_ms=began_ms,
                horizon_ms=self._horizon_ms,
                pages_clean=pages_clean,
            )
            if step is ErasureStep.DELETE:
                # Before, so that dying in between does not shorten the wait; after, to be exact.
                await self._catalog.run(lambda c: touch_grave(c, grave.payload_id))
                report.blobs_deleted += await self._settler.delete_payload(grave.payload_id)
                if self._copies is not None:
                    await self._copies.remove(older)
                    report.blobs_deleted += len(older)
                await self._catalog.run(lambda c: touch_grave(c, grave.payload_id))
                return
            if step is ErasureStep.CLOSE and not (
                may_close and await self._are_versions_gone(grave, look)
            ):
                step = ErasureStep.WAIT
            if step is ErasureStep.CLOSE:
                # Dying in the midst of a deletion leaves an empty folder, which no list shows.
                if await self._settler.delete_payload(grave.payload_id):
                    await self._catalog.run(lambda c: touch_grave(c, grave.payload_id))
                    return
                report.graves_closed += await self._catalog.run(
                    lambda c: close_grave(c, grave, self._store.names)
                )
                return
            if step is ErasureStep.CLEAN_PAGES:
                pages_clean = await pages.clean()
            if step is ErasureStep.WAIT or not pages_clean:
                report.graves_waiting += 1
                return

    async def _are_versions_gone(self, grave: Grave, look: Look) -> bool:
        """Remove old versions of what was given up; tell whether none is left. An aborted upload
        had no head: its are left to the pass `leftovers`.
        """
        if grave.reason == ABORTED:
            return True
        prefix = f"{self._payloads}{grave.payload_id}/"
        of_copies = self._copies is None or await self._copies.remove_versions(
            grave.object_id, look
        )
        return await look.remove(prefix, lambda _key: True) and of_copies

    async def _older_copies(self, grave: Grave) -> tuple[list[str], bool]:
        """Return the manifest copies that hold a head that is gone, and whether it may count as
        gone: not before a store has the copy that took their place, nor do they go before.
        """
        if self._copies is None or grave.reason == ABORTED:
            return [], True
        found = await self._copies.look(grave.object_id)
        return (found.older if found.has_newest else []), found.has_newest


def _forget(connection: Connection) -> None:
    forget_dead_instances(connection)
    forget_outcomes(connection)
    forget_old(connection)


class _Pages:
    """The catalog's pages, cleaned at most once in a pass: all its graves are older than it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._clean: bool | None = None

    async def clean(self) -> bool:
        """Clean them unless that was tried already; tell whether they are clean."""
        if self._clean is None:
            self._clean = await asyncio.to_thread(self._catalog.clean_pages)
        return self._clean
