"""Goal: whoever waits for a unit of a batch is told how it ended, whatever became of the others.

Method: answers of real event loops, released from a thread as a catalog's threads do it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from storage_gateway.catalog.answers import Answer, release
from storage_gateway.errors import SlotBusy

WITHIN_S = 20


async def told(*answers: Answer[Any]) -> list[object]:
    """What those who wait get: the answer, or what is raised."""
    async with asyncio.timeout(WITHIN_S):
        waiters = (answer.waiter for answer in answers)
        return list(await asyncio.gather(*waiters, return_exceptions=True))


def made(count: int) -> list[Answer[Any]]:
    return [Answer(asyncio.get_running_loop()) for _ in range(count)]


async def test_each_is_told_its_own_end() -> None:
    answers, busy = made(3), SlotBusy("for this test")
    await asyncio.to_thread(release, answers, [("first", None), (None, busy), (None, None)])

    assert ["first", busy, None] == await told(*answers)


@pytest.mark.parametrize(
    "ending", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
async def test_an_end_that_no_future_can_hold_is_told_as_an_error(
    ending: type[BaseException],
) -> None:
    """And leaves nobody beside it without an answer."""
    answers, waiting, ended = made(3), Future[Any](), ending()
    await asyncio.to_thread(
        release,
        [*answers, waiting],
        [("first", None), (None, ended), ("last", None), (None, ended)],
    )
    first, error, last = await told(*answers)

    assert ("first", "last") == (first, last)
    for found in (error, waiting.exception(WITHIN_S)):
        assert isinstance(found, RuntimeError)
        assert f"the unit ended in {ending.__name__}" == str(found)
        assert ended is found.__cause__


async def test_who_does_not_wait_any_more_keeps_nobody_from_the_answer() -> None:
    answers, given_up, waiting = made(2), Future[Any](), Future[Any]()
    answers[0].waiter.cancel()
    given_up.cancel()
    await asyncio.to_thread(
        release, [answers[0], given_up, answers[1], waiting], [(at, None) for at in range(4)]
    )

    assert [True, False] == [answer.is_given_up for answer in answers]
    assert [2] == await told(answers[1])
    assert 3 == waiting.result(WITHIN_S)


async def test_a_loop_is_woken_once_for_all_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    woken: list[Callable[..., object]] = []
    wake = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:  # noqa: ANN401 - the loop's
        woken.append(callback)
        return wake(callback, *arguments)

    answers = made(5)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_soon_threadsafe", counted)
        release(answers, [(at, None) for at in range(5)])
        count = len(woken)

    assert 1 == count
    assert [0, 1, 2, 3, 4] == await told(*answers)


async def test_a_loop_that_was_closed_keeps_no_other_from_its_answers() -> None:
    def gone() -> Answer[Any]:
        loop = asyncio.new_event_loop()
        answer: Answer[Any] = Answer(loop)
        loop.close()
        return answer

    (answer,) = made(1)
    await asyncio.to_thread(lambda: release([gone(), answer], [("nobody", None), ("here", None)]))

    assert ["here"] == await told(answer)


async def test_answers_of_two_loops_come_to_their_own() -> None:
    (mine,) = made(1)
    asked, found = threading.Event(), Future[object]()
    theirs: list[Answer[Any]] = []

    async def wait() -> object:
        theirs.extend(made(1))
        asked.set()
        (answer,) = await told(*theirs)
        return answer

    thread = threading.Thread(target=lambda: found.set_result(asyncio.run(wait())), daemon=True)
    thread.start()
    assert await asyncio.to_thread(asked.wait, WITHIN_S)
    release([mine, *theirs], [("mine", None), ("theirs", None)])

    assert ["mine"] == await told(mine)
    assert "theirs" == await asyncio.to_thread(found.result, WITHIN_S)
    await asyncio.to_thread(thread.join, WITHIN_S)
