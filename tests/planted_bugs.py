"""Bugs to be planted into the running code, each of which some suite must catch.

Each is a variant of the real code that somebody could have written. `plant` sets it into place; a
test hands it ``monkeypatch.setattr``, which takes it out again, a process that is started for it
needs nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, bindparam, delete
from sqlalchemy import update as sql_update

from retention import ErasureStep
from storage_gateway import recovery, settle, write
from storage_gateway.backends.disk import Disk
from storage_gateway.backends.local import LocalSegmentWriter
from storage_gateway.backends.replicas import ReplicatedWriter
from storage_gateway.catalog import Unit, objects, sqlite
from storage_gateway.catalog.objects import Ownership, continue_upload
from storage_gateway.catalog.statements import Statement
from storage_gateway.catalog.tables import intents, segments
from storage_gateway.catalog.work import IntentRow, bury, free_slot
from storage_gateway.erase import Erasure
from storage_gateway.placing import Placer
from storage_gateway.plan import IntentState
from storage_gateway.records import Manifest, Segment
from storage_gateway.settle import Settler

LIFE = "tests.life"
"""In a connection's ``info``: what changes when all that its process had not committed is lost."""

Put = Callable[[object, str, object], None]


def plant(name: str, put: Put = setattr) -> None:
    """Plant the bug of that name."""
    PLANTED_BUGS[name](put)


def _no_folder_sync(put: Put) -> None:
    """A blob's name is not synced: its file is lost with it."""
    put(Disk, "sync_names", lambda _disk, _key: None)


def _no_file_sync(put: Put) -> None:
    """A blob's bytes are not synced: its name is that of an empty or torn file."""
    put(Disk, "sync", lambda _disk, _descriptor: None)


def _no_sync_of_deletions(put: Put) -> None:
    """A removed name is not synced: it is back after the grave was closed."""
    really = Disk._ignoring

    def ignoring(disk: Disk, function: Callable[..., None], path: object) -> bool:
        return function.__name__ == "sync_folder" or really(disk, function, path)  # type: ignore[arg-type]

    put(Disk, "_ignoring", ignoring)


def _commit_before_durable(put: Put) -> None:
    """A segment counts as placed when its sync was asked for, not when it was done."""
    really = LocalSegmentWriter.finish
    under_way: set[asyncio.Task[tuple[str, ...]]] = set()

    async def finish(writer: LocalSegmentWriter) -> tuple[str, ...]:
        under_way.add(asyncio.create_task(really(writer)))
        return ("local",)

    put(LocalSegmentWriter, "finish", finish)


def _answer_before_commit(put: Put) -> None:
    """An answer is released before COMMIT, which comes with the next transaction."""
    really = sqlite._run_batch
    waiting: list[tuple[Unit[Any], object]] = []

    def run_batch(connection: Connection, batch: list[tuple[Unit[Any], Future[Any]]]) -> None:
        life = connection.info.get(LIFE)
        for unit, its_life in waiting:
            if life is its_life:
                really(connection, [(unit, Future())])
        waiting.clear()
        for unit, future in batch:
            transaction = connection.begin()
            try:
                answer = unit(connection)
            except Exception as error:  # noqa: BLE001 - the caller's
                future.set_exception(error)
            else:
                waiting.append((unit, life))
                future.set_result(answer)
            finally:
                transaction.rollback()

    put(sqlite, "_run_batch", run_batch)


def _delete_before_tombstone(put: Put) -> None:
    """Erasing deletes the blobs first, and then says so in the catalog."""
    really = Erasure.erase

    async def erase(erasure: Erasure, object_id: str) -> Manifest:
        manifest = await erasure._catalog.read(lambda c: objects.load_manifest(c, object_id))
        await erasure._settler.delete_payload(manifest.payload_id)
        return await really(erasure, object_id)

    put(Erasure, "erase", erase)


def _no_intent_first(put: Put) -> None:
    """The intent and the row of the first segment are written once its bytes are."""
    next_segment, finish = Placer._next_segment, Placer.finish
    unopened: WeakKeyDictionary[Placer, bool] = WeakKeyDictionary()

    async def open_late(placer: Placer) -> None:
        if unopened.pop(placer, False):
            for leaf in placer._segments[0].leaves:
                if leaf.newest_part is not None:
                    await leaf.newest_part
            await placer._open_segment(0, [])

    async def next_late(placer: Placer, index: int) -> None:
        if index > 0:
            await open_late(placer)
            await next_segment(placer, index)
            return
        opens, unopened[placer] = placer._open_segment, True

        async def open_nothing(_index: int, _placed: Sequence[Segment]) -> None:
            pass

        placer._open_segment = open_nothing
        await next_segment(placer, index)
        placer._open_segment = opens

    async def finish_late(placer: Placer) -> list[Segment]:
        await open_late(placer)
        return await finish(placer)

    put(Placer, "_next_segment", next_late)
    put(Placer, "finish", finish_late)


