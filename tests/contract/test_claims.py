"""Goal: what was promised, and what is claimed, is read as it was written, and no claim is lost.

Method: rows of sessions, objects and leases as units would leave them, on every database; claims
that several processes make at once.
"""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import Connection, select, update

from retention import FOREVER, Claims, Lease, LifetimeTooShort, Mode, Policy
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.claiming import change_policy, renew_lease
from storage_gateway.catalog.claims import (
    CLAIMED,
    claims_of,
    load_claims,
    load_policy,
    note_terms,
    terms_id_of,
)
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.retention_tables import leases, terms
from storage_gateway.catalog.sessions import load_session
from storage_gateway.catalog.tables import objects, sessions
from storage_gateway.errors import Erased, NotFound

from .units import WITHIN_S, add_object, add_session, object_named

pytestmark = pytest.mark.both_databases

BRIEF = Policy("brief", 60, 600, 5, Mode.COMPLIANCE)
LOOK_S = 0.2
"""For so long it is looked whether something comes that must not come."""


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


# Changes at the same time.

AT_ONCE = 8


def kept_object(catalog: Catalog) -> str:
    """Enter an object that lives for a minute from its commit, which was at 0."""

    def write(connection: Connection) -> None:
        add_session(connection, "s0")
        add_object(connection, 0, "s0", b"head")
        terms_id = note_terms(connection, Policy("open", 60, None, 5))
        times = {"created_ms": 0, "keep_until_ms": 60_000, "expires_ms": 60_000}
        connection.execute(update(objects).values(terms_id=terms_id, **times))

    catalog.run_blocking(write)
    return object_named(0)


def row_of(catalog: Catalog) -> tuple[int, int, int | None]:
    query = select(objects.c.expires_ms, objects.c.claims_generation, objects.c.expired_ms)
    row = catalog.read_blocking(lambda c: c.execute(query).one())
    return row.expires_ms, row.claims_generation, row.expired_ms


@pytest.mark.parametrize("expired_ms", [None, 61_000])
def test_of_claims_that_are_made_at_once_none_is_lost(
    catalog: Catalog, other: Catalog, expired_ms: int | None
) -> None:
    """Each sees those before it: else the end that one wrote would hide a later one."""
    object_id = kept_object(catalog)
    marked = {"expired_ms": expired_ms, "erase_after_ms": expired_ms}
    catalog.run_blocking(lambda c: c.execute(update(objects).values(marked)).close())

    def claim(number: int) -> Claims:
        where = (catalog, other)[number % 2]
        holder, for_s = f"holder-{number}", 1000 + number
        return where.run_blocking(lambda c: renew_lease(c, object_id, holder, for_s))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        seen = list(threads.map(claim, range(AT_ONCE)))

    claims = catalog.read_blocking(lambda c: load_claims(c, object_id))
    assert AT_ONCE == len(claims.leases)
    assert (claims.expires_ms, AT_ONCE, None) == row_of(catalog)
    assert claims.expires_ms == max(lease.until_ms for lease in claims.leases)
    assert list(range(1, AT_ONCE + 1)) == sorted(len(each.leases) for each in seen)


def test_of_leases_that_one_renews_at_once_the_longest_stays(
    catalog: Catalog, other: Catalog
) -> None:
    object_id = kept_object(catalog)

    def claim(number: int) -> Claims:
        where = (catalog, other)[number % 2]
        for_s = 100_000 - 10_000 * number
        return where.run_blocking(lambda c: renew_lease(c, object_id, "user", for_s))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        seen = list(threads.map(claim, range(AT_ONCE)))

    (lease,) = catalog.read_blocking(lambda c: load_claims(c, object_id)).leases
    assert lease.until_ms == max(each.leases[0].until_ms for each in seen)
    assert lease.until_ms == row_of(catalog)[0]


def test_a_lease_that_waits_for_an_erasure_is_refused(catalog: Catalog, other: Catalog) -> None:
    object_id = kept_object(catalog)
    entered, release = threading.Event(), threading.Event()

    def erase_slowly(connection: Connection) -> None:
        erase(connection, object_id)
        entered.set()
        assert release.wait(WITHIN_S)

    with ThreadPoolExecutor(2) as threads:
        erasing = threads.submit(catalog.run_blocking, erase_slowly)
        assert entered.wait(WITHIN_S)
        waiting = threads.submit(
            other.run_blocking, lambda c: renew_lease(c, object_id, "user", 1000)
        )
        assert not wait([waiting], LOOK_S).done
        release.set()
        erasing.result(WITHIN_S)
        with pytest.raises(Erased):
            waiting.result(WITHIN_S)
    assert [] == catalog.read_blocking(lambda c: list(c.execute(select(leases))))


def test_of_policies_that_a_session_takes_at_once_none_promises_less_than_the_one_before(
    catalog: Catalog, other: Catalog
) -> None:
    catalog.run_blocking(lambda c: add_session(c, "s0"))
    catalog.run_blocking(lambda c: change_policy(c, "s0", Policy("open", 60, None, 5)))
    strict = [Policy("strict", 60 + number, None, 5, Mode.COMPLIANCE) for number in range(AT_ONCE)]

    def change(number: int) -> Policy | None:
        where = (catalog, other)[number % 2]
        try:
            return where.run_blocking(lambda c: change_policy(c, "s0", strict[number])).policy
        except LifetimeTooShort:
            return None

    with ThreadPoolExecutor(AT_ONCE) as threads:
        taken = [policy for policy in threads.map(change, range(AT_ONCE)) if policy]

    session = catalog.read_blocking(lambda c: load_session(c, "s0"))
    generation = catalog.read_blocking(
        lambda c: c.execute(select(sessions.c.generation)).scalar_one()
    )
    # Each promised as much as the one before; the last promises most.
    assert strict[-1] == session.policy
    assert strict[-1] in taken
    assert 1 + 1 + len(taken) == generation
