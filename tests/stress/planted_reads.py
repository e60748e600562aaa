"""Bugs in what is made of stored bytes, and of their absence, when they are read; see `planted`."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from sqlalchemy import Connection

from crypto import OpenedHead
from storage_gateway.backends import Check, Range
from storage_gateway.backends.disk import Disk
from storage_gateway.backends.replica_reads import READ_ERRORS, ReplicaReads
from storage_gateway.catalog import Unit
from storage_gateway.errors import BlobMissing, NotFound
from storage_gateway.read import Loaded, Reads

SHORT_PATIENCE_S = 2.0


def a_miss_is_final(patch: pytest.MonkeyPatch) -> None:
    """What the store that is asked first does not have is missing."""
    others = tuple(error for error in READ_ERRORS if error is not BlobMissing)
    patch.setattr("storage_gateway.backends.replica_reads.READ_ERRORS", others)


def short_reads_are_whole(patch: pytest.MonkeyPatch) -> None:
    """What a blob has of a range is answered as the range."""

    def read(self: Disk, key: str, offset: int, size: int) -> bytes:
        return self._reading(key, self._fs.read_at, self._path(key), offset, size)

    patch.setattr(Disk, "read", read)
    # Who is sent too little waits for the rest.
    patch.setattr("storage_gateway.stress.load.REQUEST_S_MAX", SHORT_PATIENCE_S)


def leaves_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A leaf of the right size goes out in a sealed file, whatever its tag."""
    patch.setattr("storage_gateway.read.check_leaf", lambda _key, _position, _sealed, _tag: None)


def contexts_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A head that opens is taken for the object's own."""
    patch.setattr(OpenedHead, "check_context", lambda _head, _context: None)


def one_store_serves_a_run(patch: pytest.MonkeyPatch) -> None:
    """Leaves that are read in one go all come from the same store."""

    async def fetch(
        self: ReplicaReads, ranges: Sequence[Range], check: Check[Any], threads: Executor
    ) -> list[Any]:
        return await self._first(ranges[0].key, lambda s: s.fetch(ranges, check, threads))

    patch.setattr(ReplicaReads, "fetch", fetch)


def unknown_names_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """A gateway that was asked for a name that nothing is behind yet stays with its answer."""
    real = Reads.look
    unknown: WeakKeyDictionary[Reads, set[str]] = WeakKeyDictionary()

    def look(self: Reads, object_id: str) -> Unit[Loaded]:
        unit, known_not = real(self, object_id), unknown.setdefault(self, set())

        def remembering(connection: Connection) -> Loaded:
            try:
                found = unit(connection)
            except NotFound:
                known_not.add(object_id)
                raise
            if object_id in known_not:
                raise NotFound("no such object")
            return found

        return remembering

    patch.setattr(Reads, "look", look)


READ_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "missing-blob": (a_miss_is_final, "what one store has right is read right"),
    "replica-disagreement": (
        one_store_serves_a_run,
        "what no store has whole is read right from all of them together",
    ),
    "result-before-object": (unknown_names_are_remembered, "2"),
    "swapped-header": (contexts_are_not_checked, "8"),
    "swapped-payload": (leaves_are_not_checked, "what one store has right is read right"),
    "truncated-blob": (short_reads_are_whole, "what one store has right is read right"),
}
