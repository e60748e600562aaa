"""Goal: rot is found before anybody reads it, in whatever store it is, and mended from another one;
a store that is away is no rot, and the reading goes no faster than it may.

Method: a real gateway over two folders, in which files are damaged; passes by hand.
"""

import asyncio
from pathlib import Path

import pytest

from crypto import LEAF_SIZE, SEGMENT_SIZE
from storage_gateway.backends import BlobInfo
from storage_gateway.catalog.copies import BAD, PLACED
from storage_gateway.catalog.passes import take_pass
from storage_gateway.passes import Turn
from storage_gateway.scrub import NAME, ScrubReport
from tests.gateway import eventually
from tests.http.passes import repair_of, scrub_of
from tests.http.steps import SEGMENT, fetch, made_bytes, uploaded
from tests.http.test_repair import states
from tests.http.test_replicas import Folders, folders, placed, running

__all__ = ["folders"]

pytestmark = pytest.mark.both_databases

CONTENT = made_bytes(SEGMENT + LEAF_SIZE + 1)


async def size_of(folders: Folders) -> int:
    return sum(file.stat().st_size for file in await folders.payload_files("one"))


async def test_all_that_is_right_is_read_in_every_store(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)

        report = await scrub_of(gateway).run_once()

        assert ScrubReport(right=4, bytes_read=2 * await size_of(folders), ended=True) == report
        assert {PLACED} == await states(gateway)


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "gone"])
@pytest.mark.parametrize("store", ["one", "two"])
async def test_rot_is_found_and_mended(
    folders: Folders, caplog: pytest.LogCaptureFixture, damage: str, store: str
) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        _, last = await folders.payload_files(store)
        right = last.read_bytes()
        _damage(last, damage)

        report = await scrub_of(gateway).run_once()
        assert (3, 1, True) == (report.right, report.bad, report.ended)
        assert [(1, store)] == [(s, b) for s, b, state in await placed(gateway) if state == BAD]
        (told,) = [r.__dict__ for r in caplog.records if r.msg == "copy is bad"]
        assert (made["urn"], 1, store, 1) == tuple(
            told[name] for name in ("urn", "segment", "store", "copies_left")
        )
        assert "--repair" in told["remedy"]
        assert 1 == (await repair_of(gateway, folders.path).run_once()).made

        assert right == last.read_bytes()
        again = await scrub_of(gateway).run_once()
    assert (4, 0) == (again.right, again.bad)


def _damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    elif how == "longer":
        file.write_bytes(data + b"x")
    elif how == "cut":
        file.write_bytes(data[:-1])
    else:
        data[-1] ^= 1
        file.write_bytes(data)


async def test_a_store_that_is_away_is_no_rot(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        await folders.vanish("two")

        report = await scrub_of(gateway).run_once()

        assert (2, 0, 2) == (report.right, report.bad, report.unread)
        assert {PLACED} == await states(gateway)
        await folders.come_back("two")


async def test_what_is_erased_is_not_read(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        made = await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        await fetch(gateway, made["urn"], session.user_token, method="DELETE")

        assert ScrubReport(ended=True) == await scrub_of(gateway).run_once()


async def test_it_goes_on_where_it_stopped_and_rests_after_a_round(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        scrub = scrub_of(gateway)

        first, second, third = [await scrub.run_once(limit=1) for _ in range(3)]
        rest = await scrub.run_once(pause_s=3600.0)

    assert (2, False) == (first.right, first.ended)
    assert SEGMENT_SIZE * 2 == first.bytes_read
    assert (2, False) == (second.right, second.ended)
    assert ScrubReport(ended=True) == third
    assert ScrubReport() == rest
    assert scrub.round_ended_ms is not None


@pytest.mark.parametrize(("every_s", "expected"), [(3600.0, 0), (-1.0, 2)])
async def test_how_far_it_came_is_written_now_and_then(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, every_s: float, expected: int
) -> None:
    """Each time the catalog's disk has to sync: once a copy that would be most of the work."""
    kept: list[str] = []
    keep = Turn.keep

    async def count(self: Turn, position: str) -> None:
        if self._name == NAME:
            kept.append(position)
        await keep(self, position)

    monkeypatch.setattr(Turn, "keep", count)
    monkeypatch.setattr("storage_gateway.passes.KEPT_EVERY_S", every_s)
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        report = await scrub_of(gateway).run_once()

    assert 4 == report.right
    assert expected == len(kept)


async def test_it_is_one_processs_turn(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        assert await gateway.catalog.run(lambda c: take_pass(c, NAME, "b" * 32, 3600.0))

        assert ScrubReport() == await scrub_of(gateway).run_once()


async def test_it_reads_no_faster_than_it_may(folders: Folders) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, made_bytes(LEAF_SIZE))
        size = await size_of(folders)
        clock = asyncio.get_running_loop().time

        began_s = clock()
        report = await scrub_of(gateway, bytes_per_s=2 * size / 0.5).run_once()
        took_s = clock() - began_s

    assert 2 * size == report.bytes_read
    assert took_s >= 0.5


async def test_the_gateway_does_it_by_itself(folders: Folders) -> None:
    settings = {"scrub_interval_s": 0.05, "scrub_round_s": 0.01, "repair_interval_s": 0.05}
    async with running(folders, **settings) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        first, _ = await folders.payload_files("one")
        right = first.read_bytes()
        _damage(first, "flipped")

        async def is_mended() -> bool:
            return await asyncio.to_thread(_content, first) == right

        await eventually(is_mended, what="a mended copy")
        told = gateway.gateway.metrics.text().decode()

    assert "scrub_newest" in told


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:  # while it is made again
        return b""


async def test_a_store_that_does_not_answer_is_left_alone_for_a_while(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage_gateway.scrub.SILENCE_S_MAX", 0.2)
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        asked = []

        async def hang(key: str) -> BlobInfo:
            asked.append(key)
            await asyncio.Event().wait()
            raise AssertionError

        scrub = scrub_of(gateway)
        monkeypatch.setattr(gateway.gateway.parts.members[1].store, "stat", hang)
        reports = [await scrub.run_once() for _ in range(2)]

    assert [(2, 0, 2)] * 2 == [(r.right, r.bad, r.unread) for r in reports]
    assert 1 == len(asked)


async def test_of_a_store_that_was_not_seen_nothing_is_bad(folders: Folders) -> None:
    """It may be the mount point of a disk that is not there."""
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)
        gateway.gateway.parts.members[1].ready = False
        for file in await folders.payload_files("two"):
            file.unlink()

        report = await scrub_of(gateway).run_once()

        assert (2, 0, 2) == (report.right, report.bad, report.unread)
        assert {PLACED} == await states(gateway)


async def test_an_error_that_nobody_thought_of_stops_nothing_else(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(folders) as (gateway, session):
        await uploaded(gateway, session.path("t1"), session.user_token, CONTENT)

        async def fail(key: str) -> BlobInfo:
            raise ZeroDivisionError(key)

        monkeypatch.setattr(gateway.gateway.parts.members[0].store, "stat", fail)
        report = await scrub_of(gateway).run_once()

        assert (2, 0, 2, True) == (report.right, report.bad, report.unread, report.ended)
        assert {PLACED} == await states(gateway)
