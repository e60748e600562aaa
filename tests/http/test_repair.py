"""Goal: copies that a store did not get, or has wrong, are made again from right ones; what is
right is never given up for them, and what is erased meanwhile does not come back.

Method: a real gateway over two folders, one of which is moved away as if its disk had been
unmounted, or has files damaged; then passes by hand, and what lies in either.
"""

import asyncio
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from crypto import LEAF_SIZE, SEGMENT_SIZE
from storage_gateway import repair
from storage_gateway.backends import KeyedStore, Range
from storage_gateway.catalog.copies import BAD, PENDING, PLACED, mark_bad
from storage_gateway.catalog.passes import find_pass, take_pass
from storage_gateway.catalog.repairs import CopyToMake
from storage_gateway.catalog.tables import passes, placements
from storage_gateway.copies import read_leaf
from storage_gateway.errors import BackendUnavailable
from storage_gateway.repair import NAME, Repair, RepairReport
from tests.gateway import OpenSession, RunningGateway, eventually, running_gateway
from tests.http.passes import repair_of
from tests.http.steps import PLAINTEXT, SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_replicas import NAMES, Folders, checker, folders, placed, running

__all__ = ["folders"]

pytestmark = pytest.mark.both_databases

CONTENT = made_bytes(SEGMENT + LEAF_SIZE + 1)


async def lay(
    folders: Folders, gateway: RunningGateway, session: OpenSession, *, without: str
) -> str:
    """Upload while a store is away, and have it come back; return the URN."""
    await folders.vanish(without)
    made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
    await folders.come_back(without)
    return str(made["urn"])


async def states(gateway: RunningGateway) -> set[str]:
    return {state for _, _, state in await placed(gateway)}


async def contents(folders: Folders, name: str) -> list[bytes]:
    return [file.read_bytes() for file in await folders.payload_files(name)]


@pytest.mark.parametrize("without", ["one", "two"])
async def test_what_a_store_did_not_get_is_brought_there(folders: Folders, without: str) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without=without)
        assert {PENDING, PLACED} == await states(gateway)

        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(made=2, bytes_copied=report.bytes_copied, ended=True) == report
        assert {PLACED} == await states(gateway)
        assert await contents(folders, "one") == await contents(folders, "two")
        assert report.bytes_copied == sum(map(len, await contents(folders, "one")))
        again = await repair_of(gateway, folders.path).run_once()
        assert RepairReport(ended=True) == again
        found = await asyncio.to_thread(checker(folders, gateway).run)
    assert (0, []) == (found.segments_pending, found.findings)


async def test_the_gateway_does_it_by_itself(folders: Folders) -> None:
    async with running(folders, write_quorum=1, repair_interval_s=0.05) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        # Only now: what it tried while the store was away would wait for a minute.
        gateway.gateway.upkeep.repair._settled_s = 0.0

        async def is_whole() -> bool:
            return await states(gateway) == {PLACED}

        await eventually(is_whole, what="a repair")
        assert "repair_newest" in gateway.gateway.metrics.text().decode()


async def test_what_came_late_to_a_folder_is_put_again(folders: Folders) -> None:
    """It can be read; whether it was ever synced nobody knows."""
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        await repair_of(gateway, folders.path).run_once()
        await gateway.catalog.run(_all_pending)

        report = await repair_of(gateway, folders.path).run_once()

        assert (2, 0) == (report.made, report.found)
        assert {PLACED} == await states(gateway)


async def test_what_was_restored_is_left_as_it_is(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        first, _ = await folders.payload_files("one")
        mark = partial(mark_bad, payload_id=first.parent.name, segment=0, backend="one")
        assert await gateway.catalog.run(mark)

        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(found=1, ended=True) == report
        assert {PLACED} == await states(gateway)


def _all_pending(connection: Connection) -> None:
    connection.execute(
        update(placements).where(placements.c.backend == "two").values(state=PENDING)
    )


async def test_what_may_still_come_is_waited_for(folders: Folders) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        repair = repair_of(gateway, folders.path)
        repair._settled_s = 3600.0

        assert RepairReport(ended=True) == await repair.run_once()
        assert {PENDING, PLACED} == await states(gateway)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
async def test_a_copy_that_a_read_found_bad_is_made_again(folders: Folders, damage: str) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        first, _ = await folders.payload_files("one")
        _damage(first, damage)
        read = await fetch(gateway, made["urn"], session.user_token, headers=[PLAINTEXT])
        assert CONTENT == read.body

        async def is_noted() -> bool:
            return BAD in await states(gateway)

        await eventually(is_noted, what="a note of the bad copy")
        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(made=1, bytes_copied=SEGMENT_SIZE, ended=True) == report
        assert {PLACED} == await states(gateway)
        assert await contents(folders, "one") == await contents(folders, "two")


def _damage(file: Path, how: str) -> None:
    if how == "gone":
        file.unlink()
        return
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data[: 10 if how == "cut" else len(data)])


