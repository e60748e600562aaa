"""Goal: what works on keys at the same time leaves nothing between: an erasure beside a reseal, a
copy that comes beside the next generation, a commit beside a rotation of the router's key.

Method: two catalogs on one database, as two processes have; the unit of one is held before COMMIT
while the other one's begins. And units that must not mistake what is there for something else.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Table, select, update

from crypto import CLASSIC, HybridIdentity, X25519Identity
from storage_gateway.catalog import Catalog, Unit, statements
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.graves import ERASED, SUPERSEDED
from storage_gateway.catalog.jobs import JobRow, begin_job
from storage_gateway.catalog.migrating import begin_migration, end_migration
from storage_gateway.catalog.objects import Ownership, begin_upload, load_manifest
from storage_gateway.catalog.outbox import Due, copy_came, expect_copy, load_copy
from storage_gateway.catalog.registry import ROUTER_ITSELF, Holder, add_key, add_miner, remove_party
from storage_gateway.catalog.resealing import begin_reseal, commit_reseal
from storage_gateway.catalog.restoring import restore_session
from storage_gateway.catalog.sessions import NewToken, authenticate, register_router
from storage_gateway.catalog.tables import graves, outbox, parties, sessions, tokens
from storage_gateway.catalog.work import load_deployment
from storage_gateway.catalog.wraps import copies_due, take_census
from storage_gateway.errors import PartyRemoved, TooManyJobs
from storage_gateway.manifest_copies import OBJECT, SESSION, SessionCopy
from storage_gateway.records import INPUT, MINER, ROUTER, USER, Party, Slot, TokenKind
from tests.contract.test_catalog_commits import INSTANCE, WITHIN_S, begun, catalogs, commit
from tests.contract.test_catalog_commits import SESSION as SESSION_ID

__all__ = ["catalogs"]  # a fixture

pytestmark = pytest.mark.both_databases

T = TypeVar("T")
U = TypeVar("U")
HELD_S = 0.3
MINER_ID = "0x00000000000000000000000000000000000000a1"
MINER_HOLDER = Holder(SESSION_ID, MINER, MINER_ID)
TOKEN = b"digest of the miner's token, 32b"


def overlapped(catalogs: list[Catalog], first: Unit[T], second: Unit[U]) -> tuple[T, U]:
    """Hold the first unit before COMMIT until the second has begun, and has to wait for it."""
    done, release = threading.Event(), threading.Event()

    def dawdling(connection: Connection) -> T:
        answer = first(connection)
        done.set()
        assert release.wait(WITHIN_S)
        return answer

    with ThreadPoolExecutor(2) as threads:
        early = threads.submit(catalogs[0].run_blocking, dawdling)
        assert done.wait(WITHIN_S)
        late = threads.submit(catalogs[1].run_blocking, second)
        until = time.monotonic() + HELD_S
        while time.monotonic() < until:
            assert not late.done()
        release.set()
        return early.result(WITHIN_S), late.result(WITHIN_S)


def test_an_erasure_beside_a_reseal_buries_the_payload_that_the_object_has(
    catalogs: list[Catalog],
) -> None:
    manifest = begun(catalogs[0], 1)
    catalogs[0].run_blocking(partial(commit, manifest=manifest))
    old = catalogs[0].read_blocking(partial(load_manifest, object_id=manifest.object_id))
    new = replace(old, payload_id="p2", file_key_print=b"another")
    owner = Ownership("p2", INSTANCE, 0)
    catalogs[0].run_blocking(
        partial(begin_reseal, owner=owner, old=old, wrapped_for=old.wrapped_for)
    )
    reseal = partial(
        commit_reseal, owner=owner, new=new, old=old, placed=(), wanted=("local",), grace_s=3600
    )
    resealed, erased = overlapped(catalogs, reseal, partial(erase, object_id=manifest.object_id))

    assert ("p2", "p2") == (resealed.payload_id, erased.payload_id)
    found = catalogs[0].read_blocking(lambda c: c.execute(select(graves)).all())
    assert {("p1", SUPERSEDED, None), ("p2", ERASED, None)} == {
        (grave.payload_id, grave.reason, grave.doomed_until_ms) for grave in found
    }


def test_a_copy_that_comes_takes_the_next_generation_out_of_no_lane(
    catalogs: list[Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the lane was found taken, and before its generation is raised."""
    first, second = Due(OBJECT, "o1", 1), Due(OBJECT, "o1", 2)
    catalogs[0].run_blocking(partial(expect_copy, due=first))
    came = partial(copy_came, due=first, stores=("local",))

    def insert_once(connection: Connection, table: Table, row: dict[str, object]) -> bool:
        found = statements.insert_once(connection, table, row)
        if not found and catalogs[0].kind == "sqlite":  # one writer at a time: its own alone
            came(connection)
        elif not found:
            catalogs[1].run_blocking(came)
        return found

    monkeypatch.setattr("storage_gateway.catalog.outbox.insert_once", insert_once)
    catalogs[0].run_blocking(partial(expect_copy, due=second))

    due = select(outbox.c.generation).where(outbox.c.record_id == "o1")
    assert [2] == catalogs[0].read_blocking(lambda c: list(c.execute(due).scalars()))


