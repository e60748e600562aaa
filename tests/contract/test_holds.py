"""Goal: a hold and an erasure at once: exactly one of them wins, and who lost is told. What is held
is counted once, however often it is released; every hold stays on record.

Method: two catalogs on one database, as two processes have; the unit of one is held before COMMIT
while the other one's begins, in either order.
"""

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Connection, select

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.holding import (
    HoldRow,
    Scope,
    list_holds,
    place_hold,
    release_hold,
    scope_of_object,
)
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.outbox import expect_all
from storage_gateway.catalog.sessions import load_session
from storage_gateway.catalog.tables import objects, outbox, sessions
from storage_gateway.errors import Erased, GatewayError, Held, NoSuchHold, NotFound, UnknownSession
from storage_gateway.manifest_copies import RETENTION
from storage_gateway.manifest_copies import SESSION as OF_SESSION
from storage_gateway.records import Manifest, ObjectState
from tests.contract.test_catalog_commits import OTHER_SESSION, SESSION, begun, catalogs, commit
from tests.contract.test_key_races import overlapped

__all__ = ["catalogs"]  # a fixture

pytestmark = pytest.mark.both_databases

ON_OBJECT, ON_SESSION = Scope(SESSION, "o1"), Scope(SESSION)
Answer = HoldRow | Manifest | GatewayError


@pytest.fixture
def held(catalogs: list[Catalog]) -> list[Catalog]:
    """Two catalogs of a session with one object."""
    manifest = begun(catalogs[0], 1)
    catalogs[0].run_blocking(partial(commit, manifest=manifest))
    return catalogs


def place(connection: Connection, scope: Scope, hold_id: str = "h1") -> HoldRow:
    return place_hold(connection, scope, hold_id=hold_id, who="the court", why="case 7")


def release(connection: Connection, scope: Scope, hold_id: str = "h1", who: str = "me") -> HoldRow:
    return release_hold(connection, scope, hold_id, who=who, why="it is over")


def answer(connection: Connection, unit: Callable[[Connection], HoldRow | Manifest]) -> Answer:
    """What the unit answers; its refusal writes nothing."""
    try:
        return unit(connection)
    except GatewayError as error:
        return error


def counted(catalog: Catalog) -> tuple[int, int]:
    """Return what the object's row and the session's count."""
    query = select(objects.c.holds, sessions.c.holds).join(sessions)
    found = catalog.read_blocking(lambda c: c.execute(query).one())
    return found[0], found[1]


def due_copies(catalog: Catalog) -> dict[str, int]:
    """Return the generations that are still to come, but for manifests."""
    query = select(outbox.c.kind, outbox.c.generation).where(outbox.c.kind != "object")
    found = catalog.read_blocking(lambda c: c.execute(query).all())
    return {row.kind: row.generation for row in found if row.kind == RETENTION} | {
        OF_SESSION: max(row.generation for row in found if row.kind == OF_SESSION)
    }


@pytest.mark.parametrize("scope", [ON_OBJECT, ON_SESSION], ids=["object", "session"])
@pytest.mark.parametrize("first", ["hold", "erasure"])
def test_of_a_hold_and_an_erasure_at_once_one_wins(
    held: list[Catalog], scope: Scope, first: str
) -> None:
    hold = partial(answer, unit=partial(place, scope=scope))
    erasure = partial(answer, unit=partial(erase, object_id="o1"))
    if first == "hold":
        placed, erased = overlapped(held, hold, erasure)
    else:
        erased, placed = overlapped(held, erasure, hold)
    state = held[0].read_blocking(partial(load_manifest, object_id="o1")).state
    if first == "hold":
        assert isinstance(placed, HoldRow)
        assert isinstance(erased, Held)
        assert ObjectState.COMMITTED is state
        return
    assert isinstance(erased, Manifest)
    assert ObjectState.ERASING is state
    # A session can be held whatever was erased in it before.
    assert isinstance(placed, Erased if scope is ON_OBJECT else HoldRow)


@pytest.mark.parametrize("scope", [ON_OBJECT, ON_SESSION], ids=["object", "session"])
def test_two_that_release_a_hold_count_once(held: list[Catalog], scope: Scope) -> None:
    for number in (1, 2):
        held[0].run_blocking(partial(place, scope=scope, hold_id=f"h{number}"))
    both = [partial(release, scope=scope, who=who) for who in ("first", "second")]
    first, second = overlapped(held, *both)

    assert first == second
    assert ("first", "it is over") == (first.released_by, first.release_why)
    assert 1 == sum(counted(held[0]))
    with pytest.raises(Held):
        held[0].run_blocking(partial(erase, object_id="o1"))
    held[0].run_blocking(partial(release, scope=scope, hold_id="h2"))
    assert (0, 0) == counted(held[0])
    held[0].run_blocking(partial(erase, object_id="o1"))


