"""Errors that let go of what they came through.

An error keeps the frames that it came through, and their locals: a part of a body, say. A frame
that keeps the error, too, makes a cycle, which lives until the collector runs, and that is seldom
here (`cli.process.settle_objects`). So an error that is stored is stored `fresh`, and where one is
raised a local that holds it, or the future whose outcome it is, is deleted in a ``finally``.
"""

import asyncio
from copy import copy
from types import TracebackType
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def fresh(error: E) -> E:
    """Return a copy of an error as it was before it was raised: without traceback or cause."""
    return copy(error)


class Together(asyncio.TaskGroup):
    """A task group that raises the first error of its tasks, or of its body, as it is.

    Once it has ended it holds neither them nor the task that it is used in, as in newer versions of
    Python; source: github.com/python/cpython/issues/124958.
    """

    _parent_task: "asyncio.Task[object] | None"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all tasks; raise the first error."""
        first: BaseException | None = None
        try:
            try:
                await super().__aexit__(kind, error, traceback)
            except BaseExceptionGroup as group:
                first = group.exceptions[0]
                group.__traceback__ = None
            except asyncio.CancelledError as cancelled:
                cancelled.__traceback__ = None
                raise
            if first is not None:
                raise first
        finally:
            self._parent_task = None
            del error, first
