"""Uploads whose write quorum is late: they are answered before their end, and go on by themselves.

Every upload runs in a task of its own, which the request waits for. Once the body is there and
each segment is durable in some store, but not in enough of them, the request is answered with 202,
and the task goes on: with the memory, the intent and the lease that it had. It ends committed or
failed. What became of it is told from the catalog (`catalog.outcomes`), whatever became of us.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .catalog import Catalog
from .catalog.objects import Ownership
from .catalog.outcomes import Outcome, begin_outcome, decide_overdue, note_failure
from .config import Config
from .errors import BackendUnavailable, GatewayError, InternalError, ServiceError
from .records import Manifest, Slot

logger = logging.getLogger(__name__)

PENDING_MAX = 256
"""Uploads answered and not decided. While there are so many, others keep their senders waiting."""
END_S_MAX = 10.0
"""How long a stop waits for uploads to clear up behind themselves, before it leaves that to
recovery: a store that does not answer must not keep a process from ending."""


class CommitPending(ServiceError):
    """The upload was answered with 202, and it is not decided yet what becomes of it."""

    code = "commit_pending"
    title = "Not committed yet"
    remedy = (
        "Ask again after the time in Retry-After; 'status_url' tells what became of the upload."
    )


class LateUploads:
    """The uploads of one gateway process, and which of them were answered before their end."""

    def __init__(self, catalog: Catalog, *, answer_within_s: float, decide_within_s: float) -> None:
        """A body that is there is answered ``answer_within_s`` later, if that can be; what becomes
        of it is decided within ``decide_within_s`` of that answer.
        """
        self._catalog = catalog
        self.answer_within_s = answer_within_s
        self.decide_within_s = decide_within_s
        self._tasks: set[asyncio.Task[Manifest]] = set()
        self.pending: set[str] = set()
        """Object ids of uploads that were answered and are not decided."""

    async def take_in(
        self, upload: Callable[["Late"], Coroutine[Any, Any, Manifest]]
    ) -> Manifest | Outcome:
        """Run an upload; return its manifest, or what is known of it once it is late.

        Cancelled before that, it cancels the upload and waits for its end.

        Raises:
            what the upload raises

        """
        late = Late(self, self._catalog)
        task = asyncio.create_task(upload(late))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._end(done, late))
        first: tuple[asyncio.Future[Any], ...] = (task, late.told)
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        try:
            return task.result() if task.done() else late.told.result()
        finally:
            del task, first  # its error holds this frame; see `raising`

    async def decided(self, outcome: Outcome) -> Outcome:
        """Return an outcome as it is, unless it is overdue: then it is decided now."""
        if not outcome.is_overdue:
            return outcome
        return await self._catalog.run(lambda c: decide_overdue(c, outcome.object_id))

    async def close(self) -> None:
        """End what is not decided yet: it fails."""
        for task in self._tasks:
            if not task.cancelling():  # again would break off what waits for its threads
                task.cancel()
        left = set(self._tasks)
        while left:
            _, left = await asyncio.wait(left, timeout=END_S_MAX)
            for task in left:
                task.cancel()

    def _end(self, task: "asyncio.Task[Manifest]", late: "Late") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if not late.told.done():
            return
        outcome: Outcome = late.told.result()
        self.pending.discard(outcome.object_id)
        told = {"payload_id": outcome.payload_id}
        if task.cancelled():
            logger.info("late upload broken off", extra=told)
        elif error is None:
            logger.info("late upload committed", extra=told)
        elif isinstance(error, GatewayError):
            # Whether it failed the catalog knows: the answer of a commit may have been lost.
            logger.info("late upload ended in an error", extra=told | {"code": error.code})
        else:
            logger.error("late upload ended in an error", exc_info=error, extra=told)


class Late:
    """Whether one upload is late; made by `LateUploads.take_in`."""

    def __init__(self, uploads: LateUploads, catalog: Catalog) -> None:
        """It is not."""
        self._uploads = uploads
        self._catalog = catalog
        self.told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        """Done once the sender may be told that the upload is pending."""

    async def watch(
        self,
        owner: Ownership,
        object_id: str,
        slot: Slot,
        wait_held: Callable[[], Awaitable[None]],
    ) -> None:
        """Watch over an upload whose body is there, until cancelled: tell that it is late.

        ``wait_held`` returns when every segment is durable in some store.

        Raises:
            BackendUnavailable: it was told that it is late, and is not decided in time.

        """
        uploads = self._uploads
        await asyncio.sleep(uploads.answer_within_s)
        await wait_held()
        if len(uploads.pending) >= PENDING_MAX:
            logger.warning("too many uploads are late", extra={"payload_id": owner.payload_id})
            return
        uploads.pending.add(object_id)
        clock = asyncio.get_running_loop().time
        decide_by = clock() + uploads.decide_within_s
        try:
            outcome = await self._catalog.run(
                lambda c: begin_outcome(
                    c, owner, object_id=object_id, slot=slot, within_s=uploads.decide_within_s
                )
            )
        except BaseException as error:
            uploads.pending.discard(object_id)
            if not isinstance(error, GatewayError):
                raise
            # Nobody was told: the sender waits on, and hears how the upload ends.
            logger.warning("late upload not told", extra={"code": error.code})
            return
        self.told.set_result(outcome)
        logger.info("upload is late", extra={"payload_id": owner.payload_id})
        await asyncio.sleep(decide_by - clock())
        raise BackendUnavailable("too few stores had taken it in time")

    async def note(self, error: BaseException) -> None:
        """Note why the upload fails, for whoever was told that it is pending."""
        if not (self.told.done() and isinstance(error, Exception)):
            return  # one that was cut off is told as interrupted, without a note
        outcome = self.told.result()
        self._uploads.pending.discard(outcome.object_id)  # clearing up may take long
        code = error.code if isinstance(error, GatewayError) else InternalError.code
        try:
            await self._catalog.run(lambda c: note_failure(c, outcome.object_id, code))
        except GatewayError as failure:
            logger.warning("failure not noted", extra={"code": failure.code})


def late_uploads(config: Config, catalog: Catalog) -> LateUploads:
    """Return what watches over late uploads as the configuration has it."""
    return LateUploads(
        catalog,
        answer_within_s=config.answer_within_s,
        decide_within_s=config.decide_within_s,
    )
