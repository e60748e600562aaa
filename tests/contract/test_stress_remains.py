"""Goal: of stress runs that are over the serving catalog keeps a bounded number of rows, and no
session or tombstone that is not such a run's is ever dropped.

Method: a run's session in every state that it can be in, beside a session of others; commits that
meet the dropping.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, select, update

from storage_gateway.catalog import Catalog
from storage_gateway.catalog.erasing import erase
from storage_gateway.catalog.objects import Ownership, begin_upload, commit_upload
from storage_gateway.catalog.sessions import NewToken, create_session, register_router
from storage_gateway.catalog.stress_remains import (
    RUNS_KEPT,
    drop_control_session,
    drop_outdated_run,
    find_remains,
)
from storage_gateway.catalog.stress_runs import (
    RunState,
    begin_run,
    control_session,
    end_run,
    find_run,
)
from storage_gateway.catalog.tables import metadata, objects, stress_runs
from storage_gateway.catalog.work import start_instance
from storage_gateway.errors import StaleParties
from storage_gateway.records import INPUT, USER, Manifest, ObjectState, Party, Slot, TokenKind
from tests.databases import databases
from tests.gateway import DEADLINE_S

pytestmark = pytest.mark.both_databases

RUN, INSTANCE = "r" * 32, "i"
MEETING_S = 2.0
"""A commit that nothing keeps waiting is done by then."""
SESSION, OTHERS = control_session(RUN), "101"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = databases.open(tmp_path)
    opened.run_blocking(lambda c: start_instance(c, INSTANCE, 3600))
    opened.run_blocking(lambda c: register_router(c, "age1router", "classic"))
    for session_id in (SESSION, OTHERS):
        open_session(opened, session_id)
        store(opened, session_id)
    opened.run_blocking(set_erased)
    opened.run_blocking(partial(begin, run_id=RUN))
    yield opened
    opened.close()


def open_session(catalog: Catalog, session_id: str) -> None:
    make = partial(
        create_session,
        session_id=session_id,
        custody="router",
        key_class="classic",
        members=[Party(USER, None, 1, "age1user")],
        new_tokens=[NewToken(session_id.encode(), TokenKind.USER, None)],
        token_lifetime_s=3600,
    )
    catalog.run_blocking(make)


def begin(connection: Connection, run_id: str) -> str | None:
    return begin_run(
        connection, run_id=run_id, case_name="x", seed=1, parameters={}, instance_id=INSTANCE
    )


def end(connection: Connection, run_id: str = RUN) -> bool:
    return end_run(connection, run_id, INSTANCE, RunState.DONE, {"verdict": "pass"})


def begun(catalog: Catalog, session_id: str, task_id: str = "t") -> Manifest:
    """Begin an upload; return what is to be committed."""
    name = f"{session_id[0]}{task_id}"
    manifest = Manifest(
        object_id=f"o{name}",
        payload_id=f"p{name}",
        slot=Slot(session_id, task_id, INPUT, None),
        state=ObjectState.COMMITTED,
        generation=1,
        key_class="classic",
        cid="c",
        size=1,
        payload_size=1,
        sealed_size=1,
        wrapped_for=(Party(USER, None, 1, "age1user"),),
        file_key_print=name.encode(),
        head=b"head",
        sequence=0,
        created_ms=0,
    )
    owner = Ownership(manifest.payload_id, INSTANCE, 0)
    start = partial(begin_upload, owner=owner, object_id=manifest.object_id, slot=manifest.slot)
    catalog.run_blocking(start)
    return manifest


def commit(connection: Connection, manifest: Manifest) -> Manifest:
    owner = Ownership(manifest.payload_id, INSTANCE, 0)
    return commit_upload(connection, owner, manifest, placed=(), wanted=("local",))


def store(catalog: Catalog, session_id: str, task_id: str = "t") -> Manifest:
    """Store an object."""
    manifest = begun(catalog, session_id, task_id)
    return catalog.run_blocking(partial(commit, manifest=manifest))


def set_erased(connection: Connection) -> None:
    """Erase everything there is, to the end."""
    connection.execute(update(objects).values(state=ObjectState.ERASED.value, head=None))


def rows_of(connection: Connection, session_id: str) -> dict[str, int]:
    """Return how many rows of a session each table has that has any."""
    tables = [table for table in metadata.sorted_tables if "session_id" in table.c]
    counts = {
        table.name: len(
            connection.execute(select(table).where(table.c.session_id == session_id)).all()
        )
        for table in tables
    }
    return {name: count for name, count in counts.items() if count}


def is_kept(catalog: Catalog) -> bool:
    """Tell whether the run's session can be dropped neither by who looks nor by who does."""
    offered = catalog.read_blocking(find_remains).sessions
    before = catalog.read_blocking(partial(rows_of, session_id=SESSION))
    dropped = catalog.run_blocking(partial(drop_control_session, run_id=RUN))
    after = catalog.read_blocking(partial(rows_of, session_id=SESSION))
    assert bool(offered) == dropped == (before != after)
    return not dropped