def test_a_rotation_of_the_routers_key_waits_for_commits_that_have_looked_at_it(
    catalogs: list[Catalog],
) -> None:
    """Else a job that follows the rotation would not see what is committed for the key before."""
    catalogs[0].run_blocking(partial(load_deployment, candidate_id="d"))
    recipients = [str(X25519Identity.generate().recipient()) for _ in range(2)]
    catalogs[0].run_blocking(partial(register_router, recipient=recipients[0], key_class=CLASSIC))
    router = Party(ROUTER, None, 1, recipients[0])
    manifest = begun(catalogs[0], 1)
    manifest = replace(manifest, wrapped_for=(*manifest.wrapped_for, router))
    rotate = partial(
        add_key, holder=ROUTER_ITSELF, recipient=recipients[1], key_class=CLASSIC, proven=True
    )
    sequence, key = overlapped(catalogs, partial(commit, manifest=manifest), rotate)

    assert (1, 2) == (sequence, key.version)


@pytest.mark.parametrize("session_id", [SESSION_ID, None])
def test_of_two_jobs_that_begin_at_once_there_is_room_for_one(
    catalogs: list[Catalog], session_id: str | None
) -> None:
    catalogs[0].run_blocking(partial(load_deployment, candidate_id="d"))
    begun(catalogs[0], 1)

    def begin(connection: Connection, job_id: str) -> JobRow | TooManyJobs:
        about = {"session_id": session_id}
        named = partial(begin_job, connection, job_id=job_id, kind="rewrap", parameters=about)
        try:
            return named(instance_id=INSTANCE, jobs_max=1)
        except TooManyJobs as refused:
            return refused

    jobs = overlapped(catalogs, partial(begin, job_id="one"), partial(begin, job_id="two"))
    assert [JobRow, TooManyJobs] == [type(job) for job in jobs]
    assert isinstance(jobs[1], TooManyJobs)
    assert {"running": ["one"]} == jobs[1].extensions


def test_copies_of_what_never_had_a_head_before_keep_no_key(catalogs: list[Catalog]) -> None:
    catalog = catalogs[0]
    catalog.run_blocking(partial(expect_copy, due=Due(OBJECT, "new", 1)))
    assert 0 == catalog.read_blocking(copies_due)
    catalog.run_blocking(partial(expect_copy, due=Due(OBJECT, "wrapped anew", 2)))
    assert 1 == catalog.read_blocking(copies_due)


def test_a_rebuild_takes_the_tokens_of_who_was_removed(catalogs: list[Catalog]) -> None:
    """The catalog is last night's: the miner was a party, and its token is good there."""
    catalog = catalogs[0]
    token = NewToken(TOKEN, TokenKind.MINER, MINER_ID)
    catalog.run_blocking(
        partial(
            add_miner,
            holder=MINER_HOLDER,
            recipient=str(X25519Identity.generate().recipient()),
            key_class=CLASSIC,
            token=token,
            token_lifetime_s=3600,
            miners_max=5,
        )
    )
    catalog.run_blocking(partial(remove_party, holder=MINER_HOLDER))
    copy = catalog.read_blocking(partial(load_copy, kind=SESSION, record_id=SESSION_ID))
    assert isinstance(copy, SessionCopy)

    def go_back(connection: Connection) -> None:
        connection.execute(update(parties).values(removed_ms=None))
        connection.execute(update(tokens).values(revoked_ms=None))
        connection.execute(update(sessions).values(generation=1))

    catalog.run_blocking(go_back)
    assert MINER_ID == catalog.read_blocking(partial(authenticate, digest=TOKEN)).miner
    catalog.run_blocking(partial(restore_session, copy=copy, everywhere=True))
    with pytest.raises(PartyRemoved):
        catalog.read_blocking(partial(authenticate, digest=TOKEN))


def test_a_migration_waits_for_uploads_of_the_old_class_alone(catalogs: list[Catalog]) -> None:
    catalog = catalogs[0]
    hybrid = {role: str(HybridIdentity.generate().recipient()) for role in (USER, ROUTER)}
    classic = str(X25519Identity.generate().recipient())
    for holder in (Holder(SESSION_ID, USER, None), ROUTER_ITSELF):
        add = partial(add_key, holder=holder, key_class="hybrid", proven=True)
        catalog.run_blocking(partial(add, recipient=hybrid[holder.role]))
    catalog.run_blocking(partial(begin_migration, session_id=SESSION_ID))

    def begin(name: str, recipient: str) -> None:
        owner = Ownership(name, INSTANCE, 0)
        slot = Slot(SESSION_ID, name, INPUT, None)
        wrapped_for = (Party(USER, None, 1 + recipient.startswith("age1pq1"), recipient),)
        catalog.run_blocking(
            partial(begin_upload, owner=owner, object_id=name, slot=slot, wrapped_for=wrapped_for)
        )

    begin("new", hybrid[USER])
    assert catalog.run_blocking(partial(end_migration, session_id=SESSION_ID))
    begin("old", classic)
    assert not catalog.run_blocking(partial(end_migration, session_id=SESSION_ID))
    uploads = catalog.read_blocking(lambda c: sum(wrap.uploads for wrap in take_census(c)))
    assert 2 == uploads
