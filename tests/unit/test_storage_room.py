"""Goal: whether there is room is asked once for all who ask together, and what is told holds for
a moment only.

Method: the question waits in its thread until all have asked.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from storage_gateway import room
from storage_gateway.errors import StorageFull
from storage_gateway.records import ALL_OPEN, Wanted
from storage_gateway.room import Room


class Disk:
    """Answers when it may."""

    def __init__(self) -> None:
        self.full = False
        self.asked = 0
        self.may_answer = threading.Event()

    def check(self, _wanted: Wanted) -> None:
        self.asked += 1
        self.may_answer.wait()
        if self.full:
            raise StorageFull("full")


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


async def test_many_who_ask_together_are_one_question(threads: Executor) -> None:
    disk = Disk()
    asked = Room(disk.check, threads)

    together = [asyncio.create_task(asked.require(ALL_OPEN)) for _ in range(16)]
    await asyncio.sleep(0)
    together[0].cancel()  # who goes takes the answer from nobody
    disk.may_answer.set()
    ended = await asyncio.gather(*together, return_exceptions=True)

    assert isinstance(ended[0], asyncio.CancelledError)
    assert [None] * 15 == ended[1:]
    await asked.require(ALL_OPEN)
    assert 1 == disk.asked


async def test_a_full_disk_is_told_to_all_and_asked_again(threads: Executor) -> None:
    disk = Disk()
    disk.full = True
    disk.may_answer.set()
    asked = Room(disk.check, threads)

    both = await asyncio.gather(*(asked.require(ALL_OPEN) for _ in "12"), return_exceptions=True)

    assert [StorageFull, StorageFull] == [type(one) for one in both]
    disk.full = False
    await asked.require(ALL_OPEN)
    assert 2 == disk.asked


async def test_an_answer_grows_old(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    disk.may_answer.set()
    monkeypatch.setattr(room, "FRESH_S", 0.0)
    asked = Room(disk.check, threads)

    await asked.require(ALL_OPEN)
    await asked.require(ALL_OPEN)

    assert 2 == disk.asked
