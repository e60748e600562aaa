"""Bugs in how several stores are one, and in what is made of their answers; see `planted`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from storage_gateway.backends import KeyedStore, replica_reads
from storage_gateway.backends.member import Member
from storage_gateway.backends.replica_reads import ReplicaReads, _Asking
from storage_gateway.backends.replicas import ReplicatedWriter
from storage_gateway.catalog.copies import load_placements
from storage_gateway.catalog.objects import record_placed
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing
from storage_gateway.records import Segment


def quorum_is_claimed(patch: pytest.MonkeyPatch) -> None:
    """A segment counts as placed in every store as soon as a quorum has it."""
    real = ReplicatedWriter.finish

    async def finish(self: ReplicatedWriter) -> tuple[str, ...]:
        await real(self)
        return self._replicas.names

    patch.setattr(ReplicatedWriter, "finish", finish)


def bad_copies_are_final(patch: pytest.MonkeyPatch) -> None:
    """A store that answers something wrong is not replaced by another one."""
    _go_on_after(patch, BackendUnavailable)


def denials_are_final(patch: pytest.MonkeyPatch) -> None:
    """A store that says that it has no such blob is not replaced by another one."""
    _go_on_after(patch, BackendUnavailable, BlobCorrupt)


def _go_on_after(patch: pytest.MonkeyPatch, *errors: type[Exception]) -> None:
    async def first(
        self: ReplicaReads,
        key: str,
        ask: Callable[[KeyedStore], Any],
        silent: Sequence[Member] = (),
    ) -> Any:  # noqa: ANN401
        asking = _Asking(self, ask)
        found = await asking.run(self._ranked(silent), goes_on=errors)
        for bad, error in asking.errors:
            if not isinstance(error, BackendUnavailable):
                self._on_bad(key, bad.name, type(error))
        return found

    patch.setattr(ReplicaReads, "_first", first)


def out_of_reach_is_clean(patch: pytest.MonkeyPatch) -> None:
    """What cannot be asked whether anything is left in it counts as clean."""

    def raise_first(outcomes: Sequence[object]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, BackendUnavailable):
                raise outcome

    patch.setattr("storage_gateway.backends.replicas._raise_first", raise_first)


def out_of_reach_is_lost(patch: pytest.MonkeyPatch) -> None:
    """What one store lacks is missing, also while others that may have it are out of reach."""
    worst_first = {BlobMissing: 0, BlobCorrupt: 1, BackendUnavailable: 2}
    patch.setattr(replica_reads, "_rank", lambda failure: worst_first[type(failure)])


def a_beginning_counts_for_all(patch: pytest.MonkeyPatch) -> None:
    """A store that took the first segment of an object is taken to have the others."""

    def record(
        connection: Connection, payload_id: str, placed: Sequence[Segment], wanted: Sequence[str]
    ) -> None:
        began = {n for n, has in load_placements(connection, payload_id).items() if 0 in has}
        began.update(*(segment.stores for segment in placed if segment.index == 0))
        claimed = [replace(s, stores=tuple({*s.stores, *began})) for s in placed]
        record_placed(connection, payload_id, claimed, wanted)

    patch.setattr("storage_gateway.catalog.objects.record_placed", record)


def full_stores_are_fatal(patch: pytest.MonkeyPatch) -> None:
    """A store without space fails the write of all of them."""
    patch.setattr("storage_gateway.backends.replicas.WRITE_ERRORS", (BackendUnavailable,))


STORE_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "backend-flapping": (
        out_of_reach_is_lost,
        "what may be in a store that is gone is not called lost",
    ),
    "backend-full": (full_stores_are_fatal, "one store that is full makes no upload fail"),
    "backend-lies": (
        denials_are_final,
        "what was acknowledged is read right while a store lies",
    ),
    "backend-outage": (out_of_reach_is_clean, "7"),
    "flipped-bit": (bad_copies_are_final, "what one store has right is read right"),
    "partial-replica": (a_beginning_counts_for_all, "what the store lacks is pending there"),
    "timeout-write": (quorum_is_claimed, "2"),
}
