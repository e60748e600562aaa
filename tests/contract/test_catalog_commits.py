"""Goal: a session's commits are numbered without gap or double, in the order in which readers see
them, whatever number of processes commit at once.

Method: uploads that are committed through two catalogs on one database, as two processes have; one
commit is held before COMMIT while the others run, and a reader pages by sequence all the time.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload, list_objects
from storage_gateway.catalog.sessions import create_session
from storage_gateway.catalog.work import start_instance
from storage_gateway.records import INPUT, USER, Manifest, ObjectState, Party, Slot
from tests.databases import databases

pytestmark = pytest.mark.both_databases

SESSION = "101"
OTHER_SESSION = "102"
INSTANCE = "i"
COMMITS = 24
THREADS = 6
WITHIN_S = 20


@pytest.fixture
def catalogs(tmp_path: Path) -> Iterator[list[Catalog]]:
    """As of two processes."""
    opened = [databases.open(tmp_path) for _ in range(2)]
    opened[0].run_blocking(lambda c: start_instance(c, INSTANCE, 3600))
    for session_id in (SESSION, OTHER_SESSION):
        make = partial(
            create_session,
            session_id=session_id,
            custody="router",
            key_class="classic",
            members=[Party(USER, None, 1, "age1user")],
            new_tokens=[],
            token_lifetime_s=3600,
        )
        opened[0].run_blocking(make)
    yield opened
    for catalog in opened:
        catalog.close()


def begun(catalog: Catalog, number: int, session_id: str = SESSION) -> Manifest:
    """Begin an upload; return what is to be committed."""
    manifest = Manifest(
        object_id=f"o{number}",
        payload_id=f"p{number}",
        slot=Slot(session_id, f"t{number}", INPUT, None),
        state=ObjectState.COMMITTED,
        generation=1,
        key_class="classic",
        cid="c",
        size=1,
        payload_size=1,
        sealed_size=1,
        wrapped_for=(Party(USER, None, 1, "age1user"),),
        file_key_print=f"print {number}".encode(),
        head=b"head",
        sequence=0,
        created_ms=0,
    )
    owner = Ownership(manifest.payload_id, INSTANCE, 0)
    catalog.run_blocking(
        partial(begin_upload, owner=owner, object_id=manifest.object_id, slot=manifest.slot)
    )
    return manifest


def commit(connection: Connection, manifest: Manifest) -> int:
    owner = Ownership(manifest.payload_id, INSTANCE, 0)
    done = commit_upload(connection, owner, manifest, placed=(), wanted=("local",))
    return done.sequence


def page(connection: Connection, after: int) -> list[int]:
    found = list_objects(connection, SESSION, after=(SESSION, after), limit=3)
    return [manifest.sequence for manifest in found]


def test_commits_at_once_have_numbers_without_gap_and_a_reader_misses_none(
    catalogs: list[Catalog],
) -> None:
    manifests = [begun(catalogs[0], number) for number in range(COMMITS)]
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        last_look = False
        while not last_look:
            last_look = done.is_set()
            while numbers := catalogs[1].read_blocking(
                partial(page, after=seen[-1] if seen else 0)
            ):
                seen.extend(numbers)

    with ThreadPoolExecutor(THREADS + 1) as threads:
        reader = threads.submit(read)
        try:
            given = list(
                threads.map(
                    lambda i: catalogs[i % 2].run_blocking(partial(commit, manifest=manifests[i])),
                    range(COMMITS),
                )
            )
        finally:
            done.set()
        reader.result(WITHIN_S)

    assert list(range(1, COMMITS + 1)) == sorted(given)
    assert list(range(1, COMMITS + 1)) == seen


def commit_and_dawdle(
    connection: Connection,
    manifest: Manifest,
    numbered: threading.Event,
    release: threading.Event,
) -> int:
    """Take a number, tell so, and wait before COMMIT."""
    number = commit(connection, manifest)
    numbered.set()
    assert release.wait(WITHIN_S)
    return number


def test_a_later_number_is_not_seen_before_an_earlier_one(catalogs: list[Catalog]) -> None:
    """The first has its number, and dawdles before COMMIT; whoever comes next waits for it."""
    first, second = (begun(catalogs[0], number) for number in range(2))
    numbered, release = threading.Event(), threading.Event()
    dawdling = partial(commit_and_dawdle, manifest=first, numbered=numbered, release=release)
    with ThreadPoolExecutor(2) as threads:
        early = threads.submit(catalogs[0].run_blocking, dawdling)
        assert numbered.wait(WITHIN_S)
        late = threads.submit(catalogs[1].run_blocking, partial(commit, manifest=second))
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert [] == catalogs[1].read_blocking(partial(page, after=0))
            assert not late.done()
        release.set()
        assert (1, 2) == (early.result(WITHIN_S), late.result(WITHIN_S))

    assert [1, 2] == catalogs[1].read_blocking(partial(page, after=0))


def test_a_number_of_a_commit_that_was_undone_is_given_again(catalogs: list[Catalog]) -> None:
    first, second = (begun(catalogs[0], number) for number in range(2))

    def undone(connection: Connection) -> None:
        assert 1 == commit(connection, first)
        raise LookupError("for this test")

    with pytest.raises(LookupError):
        catalogs[0].run_blocking(undone)

    assert 1 == catalogs[1].run_blocking(partial(commit, manifest=second))
    assert 2 == catalogs[0].run_blocking(partial(commit, manifest=first))


def test_sessions_do_not_wait_for_each_other_on_postgresql(catalogs: list[Catalog]) -> None:
    if catalogs[0].kind == "sqlite":  # one writer at a time
        return
    first, other = begun(catalogs[0], 1), begun(catalogs[0], 2, OTHER_SESSION)
    numbered, release = threading.Event(), threading.Event()
    dawdling = partial(commit_and_dawdle, manifest=first, numbered=numbered, release=release)
    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(catalogs[0].run_blocking, dawdling)
        assert numbered.wait(WITHIN_S)
        try:
            assert 1 == catalogs[1].run_blocking(partial(commit, manifest=other))
            assert not early.done()
        finally:
            release.set()
        assert 1 == early.result(WITHIN_S)
