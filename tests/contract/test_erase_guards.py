"""Goal: nothing that a hold or the terms of compliance keep is erased, by anybody's word or a
sweep's; what nobody claims is, with what was claimed of it.

Method: the units, on an object whose claims are set in the catalog as each case has them.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from storage_gateway.catalog import Catalog, now_ms
from storage_gateway.catalog.erasing import erase, erase_expired
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.retention_tables import holds, leases, terms
from storage_gateway.catalog.tables import objects, sessions
from storage_gateway.errors import Held, NotFound, Retained
from storage_gateway.records import ObjectState
from tests.contract.test_catalog_commits import OTHER_SESSION, SESSION, begun, catalogs, commit

__all__ = ["catalogs"]  # a fixture

pytestmark = pytest.mark.both_databases

DAY_MS = 24 * 3600 * 1000
EXPIRED: dict[str, int | None] = {
    "expires_ms": -DAY_MS,
    "expired_ms": -DAY_MS,
    "erase_after_ms": -DAY_MS,
}
"""Times are told from now."""
TIMES = ("keep_until_ms", *EXPIRED)


@pytest.fixture
def catalog(catalogs: list[Catalog]) -> Catalog:
    manifest = begun(catalogs[0], 1)
    catalogs[0].run_blocking(partial(commit, manifest=manifest))
    return catalogs[0]


def claim(
    connection: Connection, claims: Mapping[str, int | None], *, mode: str = "governance"
) -> None:
    now = now_ms(connection)
    connection.execute(
        insert(terms),
        {"terms_id": "t", "policy": "p", "default_s": None, "grace_s": 1, "mode": mode},
    )
    values: dict[str, Any] = {
        name: now + value if name in TIMES and value is not None else value
        for name, value in claims.items()
    }
    connection.execute(update(objects).values(values | {"terms_id": "t"}))
    lease = {"object_id": "o1", "holder": "user", "until_ms": now, "renewed_ms": now}
    connection.execute(insert(leases), lease)


def hold_session(connection: Connection, session_id: str) -> None:
    connection.execute(update(sessions).where(sessions.c.session_id == session_id).values(holds=1))


def state(catalog: Catalog) -> ObjectState:
    return catalog.read_blocking(partial(load_manifest, object_id="o1")).state


def test_what_a_hold_is_on_is_not_erased(catalog: Catalog) -> None:
    catalog.run_blocking(partial(claim, claims=EXPIRED | {"holds": 1}))

    with pytest.raises(Held) as caught:
        catalog.run_blocking(partial(erase, object_id="o1"))
    assert {} == caught.value.extensions
    assert catalog.run_blocking(partial(erase_expired, object_id="o1")) is None
    assert ObjectState.COMMITTED is state(catalog)


def test_a_refusal_tells_since_when_and_not_who_or_why(catalog: Catalog) -> None:
    catalog.run_blocking(partial(claim, claims={"holds": 1}))
    row = {"session_id": SESSION, "object_id": "o1", "who": "the court", "why": "case 7"}
    times = [("1", 5000, None), ("2", 3000, None), ("3", 1000, 2000)]

    def place(connection: Connection) -> None:
        for name, since_ms, released_ms in times:
            one = {"hold_id": name, "since_ms": since_ms, "released_ms": released_ms}
            connection.execute(insert(holds), row | one)

    catalog.run_blocking(place)
    with pytest.raises(Held) as caught:
        catalog.run_blocking(partial(erase, object_id="o1"))
    assert {"held_since": "1970-01-01T00:00:03.000Z"} == caught.value.extensions
    assert "court" not in caught.value.detail
    assert "case" not in caught.value.detail


@pytest.mark.parametrize("session_id", [SESSION, OTHER_SESSION])
def test_a_hold_on_a_session_keeps_what_is_in_it_alone(catalog: Catalog, session_id: str) -> None:
    catalog.run_blocking(partial(claim, claims=EXPIRED))
    catalog.run_blocking(partial(hold_session, session_id=session_id))

    if session_id == SESSION:
        with pytest.raises(Held):
            catalog.run_blocking(partial(erase, object_id="o1"))
        assert catalog.run_blocking(partial(erase_expired, object_id="o1")) is None
        assert ObjectState.COMMITTED is state(catalog)
    else:
        assert catalog.run_blocking(partial(erase_expired, object_id="o1")) is not None


@pytest.mark.parametrize(
    ("mode", "expires_ms", "erased"),
    [
        ("compliance", None, False),
        ("compliance", DAY_MS, False),
        ("compliance", -DAY_MS, True),
        ("governance", None, True),
        ("governance", DAY_MS, True),
    ],
)
def test_terms_of_compliance_keep_until_the_longest_claim_ends(
    catalog: Catalog, mode: str, expires_ms: int | None, *, erased: bool
) -> None:
    catalog.run_blocking(partial(claim, claims={"expires_ms": expires_ms}, mode=mode))
    if erased:
        found = catalog.run_blocking(partial(erase, object_id="o1"))
        assert ObjectState.ERASING is found.state
        return
    with pytest.raises(Retained) as caught:
        catalog.run_blocking(partial(erase, object_id="o1"))
    assert (expires_ms is not None) is ("retained_until" in caught.value.extensions)
    assert ObjectState.COMMITTED is state(catalog)


@pytest.mark.parametrize(
    "claimed",
    [
        {"expired_ms": None},
        {"expires_ms": DAY_MS},
        {"expires_ms": None},
        {"erase_after_ms": DAY_MS},
        {"holds": 1},
    ],
    ids=str,
)
def test_what_is_claimed_again_does_not_go_by_a_sweep(
    catalog: Catalog, claimed: dict[str, int | None]
) -> None:
    catalog.run_blocking(partial(claim, claims=EXPIRED | claimed))
    assert catalog.run_blocking(partial(erase_expired, object_id="o1")) is None
    assert ObjectState.COMMITTED is state(catalog)


def test_what_nobody_claims_goes_with_its_leases_and_again_is_the_same(catalog: Catalog) -> None:
    catalog.run_blocking(partial(claim, claims=EXPIRED | {"keep_until_ms": -2 * DAY_MS}))
    erased = catalog.run_blocking(partial(erase_expired, object_id="o1"))

    assert erased is not None
    assert (ObjectState.ERASING, 2, None) == (erased.state, erased.generation, erased.head)
    row = catalog.read_blocking(lambda c: c.execute(select(objects)).one())
    assert row.keep_until_ms == row.expires_ms
    assert [] == catalog.read_blocking(lambda c: c.execute(select(leases)).all())
    assert catalog.run_blocking(partial(erase_expired, object_id="o1")) is None
    assert erased == catalog.run_blocking(partial(erase, object_id="o1"))
    catalog.run_blocking(partial(hold_session, session_id=SESSION))
    assert erased == catalog.run_blocking(partial(erase, object_id="o1"))


def test_nothing_is_erased_that_never_was(catalog: Catalog) -> None:
    for unit in (erase, erase_expired):
        with pytest.raises(NotFound):
            catalog.run_blocking(partial(unit, object_id="other"))
