"""Rebuild as a pass of a gateway that runs on a catalog which is behind."""

import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from .catalog import Catalog
from .catalog.high_water import is_behind
from .passes import turn_at
from .rebuild import Rebuild, RebuildReport

NAME = "rebuild"
COUNTS = ("sessions", "objects", "tombstones", "claims", "known", "refused", "conflicts")


class RebuildPass:
    """Rebuilds of one gateway process: by an operator's word alone."""

    def __init__(self, catalog: Catalog, make: Callable[[], Rebuild]) -> None:
        """``make`` returns a rebuild that has not begun."""
        self._catalog = catalog
        self._make = make
        self._under_way: tuple[Rebuild, AsyncIterator[int]] | None = None

    async def run_once(self, limit: int = 1000, *, within_s: float = math.inf) -> RebuildReport:
        """Go through ``limit`` copies, about, from where the pass before stopped in this process,
        and begin no page after ``within_s``. Of a catalog that is not behind nothing is to be done.

        A report that is all zeros, and not ended, says that another process is at work.

        Raises:
            CatalogUnavailable

        """
        report = RebuildReport()
        async with turn_at(self._catalog, NAME) as turn:
            if turn is None:
                return report
            turn.end_s = time.monotonic() + within_s
            if self._under_way is None:
                if not await self._catalog.read(is_behind):
                    return RebuildReport(ended=True, complete=True)
                begun = self._make()
                self._under_way = begun, begun.steps()
            rebuild, steps = self._under_way
            before, told = replace(rebuild.report), len(rebuild.report.findings)
            try:
                while limit > 0 and not turn.is_over:
                    limit -= await anext(steps)
                    await turn.keep("")
            except StopAsyncIteration:
                self._under_way = None
            except BaseException:
                self._under_way = None  # from the beginning again: what is back is known
                raise
            done = {name: getattr(rebuild.report, name) - getattr(before, name) for name in COUNTS}
            report = replace(rebuild.report, **done, findings=rebuild.report.findings[told:])
        return report  # noqa: RET504 - a turn that was lost ends the block before