def _no_segment_row(put: Put) -> None:
    """The row of a later segment is not written, so what it is read by is not either."""

    def without_row(
        connection: Connection,
        owner: Ownership,
        *,
        index: int,
        **placed: Any,  # noqa: ANN401
    ) -> None:
        continue_upload(connection, owner, index=index, **placed)
        key = (segments.c.payload_id == owner.payload_id, segments.c.segment == index)
        connection.execute(delete(segments).where(*key))

    put(write, "continue_upload", without_row)


def _commit_unchecked(put: Put) -> None:
    """The commit takes any intent for its own: a claim does not count, nor its fence."""
    any_intent = delete(intents).where(intents.c.payload_id == bindparam("payload_id_is"))
    put(objects, "_END_INTENT", Statement(any_intent))


def _resurrected_claim(put: Put) -> None:
    """A claim leaves the intent as it is, fence and all, so that its owner can go on with it."""

    def bury_unclaimed(connection: Connection, owner: Ownership) -> None:
        connection.execute(
            sql_update(intents)
            .where(intents.c.payload_id == owner.payload_id)
            .values(state=IntentState.ABORTING.value)
        )
        free_slot(connection, owner.payload_id)
        bury(connection, owner)

    async def claim(settler: Settler, intent: IntentRow) -> None:
        owner = Ownership(intent.payload_id, intent.instance_id, intent.fence)
        await settler.delete_payload(intent.payload_id)
        await settler._catalog.run(lambda c: bury_unclaimed(c, owner))

    put(Settler, "_claim", claim)


def _bury_before_deleting(put: Put) -> None:
    """An upload is called buried while its blobs are still there."""

    async def delete_and_bury(settler: Settler, intent: IntentRow) -> None:
        owner = Ownership(intent.payload_id, intent.instance_id, intent.fence)
        await settler._catalog.run(lambda c: bury(c, owner))
        await settler.delete_payload(intent.payload_id)

    put(Settler, "_delete_and_bury", delete_and_bury)


def _grave_closed_early(put: Put) -> None:
    """A grave is closed as soon as nothing is found, before the horizon has passed."""

    def next_step(*, blobs_found: int, **_times: object) -> ErasureStep:
        return ErasureStep.DELETE if blobs_found else ErasureStep.CLOSE

    put(recovery, "next_erasure_step", next_step)


def _late_write_forgotten(put: Put) -> None:
    """A request whose upload was claimed and buried does not bury what it wrote since."""
    put(settle, "bury_again", lambda *_what: False)


def _quorum_not_waited_for(put: Put) -> None:
    """A segment counts as placed in every store as soon as one of them has it."""
    really = ReplicatedWriter.finish

    async def finish(writer: ReplicatedWriter) -> tuple[str, ...]:
        await really(writer)
        return writer._replicas.names

    put(ReplicatedWriter, "_is_quorum", lambda _writer, members: len(members) > 0)
    put(ReplicatedWriter, "finish", finish)


def _quorum_of_any_size(put: Put) -> None:
    """Whoever has it is enough."""
    put(ReplicatedWriter, "_is_quorum", lambda _writer, members: len(members) > 0)


PLANTED_BUGS: dict[str, Callable[[Put], None]] = {
    "no folder sync": _no_folder_sync,
    "no file sync": _no_file_sync,
    "no sync of deletions": _no_sync_of_deletions,
    "commit before durable": _commit_before_durable,
    "answer before commit": _answer_before_commit,
    "delete before tombstone": _delete_before_tombstone,
    "no intent first": _no_intent_first,
    "no segment row": _no_segment_row,
    "commit unchecked": _commit_unchecked,
    "resurrected claim": _resurrected_claim,
    "bury before deleting": _bury_before_deleting,
    "grave closed early": _grave_closed_early,
    "late write forgotten": _late_write_forgotten,
    "quorum not waited for": _quorum_not_waited_for,
    "quorum of any size": _quorum_of_any_size,
}