async def test_nothing_is_given_up_where_no_other_copy_is_right(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    """The only right copy of a leaf may be in the store that is to be repaired."""
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        one, two = [(await folders.payload_files(name))[0] for name in ("one", "two")]
        _flip(one, 0)
        _flip(two, LEAF_SIZE)
        payload_id = one.parent.name
        for name in NAMES:
            assert await gateway.catalog.run(
                partial(mark_bad, payload_id=payload_id, segment=0, backend=name)
            )
        before = one.read_bytes(), two.read_bytes()
        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(lost=2, ended=True) == report
        assert before == (one.read_bytes(), two.read_bytes())
        read = await fetch(gateway, made["urn"], session.user_token, headers=[PLAINTEXT])
        assert CONTENT == read.body, "each leaf from the store that has it"
        lost = [r.__dict__ for r in caplog.records if "whole in no other" in r.msg]
        assert {(made["urn"], 0, name, 0) for name in NAMES} == {
            (r["urn"], r["segment"], r["store"], r["copies_left"]) for r in lost
        }
        assert all("backup" in r["remedy"] for r in lost)


def _flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


async def test_while_a_store_is_away_its_copies_wait(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        urn = await lay(folders, gateway, session, without="two")
        await folders.vanish("two")

        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(failed=1, waiting=1, ended=True) == report, "asked once in a pass"
        (told,) = [r.__dict__ for r in caplog.records if r.msg == "copy not made"]
        assert (urn, "two", 1) == (told["urn"], told["store"], told["copies_left"])
        assert told["remedy"]
        assert {PENDING, PLACED} == await states(gateway)
        await folders.come_back("two")
        assert 2 == (await repair_of(gateway, folders.path).run_once()).made


async def test_what_is_erased_meanwhile_does_not_come_back(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folders, write_quorum=1, recovery_interval_s=3600) as (gateway, session):
        urn = await lay(folders, gateway, session, without="two")
        erased: list[int] = []

        async def erase() -> None:
            answer = await fetch(gateway, urn, session.user_token, method="DELETE")
            erased.append(answer.status)

        put = Repair._put

        async def erase_then_put(self: Repair, *arguments: object) -> None:
            if not erased:
                await erase()
            await put(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Repair, "_put", erase_then_put)
        await repair_of(gateway, folders.path).run_once()

        assert 1 == len(erased)
        assert [] == await folders.payload_files("one")
        assert [] == await folders.payload_files("two")


async def test_one_process_at_a_time_goes_on_where_the_last_one_stopped(folders: Folders) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        first = await repair_of(gateway, folders.path).run_once(limit=1)
        assert RepairReport(made=1, bytes_copied=first.bytes_copied) == first
        stopped = await gateway.catalog.read(lambda c: find_pass(c, NAME))
        assert stopped is not None
        assert None is stopped.round_ended_ms
        other = "b" * 32
        assert await gateway.catalog.run(lambda c: take_pass(c, NAME, other, 3600.0))

        assert RepairReport() == await repair_of(gateway, folders.path).run_once(), "another has it"
        await gateway.catalog.run(lambda c: take_pass(c, NAME, other, 0.0))
        second = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(made=1, bytes_copied=second.bytes_copied, ended=True) == second
        ended = await gateway.catalog.read(lambda c: find_pass(c, NAME))
        assert ended is not None
        assert ended.round_ended_ms is not None


async def test_a_copy_that_is_not_there_when_it_was_put_does_not_count(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")

        async def put_nothing(*_: object) -> None:
            pass

        with monkeypatch.context() as patched:
            patched.setattr(Repair, "_put", put_nothing)
            report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport(failed=2, ended=True) == report
        assert {PENDING, PLACED} == await states(gateway)


async def test_who_lost_its_turn_takes_nothing_away(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept while another one made the copy."""
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        first, _ = await folders.payload_files("one")
        payload_id = first.parent.name
        _damage(first, "cut")
        mark = partial(mark_bad, payload_id=payload_id, segment=0, backend="one")
        assert await gateway.catalog.run(mark)

        async def read_and_sleep(store: KeyedStore, wanted: Range, threads: Executor) -> bytes:
            await gateway.catalog.run(lambda c: c.execute(update(passes).values(turn_id="b" * 32)))
            return await read_leaf(store, wanted, threads)

        monkeypatch.setattr("storage_gateway.repair.read_leaf", read_and_sleep)
        report = await repair_of(gateway, folders.path).run_once()

        assert RepairReport() == report
        assert 10 == first.stat().st_size


async def test_one_round_is_enough_for_all_processes(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        for name in NAMES:
            for file in await folders.payload_files(name):
                _damage(file, "cut")
                mark = partial(
                    mark_bad,
                    payload_id=file.parent.name,
                    segment=int(file.name),
                    backend=name,
                )
                assert await gateway.catalog.run(mark)
        process = repair_of(gateway, folders.path)

        first = await process.run_once(pause_s=3600.0)
        of_another = await repair_of(gateway, folders.path).run_once(pause_s=3600.0)
        soon = await process.run_once()

    assert RepairReport(lost=4, ended=True) == first
    assert RepairReport() == of_another
    assert RepairReport(waiting=4, ended=True) == soon, "what is lost is not tried each minute"


async def test_a_copy_waits_longer_each_time() -> None:
    copy = CopyToMake("o", "p", 0, "one", BAD)
    backoff = repair._Backoff()
    waits = []
    now_s = 1000.0
    for _ in range(9):
        assert not backoff.is_waiting(copy, now_s)
        backoff.fail(copy, now_s)
        waited = next(s for s in range(1, 4000) if not backoff.is_waiting(copy, now_s + s))
        waits.append(waited)
        now_s += waited
    backoff.succeed(copy)

    assert [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600] == waits
    assert not backoff.is_waiting(copy, 0.0)


async def test_the_reserve_of_a_disk_is_left(folders: Folders) -> None:
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
    async with running_gateway(
        folders.path, backends=folders.backends(), reserve_bytes=1 << 60, write_quorum=1
    ) as gateway:
        mending = gateway.gateway.upkeep.repair
        mending._settled_s = 0.0
        report = await mending.run_once()

    assert RepairReport(failed=1, waiting=1, ended=True) == report
    assert [] == await folders.payload_files("two")


async def test_an_error_that_nobody_thought_of_stops_nothing_else(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Repair._put
    puts: list[int] = []

    async def fail_once(self: Repair, *arguments: object) -> None:
        puts.append(1)
        if len(puts) == 1:
            raise ZeroDivisionError
        await put(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Repair, "_put", fail_once)
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")

        report = await repair_of(gateway, folders.path).run_once()

    assert (1, 1, True) == (report.made, report.failed, report.ended)


async def test_what_fails_after_the_deletion_does_not_count_as_placed(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have made the copy and said so, before this one took it away."""

    async def fail(*_: object) -> None:
        await gateway.catalog.run(_all_placed)
        raise BackendUnavailable("no")

    monkeypatch.setattr(Repair, "_put", fail)
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")

        await repair_of(gateway, folders.path).run_once()

        assert BAD in await states(gateway)


def _all_placed(connection: Connection) -> None:
    connection.execute(update(placements).values(state=PLACED))


async def test_a_copy_that_is_bad_again_is_noted_again(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.bad_copies.MARKED_S", 0.0)
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        first, _ = await folders.payload_files("one")
        for _ in range(2):
            _damage(first, "cut")

            async def is_noted() -> bool:
                await fetch(gateway, made["urn"], session.user_token, headers=[PLAINTEXT])
                return BAD in await states(gateway)

            await eventually(is_noted, what="a note")
            assert 1 == (await repair_of(gateway, folders.path).run_once()).made


async def test_two_passes_at_once_are_one_after_the_other(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's own and one by hand, in one process."""
    put = Repair._put
    by_hand: list[RepairReport] = []

    async def put_while_another_is_asked(self: Repair, *arguments: object) -> None:
        by_hand.append(await mending.run_once())
        await put(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Repair, "_put", put_while_another_is_asked)
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        mending = repair_of(gateway, folders.path)

        report = await mending.run_once()

    assert (2, True) == (report.made, report.ended)
    assert [RepairReport()] * 2 == by_hand


async def test_a_copy_that_its_store_cannot_take_holds_up_no_other(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Repair._put
    refused: set[object] = set()

    async def refuse_the_first(self: Repair, order: Any, spool: Any) -> None:  # noqa: ANN401
        if not refused or order.key in refused:
            refused.add(order.key)
            raise BackendUnavailable("not this one")
        await put(self, order, spool)

    monkeypatch.setattr(Repair, "_put", refuse_the_first)
    async with running(folders, write_quorum=1) as (gateway, session):
        await lay(folders, gateway, session, without="two")
        mending = repair_of(gateway, folders.path)

        first, second = [await mending.run_once() for _ in range(2)]
        by_hand = await mending.run_once(at_once=True)

    assert (0, 1, 1) == (first.made, first.failed, first.waiting)
    assert (1, 0, 1) == (second.made, second.failed, second.waiting)
    assert (0, 1, 0) == (by_hand.made, by_hand.failed, by_hand.waiting)
