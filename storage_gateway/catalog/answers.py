"""How a catalog's threads answer those who wait for their units."""

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Outcome = tuple[Any, BaseException | None]
"""What a unit returned, or why it did not."""


class Answer(Generic[T]):
    """What a coroutine waits for: a `Future` for one event loop, at half of its cost."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Made on the loop; answered from any thread, once."""
        self.loop = loop
        self.waiter: asyncio.Future[T] = loop.create_future()

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits any more. From any thread; it may be so a moment later."""
        return self.waiter.cancelled()


def release(answers: Sequence[Future[Any] | Answer[Any]], outcomes: Sequence[Outcome]) -> None:
    """Tell all who wait how their units ended; a loop is woken once for all of its own.

    Nobody minds that a caller was cancelled: its unit took effect all the same.
    """
    told: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]] = {}
    for answer, outcome in zip(answers, outcomes, strict=True):
        if isinstance(answer, Answer):
            told.setdefault(answer.loop, []).append((answer.waiter, outcome))
        elif answer.set_running_or_notify_cancel():
            _tell(answer, outcome)
    for loop, waiters in told.items():
        # A loop that was closed has nobody left who could hear it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_tell_all, waiters)


def bearable(failure: BaseException) -> Exception:
    """Return a failure as one who waits can be told of it.

    No future takes a `StopIteration`, which would end a generator somewhere (PEP 479). What is no
    `Exception` would end the loop, or look as if the caller itself had been cancelled.
    """
    if isinstance(failure, Exception) and not isinstance(failure, StopIteration):
        return failure
    told = RuntimeError(f"the unit ended in {type(failure).__name__}")
    told.__cause__ = failure
    return told


def _tell_all(waiters: Sequence[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for waiter, outcome in waiters:
        if not waiter.done():
            _tell(waiter, outcome)


def _tell(future: "Future[Any] | asyncio.Future[Any]", outcome: Outcome) -> None:
    answer, failure = outcome
    if failure is None:
        future.set_result(answer)
    else:
        future.set_exception(bearable(failure))
