"""Bugs in what mends and clears away; see `planted`."""

from collections.abc import Callable

import pytest

from storage_gateway.backends.spool import Spool
from storage_gateway.repair import Repair, _Order


def repair_looks_at_nothing(patch: pytest.MonkeyPatch) -> None:
    """What repair has put into a store counts as there, whether it is or not."""

    async def replace(self: Repair, order: _Order, spool: Spool) -> None:
        await self._remove(order)
        await self._put(order, spool)

    patch.setattr(Repair, "_replace", replace)


MENDING_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "repair-under-load": (
        repair_looks_at_nothing,
        "what a store did not keep is not counted as made",
    ),
}
