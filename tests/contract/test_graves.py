"""Goal: a payload has one grave, whose wait starts anew whenever it is given up again, in every
database.

Method: units on payloads that no store ever had; the time of a grave is moved in its row.
"""

from functools import partial

import pytest
from sqlalchemy import update

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.graves import ABORTED, ERASED, dig_grave, touch_grave
from storage_gateway.catalog.tables import graves
from storage_gateway.catalog.work import Grave, list_graves

pytestmark = pytest.mark.both_databases

HOUR_MS = 3600 * 1000


async def only_grave(catalog: Catalog) -> Grave:
    (grave,) = await catalog.read(partial(list_graves, after="", limit=9))
    return grave


async def let_pass(catalog: Catalog) -> None:
    """Have it been dug an hour earlier."""
    earlier = update(graves).values(buried_ms=graves.c.buried_ms - HOUR_MS)
    await catalog.run(lambda c: c.execute(earlier).rowcount)


async def test_what_is_given_up_again_waits_again_and_for_that_reason(catalog: Catalog) -> None:
    dig = partial(dig_grave, payload_id="p", object_id="o")
    await catalog.run(partial(dig, reason=ABORTED))
    first = await only_grave(catalog)
    await let_pass(catalog)
    await catalog.run(partial(dig, reason=ERASED))
    again = await only_grave(catalog)

    assert ("p", "o", ABORTED) == (first.payload_id, first.object_id, first.reason)
    assert ERASED == again.reason
    assert first.buried_ms <= again.buried_ms


async def test_what_was_deleted_since_waits_again(catalog: Catalog) -> None:
    await catalog.run(partial(dig_grave, payload_id="p", object_id="o", reason=ABORTED))
    first = await only_grave(catalog)
    await let_pass(catalog)
    await catalog.run(partial(touch_grave, payload_id="p"))
    await catalog.run(partial(touch_grave, payload_id="another"))
    again = await only_grave(catalog)

    assert ABORTED == again.reason
    assert first.buried_ms <= again.buried_ms