def test_every_hold_stays_on_record(held: list[Catalog]) -> None:
    catalog = held[0]
    placed = catalog.run_blocking(partial(place, scope=ON_OBJECT))
    assert [placed] == catalog.read_blocking(partial(list_holds, scope=ON_OBJECT))
    assert [] == catalog.read_blocking(partial(list_holds, scope=ON_SESSION))
    released = catalog.run_blocking(partial(release, scope=ON_OBJECT))
    assert released.released_ms is not None
    assert released.released_ms >= released.since_ms
    catalog.run_blocking(partial(erase, object_id="o1"))
    assert [released] == catalog.read_blocking(partial(list_holds, scope=ON_OBJECT))


def test_each_change_is_copied_as_a_newer_generation(held: list[Catalog]) -> None:
    catalog = held[0]
    assert {OF_SESSION: 1} == due_copies(catalog)
    catalog.run_blocking(partial(place, scope=ON_OBJECT))
    catalog.run_blocking(partial(place, scope=ON_SESSION, hold_id="h2"))
    assert {RETENTION: 1, OF_SESSION: 2} == due_copies(catalog)
    catalog.run_blocking(partial(release, scope=ON_OBJECT))
    catalog.run_blocking(partial(release, scope=ON_SESSION, hold_id="h2"))
    assert {RETENTION: 2, OF_SESSION: 3} == due_copies(catalog)
    for scope, hold_id in ((ON_OBJECT, "h1"), (ON_SESSION, "h2")):
        catalog.run_blocking(partial(release, scope=scope, hold_id=hold_id))
    assert {RETENTION: 2, OF_SESSION: 3} == due_copies(catalog)
    catalog.run_blocking(partial(erase, object_id="o1"))
    assert {RETENTION: 3, OF_SESSION: 3} == due_copies(catalog)


def test_a_new_store_gets_what_is_claimed_of_whom_something_is(held: list[Catalog]) -> None:
    catalog = held[0]
    catalog.run_blocking(partial(commit, manifest=begun(catalog, 2)))
    catalog.run_blocking(partial(place, scope=ON_OBJECT))
    catalog.run_blocking(lambda c: c.execute(outbox.delete()))
    catalog.run_blocking(expect_all)
    query = select(outbox.c.kind, outbox.c.record_id).order_by(outbox.c.kind, outbox.c.record_id)
    found = catalog.read_blocking(lambda c: [tuple(row) for row in c.execute(query)])
    assert [
        ("object", "o1"),
        ("object", "o2"),
        (RETENTION, "o1"),
        (OF_SESSION, SESSION),
        (OF_SESSION, OTHER_SESSION),
    ] == found


def test_a_hold_is_released_where_it_was_placed(held: list[Catalog]) -> None:
    catalog = held[0]
    catalog.run_blocking(partial(commit, manifest=begun(catalog, 2)))
    catalog.run_blocking(partial(place, scope=ON_OBJECT))
    catalog.run_blocking(partial(place, scope=ON_SESSION, hold_id="h2"))
    for scope, hold_id in (
        (ON_SESSION, "h1"),
        (ON_OBJECT, "h2"),
        (Scope(SESSION, "o2"), "h1"),
        (Scope(OTHER_SESSION), "h2"),
        (Scope(OTHER_SESSION, "o1"), "h1"),
        (ON_OBJECT, "h3"),
    ):
        with pytest.raises(NoSuchHold):
            catalog.run_blocking(partial(release, scope=scope, hold_id=hold_id))
    found = select(objects.c.object_id, objects.c.holds).order_by(objects.c.object_id)
    assert [("o1", 1), ("o2", 0)] == catalog.read_blocking(
        lambda c: [tuple(row) for row in c.execute(found)]
    )


def test_what_is_not_there_cannot_be_held(held: list[Catalog]) -> None:
    catalog = held[0]
    with pytest.raises(NotFound):
        catalog.read_blocking(partial(scope_of_object, object_id="o7"))
    with pytest.raises(UnknownSession):
        catalog.run_blocking(partial(place, scope=Scope("107")))
    with pytest.raises(UnknownSession):
        catalog.run_blocking(partial(place, scope=Scope("")))
    assert [] == catalog.read_blocking(partial(list_holds, scope=Scope("107")))
    assert catalog.read_blocking(partial(load_session, session_id=SESSION)).session_id == SESSION
