"""Goal: on PostgreSQL an answer is durable whatever happens to connections and server, nothing is
done twice, nobody waits for ever, and rules hold that on SQLite the one writer gives for nothing.

Method: a real server whose connections are ended, which is killed, restarted, or stopped in its
tracks under load; deadlocks of two real connections; many threads at the same rule.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError

from storage_gateway.catalog import PostgresCatalog, postgres_link, postgres_pages
from storage_gateway.catalog.sessions import (
    NewToken,
    create_session,
    register_router,
    reissue_token,
    set_operator_token,
)
from storage_gateway.catalog.tables import markers, tokens
from storage_gateway.catalog.work import start_instance
from storage_gateway.database_url import parse_database_url
from storage_gateway.errors import CatalogUnavailable
from storage_gateway.records import USER, Party, TokenKind
from tests.gateway import DEADLINE_S
from tests.servers.postgres import PostgresServer

from .units import add, add_object, add_session, names

T = TypeVar("T")

THREADS = 8
ROUNDS = 5


@pytest.fixture
def name(postgres: PostgresServer, empty_catalog: str) -> str:
    return postgres.new_database(empty_catalog)


@pytest.fixture
def catalog(postgres: PostgresServer, name: str) -> Iterator[PostgresCatalog]:
    opened = PostgresCatalog.open(parse_database_url(postgres.url(name)))
    yield opened
    opened.close()


def load_while(catalog: PostgresCatalog, disturb: Callable[[], None]) -> tuple[set[str], int]:
    """Add rows from many threads while something happens; return the answered, and the refused."""
    stop, answered, refused = threading.Event(), set[str](), list[str]()

    def write(thread: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                answered.add(catalog.run_blocking(partial(add, name=f"{thread}.{number}")))
            except CatalogUnavailable as error:
                refused.append(str(error))

    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(write, thread) for thread in range(THREADS)]
        disturb()
        stop.set()
        for done in running:
            done.result(60)
    return answered, len(refused)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    url = parse_database_url("postgresql://u:geheim@127.0.0.1:1/c")

    with pytest.raises(CatalogUnavailable, match=r"127\.0\.0\.1:1/c: .*refused") as caught:
        PostgresCatalog.open(url)
    assert "geheim" not in str(caught.value)


def test_a_server_that_forgets_is_refused(postgres: PostgresServer, name: str) -> None:
    def fsync(value: str) -> None:
        postgres.execute(f"ALTER SYSTEM SET fsync = {value}")
        postgres.execute("SELECT pg_reload_conf()")
        while postgres.execute("SHOW fsync") != [(value,)]:
            time.sleep(0.01)

    fsync("off")
    try:
        with pytest.raises(CatalogUnavailable, match="fsync = off"):
            PostgresCatalog.open(parse_database_url(postgres.url(name)))
    finally:
        fsync("on")


def test_commits_are_durable_whatever_the_database_says(
    postgres: PostgresServer, name: str
) -> None:
    postgres.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off', name)
    catalog = PostgresCatalog.open(parse_database_url(postgres.url(name)))
    shown = catalog.run_blocking(lambda c: c.execute(text("SHOW synchronous_commit")).scalar_one())
    catalog.close()

    assert "on" == shown


def test_connections_that_are_ended_lose_and_repeat_nothing(
    postgres: PostgresServer, name: str, catalog: PostgresCatalog
) -> None:
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    ending += f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    ended: list[tuple[object, ...]] = []

    def disturb() -> None:
        for _ in range(20):
            ended.extend(postgres.execute(ending))
            time.sleep(0.02)

    answered, _ = load_while(catalog, disturb)

    assert len(ended) > THREADS
    assert len(answered) > THREADS
    assert answered <= set(catalog.read_blocking(names))


def test_a_server_that_is_killed_and_comes_back_has_all_that_was_answered(
    postgres: PostgresServer, catalog: PostgresCatalog
) -> None:
    def disturb() -> None:
        for _ in range(2):
            time.sleep(0.3)
            postgres.kill()
            postgres.start()

    answered, refused = load_while(catalog, disturb)

    assert answered
    assert refused
    assert answered <= set(catalog.read_blocking(names))
    assert "after" == catalog.run_blocking(partial(add, name="after"))


def test_a_deadlock_is_run_again(catalog: PostgresCatalog) -> None:
    for backend in "ab":
        catalog.run_blocking(partial(add, name=backend))
    both = threading.Barrier(2)
    tries: list[str] = []

    def unit(connection: Connection, order: str) -> str:
        tries.append(order)
        for backend in order:
            change = update(markers).where(markers.c.backend == backend)
            connection.execute(change.values(created_ms=markers.c.created_ms + 1))
            if len(tries) <= 2 and backend == order[0]:
                both.wait(20)
        return order

    with ThreadPoolExecutor(2) as threads:
        units = [partial(unit, order=order) for order in ("ab", "ba")]
        assert ["ab", "ba"] == list(threads.map(catalog.run_blocking, units))

    assert len(tries) > 2
    counted = catalog.read_blocking(lambda c: c.execute(select(markers.c.created_ms)).all())
    assert [(2,), (2,)] == [tuple(row) for row in counted]


def test_what_is_lost_in_a_commit_is_not_run_again(
    postgres: PostgresServer, name: str, catalog: PostgresCatalog
) -> None:
    """COMMIT waits in a deferred trigger, where its connection is ended."""
    postgres.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON markers DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait()",
        name,
    )
    runs: list[int] = []

    def unit(connection: Connection) -> None:
        runs.append(1)
        add(connection, "a")

    committing = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    committing += f" WHERE datname = '{name}' AND query = 'COMMIT' AND state = 'active'"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(catalog.run_blocking, unit)
        while not postgres.execute(committing):
            time.sleep(0.01)
        with pytest.raises(CatalogUnavailable, match="read back"):
            waiting.result(20)

    assert [1] == runs


def test_a_long_unit_may_take_its_time_between_statements(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_link, "IDLE_MS_MAX", 100)
    catalog = PostgresCatalog.open(parse_database_url(postgres.url(name)))

    def unit(connection: Connection) -> list[str]:
        add(connection, "a")
        time.sleep(0.5)
        return list(names(connection))

    assert ["a"] == catalog.run_long(unit, within_s=60)
    catalog.close()


def test_an_error_that_a_unit_swallows_is_no_success(catalog: PostgresCatalog) -> None:
    """PostgreSQL answers the COMMIT of a broken transaction with ROLLBACK, and no error."""

    def unit(connection: Connection) -> str:
        add(connection, "a")
        try:
            add(connection, "a")
        except DBAPIError:
            return "fine"
        return "not reached"

    with pytest.raises(CatalogUnavailable):
        catalog.run_blocking(unit)
    assert [] == catalog.read_blocking(names)


async def test_a_server_that_hangs_is_not_waited_for(
    postgres: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("storage_gateway.catalog.postgres", "storage_gateway.catalog.postgres_link"):
        monkeypatch.setattr(f"{place}.UNIT_S_MAX", 1.0)
    monkeypatch.setitem(postgres_link.DEFAULTS, "connect_timeout", 2)  # libpq takes no less
    url = parse_database_url(postgres.url(name))
    catalog = await asyncio.to_thread(PostgresCatalog.open, url)
    await catalog.run(partial(add, name="before"))
    await catalog.read(names)

    postgres.send_signal(signal.SIGSTOP)
    try:
        began, ticks = time.monotonic(), 0
        calls = [asyncio.create_task(catalog.run(partial(add, name=f"{i}"))) for i in range(30)]
        reads = [asyncio.create_task(catalog.read(names)) for _ in range(30)]
        while not all(task.done() for task in [*calls, *reads]):
            await asyncio.sleep(0.02)
            ticks += 1
        took_s = time.monotonic() - began
        while catalog._abandoned:  # threads that wait for the server: they are needed
            assert time.monotonic() < began + DEADLINE_S
            await asyncio.sleep(0.02)
    finally:
        postgres.send_signal(signal.SIGCONT)

    outcomes = await asyncio.gather(*calls, *reads, return_exceptions=True)
    assert {CatalogUnavailable} == {type(outcome) for outcome in outcomes}
    assert took_s < DEADLINE_S
    assert ticks > 10
    assert "after" == await catalog.run(partial(add, name="after"))
    assert {"before", "after"} <= set(await catalog.read(names))
    await asyncio.to_thread(catalog.close)


# Rules that hold although transactions run at the same time.


def at_once(catalog: PostgresCatalog, units: list[Callable[[Connection], T]]) -> list[T]:
    """Run units so that each has begun before any of them goes on."""
    together = threading.Barrier(len(units))

    def begun(connection: Connection, unit: Callable[[Connection], T]) -> T:
        connection.execute(text("SELECT 1"))
        if not together.broken:
            together.wait(20)
        return unit(connection)

    with ThreadPoolExecutor(len(units)) as threads:
        return list(threads.map(catalog.run_blocking, [partial(begun, unit=u) for u in units]))


def living_tokens(connection: Connection) -> int:
    query = select(tokens.c.digest).where(tokens.c.revoked_ms.is_(None))
    return len(connection.execute(query).all())


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_there_is_one_operators_token(catalog: PostgresCatalog, attempt: int) -> None:
    catalog.run_blocking(
        lambda c: c.execute(text("INSERT INTO deployment VALUES (1, 'd', 0)")).rowcount
    )
    digests = [bytes([i]) * 32 for i in range(6)]

    at_once(catalog, [partial(set_operator_token, digest=digest) for digest in digests])

    assert 1 == catalog.read_blocking(living_tokens)


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_a_token_that_is_issued_again_twice_leaves_one(
    catalog: PostgresCatalog, attempt: int
) -> None:
    make = partial(
        create_session,
        session_id="101",
        custody="router",
        key_class="classic",
        members=[Party(USER, None, 1, "age1user")],
        new_tokens=[NewToken(b"\xff" * 32, TokenKind.USER, None)],
        token_lifetime_s=3600,
    )
    catalog.run_blocking(make)
    fresh = [NewToken(bytes([i]) * 32, TokenKind.USER, None) for i in range(6)]

    at_once(
        catalog,
        [partial(reissue_token, token=t, session_id="101", lifetime_s=60.0) for t in fresh],
    )

    assert 1 == catalog.read_blocking(living_tokens)


def test_first_starts_at_the_same_time_agree_on_the_router(catalog: PostgresCatalog) -> None:
    recipients = [f"age1{i}" for i in range(6)]

    found = at_once(
        catalog, [partial(register_router, recipient=r, key_class="classic") for r in recipients]
    )

    assert 1 == len(set(found))


def test_pages_of_a_table_that_is_too_large_to_rewrite_are_not_called_clean(
    catalog: PostgresCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pages, "FULL_BYTES_MAX", 0)

    assert not catalog.clean_pages()


def test_a_rewrite_that_takes_too_long_is_given_up_before_anybody_else_gives_up(
    postgres: PostgresServer,
    name: str,
    catalog: PostgresCatalog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(postgres_pages, "FULL_MS_MAX", 1000)
    catalog.run_blocking(partial(add_session, session_id="0"))
    catalog.run_blocking(partial(add_object, number=1, session_id="0", head=bytes(200)))
    postgres.hold_rewrites(name)

    with ThreadPoolExecutor(1) as threads:
        cleaning = threads.submit(catalog.clean_pages)
        while not postgres.rewrites():
            assert not cleaning.done()
            time.sleep(0.01)
        catalog.run_blocking(lambda c: c.execute(text("UPDATE objects SET head = NULL")).rowcount)
        assert not cleaning.result(20)
    postgres.execute("DROP INDEX endless", name)
    assert not catalog.clean_pages()  # others may work for a long time before the next try
    catalog._pages._rest_until = 0

    assert catalog.clean_pages()
    assert 1 == caplog.messages.count("catalog not rewritten in time")


def test_the_more_processes_there_are_the_longer_each_leaves_the_pages_to_others(
    catalog: PostgresCatalog,
) -> None:
    def rest_s(living: int) -> float:
        began = time.monotonic()
        catalog._pages._rest_until = 0
        assert catalog.clean_pages()
        ended = time.monotonic()
        assert catalog._pages._living == max(living, 1)
        return (catalog._pages._rest_until - ended) / (ended - began)

    alone = rest_s(0)
    for number in range(10):
        catalog.run_blocking(partial(start_instance, instance_id=f"{number}", lease_s=3600))
    catalog.run_blocking(partial(start_instance, instance_id="dead", lease_s=-1))

    assert alone < 20
    assert 20 < rest_s(10) < 200
