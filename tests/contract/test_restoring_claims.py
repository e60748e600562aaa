"""Goal: what was claimed comes back from its copies: no older generation takes the place of a newer
one, no hold is lost where two catalogs went different ways, nothing that was erased is claimed.

Method: the units, on copies that were made of a catalog, or that another one made.
"""

from dataclasses import replace
from functools import partial

import msgspec
import pytest
from sqlalchemy import Connection, select, update

from storage_gateway.catalog import Catalog, now_ms
from storage_gateway.catalog.claiming import renew_lease
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.holding import Scope, list_holds
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.outbox import load_copy
from storage_gateway.catalog.restoring import Restored, restore_session
from storage_gateway.catalog.restoring_claims import restore_claims
from storage_gateway.catalog.retention_tables import leases
from storage_gateway.catalog.tables import objects, outbox, sessions
from storage_gateway.errors import Held
from storage_gateway.manifest_copies import (
    RETENTION,
    HoldCopy,
    LeaseCopy,
    RetentionCopy,
    SessionCopy,
)
from storage_gateway.manifest_copies import SESSION as OF_SESSION
from storage_gateway.records import ObjectState
from tests.contract.test_catalog_commits import SESSION, begun, catalogs, commit
from tests.contract.test_holds import ON_OBJECT, ON_SESSION, place, release

__all__ = ["catalogs"]  # a fixture

pytestmark = pytest.mark.both_databases

ELSEWHERE = HoldCopy("elsewhere", "the court", "case 8", 5, None, None, None)
SAID = RetentionCopy("o1", 7, None, (LeaseCopy("user", 10**15, 5),), (ELSEWHERE,))


@pytest.fixture
def catalog(catalogs: list[Catalog]) -> Catalog:
    manifest = begun(catalogs[0], 1)
    catalogs[0].run_blocking(partial(commit, manifest=manifest))
    catalogs[0].run_blocking(lambda c: c.execute(outbox.delete()))
    return catalogs[0]


def put_back(catalog: Catalog, copy: RetentionCopy, *, everywhere: bool = True) -> Restored:
    return catalog.run_blocking(partial(restore_claims, copy=copy, everywhere=everywhere))


def claimed(catalog: Catalog) -> tuple[int, int, list[str], list[str]]:
    """Return the generation and the count of holds, the holders of leases, the ids of holds."""

    def look(connection: Connection) -> tuple[int, int, list[str], list[str]]:
        row = connection.execute(select(objects).where(objects.c.object_id == "o1")).one()
        holders = list(connection.execute(select(leases.c.holder)).scalars())
        ids = sorted(hold.hold_id for hold in list_holds(connection, ON_OBJECT))
        return row.claims_generation, row.holds, holders, ids

    return catalog.read_blocking(look)


def due(catalog: Catalog, kind: str) -> list[int]:
    query = select(outbox.c.generation).where(outbox.c.kind == kind)
    return catalog.read_blocking(lambda c: list(c.execute(query).scalars()))


def test_what_was_claimed_is_back_and_holds(catalog: Catalog) -> None:
    now = catalog.read_blocking(now_ms)
    marked = {"expired_ms": now, "erase_after_ms": now, "keep_until_ms": now, "expires_ms": now}
    catalog.run_blocking(lambda c: c.execute(update(objects).values(marked)).close())
    said = msgspec.structs.replace(SAID, keep_until_ms=10**14)
    assert Restored.RESTORED is put_back(catalog, said)
    assert (7, 1, ["user"], ["elsewhere"]) == claimed(catalog)
    row = catalog.read_blocking(lambda c: c.execute(select(objects)).one())
    assert (10**14, 10**15, None) == (row.keep_until_ms, row.expires_ms, row.expired_ms)
    assert [] == due(catalog, RETENTION)
    assert said == catalog.read_blocking(partial(load_copy, kind=RETENTION, record_id="o1"))
    with pytest.raises(Held):
        catalog.run_blocking(partial(erase, object_id="o1"))


def test_a_copy_that_not_all_stores_have_is_brought_to_them(catalog: Catalog) -> None:
    put_back(catalog, SAID, everywhere=False)
    assert [7] == due(catalog, RETENTION)


