"""Bugs in what is made of stored bytes, and of their absence, when they are read; see `planted`."""

from collections.abc import Callable

import pytest

from storage_gateway.backends.disk import Disk
from storage_gateway.errors import BackendUnavailable

SHORT_PATIENCE_S = 0.5


def a_miss_tells_more_than_silence(patch: pytest.MonkeyPatch) -> None:
    """What one store lacks is called lost although another one has said nothing."""

    def rank(failure: Exception) -> int:
        return int(isinstance(failure, BackendUnavailable))

    patch.setattr("storage_gateway.backends.replica_reads._rank", rank)


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


READ_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "missing-blob": (
        a_miss_tells_more_than_silence,
        "what is merely out of reach is not called lost",
    ),
    "swapped-payload": (leaves_are_not_checked, "what one store has right is read right"),
    "truncated-blob": (short_reads_are_whole, "what one store has right is read right"),
}
