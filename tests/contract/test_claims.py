"""Goal: what was promised, and what is claimed, is read from a catalog as it was written.

Method: rows of sessions, objects and leases as units would leave them, on every database.
"""

import pytest
from sqlalchemy import Connection, select, update

from retention import FOREVER, Claims, Lease, Mode, Policy
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.claims import (
    CLAIMED,
    claims_of,
    load_claims,
    load_policy,
    note_terms,
    terms_id_of,
)
from storage_gateway.catalog.retention_tables import leases, terms
from storage_gateway.catalog.tables import objects, sessions
from storage_gateway.errors import NotFound

from .units import add_object, add_session, object_named

pytestmark = pytest.mark.both_databases

BRIEF = Policy("brief", 60, 600, 5, Mode.COMPLIANCE)


def test_terms_are_written_once_and_read_as_they_were(catalog: Catalog) -> None:
    first, again = (catalog.run_blocking(lambda c: note_terms(c, BRIEF)) for _ in range(2))

    assert first is not None
    assert first == again == terms_id_of(BRIEF)
    assert BRIEF == catalog.read_blocking(lambda c: load_policy(c, first))
    rows = catalog.read_blocking(lambda c: c.execute(select(terms.c.terms_id)).scalars().all())
    assert [first] == list(rows)


def test_for_ever_needs_no_row(catalog: Catalog) -> None:
    assert catalog.run_blocking(lambda c: note_terms(c, FOREVER)) is None
    assert catalog.read_blocking(lambda c: load_policy(c, None)) == FOREVER
    assert [] == catalog.read_blocking(lambda c: list(c.execute(select(terms))))


@pytest.mark.parametrize(
    "other",
    [
        Policy("other", 60, 600, 5, Mode.COMPLIANCE),
        Policy("brief", 61, 600, 5, Mode.COMPLIANCE),
        Policy("brief", 60, None, 5, Mode.COMPLIANCE),
        Policy("brief", None, None, 5, Mode.COMPLIANCE),
        Policy("brief", 60, 600, 6, Mode.COMPLIANCE),
        Policy("brief", 60, 600, 5, Mode.GOVERNANCE),
    ],
    ids=str,
)
def test_other_terms_have_another_id(other: Policy) -> None:
    assert terms_id_of(other) != terms_id_of(BRIEF)


def test_what_is_claimed_is_all_that_the_rows_say(catalog: Catalog) -> None:
    def write(connection: Connection) -> None:
        for session_id in ("s0", "s1"):
            add_session(connection, session_id)
        for number in range(3):
            add_object(connection, number, f"s{number % 2}", b"head")
        connection.execute(update(sessions).where(sessions.c.session_id == "s0").values(holds=2))
        named = objects.c.object_id == object_named(0)
        values = {"keep_until_ms": 70, "expires_ms": 90, "expired_ms": 91, "erase_after_ms": 95}
        values |= {"created_ms": 10, "holds": 1}
        terms_id = note_terms(connection, BRIEF)
        connection.execute(update(objects).where(named).values(terms_id=terms_id, **values))
        for holder, until_ms in (("user", 80), ("operator", 90)):
            lease = {"object_id": object_named(0), "holder": holder, "until_ms": until_ms}
            connection.execute(leases.insert(), lease | {"renewed_ms": 0})

    catalog.run_blocking(write)
    page = catalog.read_blocking(lambda c: claims_of(c, c.execute(CLAIMED).all()))

    both = (Lease("operator", 90), Lease("user", 80))
    first = Claims(10, 70, BRIEF, both, holds=3, expired_ms=91, erase_after_ms=95)
    others = [page[object_named(number)] for number in (1, 2)]
    assert first == page[object_named(0)]
    assert [(FOREVER, (), 0), (FOREVER, (), 2)] == [(o.policy, o.leases, o.holds) for o in others]
    assert first == catalog.read_blocking(lambda c: load_claims(c, object_named(0)))


def test_nothing_is_claimed_of_what_never_was(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        catalog.read_blocking(lambda c: load_claims(c, object_named(7)))
    assert {} == catalog.read_blocking(lambda c: claims_of(c, ()))