@pytest.mark.parametrize("generation", [1, 2])
def test_an_older_generation_changes_nothing(catalog: Catalog, generation: int) -> None:
    catalog.run_blocking(partial(renew_lease, object_id="o1", holder="operator", for_s=60))
    catalog.run_blocking(partial(place, scope=ON_OBJECT))
    before = claimed(catalog)
    assert (2, 1, ["operator"], ["h1"]) == before
    older = msgspec.structs.replace(SAID, generation=generation)
    assert Restored.KNOWN is put_back(catalog, older)
    assert before == claimed(catalog)


def test_of_two_that_went_different_ways_no_hold_is_lost(catalog: Catalog) -> None:
    """An old catalog was put back, and its object was held again before it was rebuilt."""
    catalog.run_blocking(partial(place, scope=ON_OBJECT))
    released = msgspec.structs.replace(
        ELSEWHERE, hold_id="over", released_ms=9, released_by="me", release_why="it is over"
    )
    said = msgspec.structs.replace(SAID, holds=(ELSEWHERE, released))
    assert Restored.RESTORED is put_back(catalog, said)
    # One generation more: the stores are to know of both.
    assert (8, 2, ["user"], ["elsewhere", "h1", "over"]) == claimed(catalog)
    assert [8] == due(catalog, RETENTION)
    assert Restored.KNOWN is put_back(catalog, said)


def test_a_release_that_a_copy_tells_of_is_one(catalog: Catalog) -> None:
    placed = catalog.run_blocking(partial(place, scope=ON_OBJECT))
    over = HoldCopy("h1", placed.who, placed.why, placed.since_ms, 9, "me", "it is over")
    put_back(catalog, msgspec.structs.replace(SAID, holds=(over,)))
    assert (7, 0, ["user"], ["h1"]) == claimed(catalog)
    (found,) = catalog.read_blocking(partial(list_holds, scope=ON_OBJECT))
    assert found == replace(placed, released_ms=9, released_by="me", release_why="it is over")
    # And one of this catalog that the copy does not tell of stays one.
    still = msgspec.structs.replace(over, released_ms=None, released_by=None, release_why=None)
    put_back(catalog, msgspec.structs.replace(SAID, generation=9, holds=(still,)))
    assert (10, 0, ["user"], ["h1"]) == claimed(catalog)


def test_what_was_erased_is_not_claimed_again(catalog: Catalog) -> None:
    catalog.run_blocking(partial(erase, object_id="o1"))
    assert Restored.RESTORED is put_back(catalog, SAID)
    assert (7, 1, [], ["elsewhere"]) == claimed(catalog)
    found = catalog.read_blocking(partial(load_manifest, object_id="o1"))
    assert (ObjectState.ERASING, None) == (found.state, found.head)


def test_claims_of_what_is_not_there_are_told(catalog: Catalog) -> None:
    nobodys = msgspec.structs.replace(SAID, object_id="o7")
    assert Restored.NO_OBJECT is put_back(catalog, nobodys)
    assert (0, 0, [], []) == claimed(catalog)


def test_holds_on_a_session_are_joined_too(catalog: Catalog) -> None:
    catalog.run_blocking(partial(place, scope=ON_SESSION))
    copy = catalog.read_blocking(partial(load_copy, kind=OF_SESSION, record_id=SESSION))
    assert isinstance(copy, SessionCopy)
    assert ["h1"] == [hold.hold_id for hold in copy.holds]
    catalog.run_blocking(partial(release, scope=ON_SESSION))
    catalog.run_blocking(partial(place, scope=ON_SESSION, hold_id="h2"))
    said = msgspec.structs.replace(copy, generation=9, holds=(*copy.holds, ELSEWHERE))
    restore = partial(restore_session, copy=said, everywhere=True)
    assert Restored.RESTORED is catalog.run_blocking(restore)

    found = catalog.read_blocking(partial(list_holds, scope=ON_SESSION))
    states = {hold.hold_id: hold.released_ms is None for hold in found}
    assert {"h1": False, "h2": True, "elsewhere": True} == states
    row = select(sessions.c.generation, sessions.c.holds).where(sessions.c.session_id == SESSION)
    assert (10, 2) == tuple(catalog.read_blocking(lambda c: c.execute(row).one()))
    assert 10 in due(catalog, OF_SESSION)
    with pytest.raises(Held):
        catalog.run_blocking(partial(erase, object_id="o1"))
    assert [] == catalog.read_blocking(partial(list_holds, scope=Scope("102")))