def test_a_run_that_is_over_and_erased_leaves_no_session_and_no_tombstone(
    catalog: Catalog,
) -> None:
    others = catalog.read_blocking(partial(rows_of, session_id=OTHERS))
    routers = catalog.read_blocking(partial(rows_of, session_id=""))
    catalog.run_blocking(end)

    assert [RUN] == catalog.read_blocking(find_remains).sessions
    assert not is_kept(catalog)
    assert {} == catalog.read_blocking(partial(rows_of, session_id=SESSION))
    assert others == catalog.read_blocking(partial(rows_of, session_id=OTHERS))
    assert routers == catalog.read_blocking(partial(rows_of, session_id=""))
    assert {
        "objects",
        "slots",
        "tokens",
        "key_versions",
        "parties",
        "sessions",
        "wraps",
    } == set(others)
    assert [] == catalog.read_blocking(find_remains).sessions


def test_a_session_of_a_run_that_goes_on_is_kept(catalog: Catalog) -> None:
    assert is_kept(catalog)


def test_a_session_with_an_object_that_is_not_erased_is_kept(catalog: Catalog) -> None:
    stored = store(catalog, SESSION, "t2")
    catalog.run_blocking(end)
    assert is_kept(catalog)
    catalog.run_blocking(lambda c: erase(c, stored.object_id))
    assert is_kept(catalog)
    catalog.run_blocking(set_erased)
    assert not is_kept(catalog)


def test_a_session_with_an_upload_under_way_is_kept(catalog: Catalog) -> None:
    begun(catalog, SESSION, "t2")
    catalog.run_blocking(end)

    assert is_kept(catalog)


@pytest.mark.parametrize("run_id", ["", "s" * 32, OTHERS])
def test_no_session_but_of_a_run_in_the_catalog_is_dropped(catalog: Catalog, run_id: str) -> None:
    """Not even one that is called like that of a run."""
    catalog.run_blocking(end)
    open_session(catalog, control_session("s" * 32))

    assert not catalog.run_blocking(partial(drop_control_session, run_id=run_id))
    assert catalog.read_blocking(partial(rows_of, session_id=OTHERS))
    assert catalog.read_blocking(partial(rows_of, session_id=control_session("s" * 32)))


def test_an_upload_that_meets_the_dropping_is_not_dropped_after_its_commit(
    catalog: Catalog,
) -> None:
    """It begins when nothing was found that speaks against dropping, and nothing is dropped yet."""
    catalog.run_blocking(end)
    uploads: list[Future[Manifest]] = []

    def drop(connection: Connection) -> bool:
        def meet(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("DELETE") and not uploads:
                uploads.append(threads.submit(store, catalog, SESSION, "t2"))
                wait(uploads, MEETING_S)

        event.listen(connection, "before_cursor_execute", meet)
        return drop_control_session(connection, RUN)

    with ThreadPoolExecutor(1) as threads:
        assert catalog.run_blocking(drop)
        with pytest.raises(StaleParties):
            uploads[0].result(DEADLINE_S)


def test_an_upload_that_comes_after_the_dropping_cannot_be_committed(catalog: Catalog) -> None:
    catalog.run_blocking(end)
    assert not is_kept(catalog)
    late = begun(catalog, SESSION, "t2")

    with pytest.raises(StaleParties):
        catalog.run_blocking(partial(commit, manifest=late))
    assert {"slots": 1} == catalog.read_blocking(partial(rows_of, session_id=SESSION))


def test_rows_of_the_newest_runs_are_kept(catalog: Catalog) -> None:
    """A run that goes on, or still has its session, is kept however old it is."""
    ended = [f"{number:032}" for number in range(RUNS_KEPT + 3)]
    row = {
        "case_name": "x",
        "seed": 1,
        "parameters": {},
        "state": RunState.DONE.value,
        "running": None,
        "stop_asked": 0,
        "instance_id": INSTANCE,
        "children": [],
        "progress": {},
        "report": {},
    }
    rows = [row | {"run_id": run_id, "created_ms": at} for at, run_id in enumerate(ended)]
    catalog.run_blocking(lambda c: c.execute(insert(stress_runs), rows))
    catalog.run_blocking(partial(make_oldest, run_id=RUN))

    assert ended[:3] == sorted(catalog.read_blocking(find_remains).rows)
    catalog.run_blocking(end)
    assert ended[:3] == sorted(catalog.read_blocking(find_remains).rows)
    assert not is_kept(catalog)
    assert [*ended[:3], RUN] == sorted(catalog.read_blocking(find_remains).rows)
    living = "v" * 32
    catalog.run_blocking(partial(begin, run_id=living))
    catalog.run_blocking(partial(make_oldest, run_id=living))
    for run_id in (RUN, living, *ended):
        catalog.run_blocking(partial(drop_outdated_run, run_id=run_id))
    kept = catalog.read_blocking(lambda c: c.execute(select(stress_runs.c.run_id)).scalars().all())
    assert [*ended[3:], living] == sorted(kept)
    assert catalog.read_blocking(partial(find_run, run_id=ended[2])) is None


def make_oldest(connection: Connection, run_id: str) -> None:
    """Have a run begin before all others."""
    connection.execute(
        update(stress_runs).where(stress_runs.c.run_id == run_id).values(created_ms=-1)
    )
