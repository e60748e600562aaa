"""Goal: a copy that a read found bad is marked once, only where it was taken for right, and nothing
that becomes of the catalog meanwhile is the reader's trouble.

Method: rows by hand in each kind of database, a catalog with faults, `note` as replicas call it.
"""

import logging

import pytest
from sqlalchemy import Connection, insert, select, update

from storage_gateway import bad_copies as bad_copies_module
from storage_gateway.bad_copies import BadCopies
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.copies import BAD, PENDING, PLACED, load_placements
from storage_gateway.catalog.faulty import CatalogFaults, FaultyCatalog
from storage_gateway.catalog.tables import objects, placements
from storage_gateway.errors import BlobCorrupt, BlobMissing
from urn import mint

from .units import add_object, add_session

pytestmark = pytest.mark.both_databases

PAYLOADS = "deployment/main/payloads/"
PAYLOAD = "p01"
OBJECT = "a" * 32
KEY = f"{PAYLOADS}{PAYLOAD}/1"


def fill(connection: Connection) -> None:
    """One object of two segments in two stores; one of them lacks the second segment."""
    add_session(connection, "101")
    add_object(connection, 1, "101", b"head")
    for segment, store, state in (
        (0, "one", PLACED),
        (1, "one", PLACED),
        (0, "two", PLACED),
        (1, "two", PENDING),
    ):
        row = {"payload_id": PAYLOAD, "segment": segment, "backend": store, "state": state}
        connection.execute(insert(placements), row)
    connection.execute(update(objects).values(object_id=OBJECT))


def states(connection: Connection) -> dict[tuple[str, int], str]:
    rows = connection.execute(select(placements)).all()
    return {(row.backend, row.segment): row.state for row in rows}


BEFORE = {("one", 0): PLACED, ("one", 1): PLACED, ("two", 0): PLACED, ("two", 1): PENDING}
MARKED = BEFORE | {("one", 1): BAD}


@pytest.fixture
async def faulty(catalog: Catalog) -> FaultyCatalog:
    await catalog.run(fill)
    return FaultyCatalog(catalog, seed=1)


async def noted(bad_copies: BadCopies, key: str = KEY, store: str = "one") -> None:
    bad_copies.note(key, store, BlobMissing)
    await bad_copies.close()


async def test_it_is_marked_and_told_once(
    faulty: FaultyCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="storage_gateway.bad_copies")
    bad_copies = BadCopies(faulty, PAYLOADS)
    for _ in range(3):
        bad_copies.note(KEY, "one", BlobCorrupt)
    await noted(bad_copies)
    await noted(BadCopies(faulty, PAYLOADS))  # as another process finds it

    assert MARKED == await faulty.read(states)
    (told,) = caplog.records
    assert ("warning", "one", "BlobCorrupt") == (
        told.levelname.lower(),
        told.__dict__["store"],
        told.__dict__["kind"],
    )
    assert (mint(OBJECT).urn, 1, 0) == tuple(
        told.__dict__[name] for name in ("urn", "segment", "copies_left")
    )
    assert "restore" in told.__dict__["remedy"], "the other store never had it"
    placed = await faulty.read(lambda c: load_placements(c, PAYLOAD))
    bad = await faulty.read(lambda c: load_placements(c, PAYLOAD, BAD))
    assert {"one": {0}, "two": {0}} == placed
    assert {"one": {1}} == bad


@pytest.mark.parametrize(
    ("key", "store"),
    [
        (KEY, "two"),
        (KEY, "three"),
        ("deployment/stress-1/payloads/p01/1", "one"),
        (f"{PAYLOADS}{PAYLOAD}/marker", "one"),
        (f"{PAYLOADS}p02/1", "one"),
    ],
    ids=["pending", "unknown store", "of a stress run", "no segment", "unknown payload"],
)
async def test_what_was_not_taken_for_right_is_not_marked(
    faulty: FaultyCatalog, caplog: pytest.LogCaptureFixture, key: str, store: str
) -> None:
    await noted(BadCopies(faulty, PAYLOADS), key, store)

    assert BEFORE == await faulty.read(states)
    assert [] == caplog.records


async def test_what_is_being_erased_is_not_marked(faulty: FaultyCatalog) -> None:
    await faulty.run(lambda c: c.execute(update(objects).values(state="erasing", head=None)))

    await noted(BadCopies(faulty, PAYLOADS))

    assert BEFORE == await faulty.read(states)


async def test_a_catalog_that_fails_is_asked_at_the_next_read(faulty: FaultyCatalog) -> None:
    bad_copies = BadCopies(faulty, PAYLOADS)
    faulty.faults = CatalogFaults(refused=1.0)
    await noted(bad_copies)
    faulty.heal()
    assert BEFORE == await faulty.read(states)

    await noted(bad_copies)

    assert MARKED == await faulty.read(states)


async def test_so_many_are_noted_at_once_and_the_others_later(
    faulty: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_copies_module, "MARKING_MAX", 1)
    bad_copies = BadCopies(faulty, PAYLOADS)
    bad_copies.note(KEY, "one", BlobMissing)
    await noted(bad_copies, store="two", key=f"{PAYLOADS}{PAYLOAD}/0")
    assert MARKED == await faulty.read(states)

    await noted(bad_copies, store="two", key=f"{PAYLOADS}{PAYLOAD}/0")

    assert MARKED | {("two", 0): BAD} == await faulty.read(states)


async def test_so_many_are_remembered(
    faulty: FaultyCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_copies_module, "MARKED_MAX", 1)
    bad_copies = BadCopies(faulty, PAYLOADS)
    await noted(bad_copies)
    await noted(bad_copies, f"{PAYLOADS}{PAYLOAD}/0")
    await faulty.run(lambda c: c.execute(update(placements).values(state=PLACED)))

    await noted(bad_copies, f"{PAYLOADS}{PAYLOAD}/0")
    await noted(bad_copies)

    assert BAD == (await faulty.read(states))["one", 1], "forgotten, noted again"
    assert PLACED == (await faulty.read(states))["one", 0], "remembered"
