"""Bugs in how several stores are one, and in what is made of their answers; see `planted`."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from storage_gateway.backends import KeyedStore, replica_reads
from storage_gateway.backends.member import Member
from storage_gateway.backends.replica_reads import ReplicaReads, _Asking
from storage_gateway.backends.replicas import ReplicatedWriter
from storage_gateway.errors import BackendUnavailable, BlobCorrupt, BlobMissing


def quorum_is_claimed(patch: pytest.MonkeyPatch) -> None:
    """A segment counts as placed in every store as soon as a quorum has it."""
    real = ReplicatedWriter.finish

    async def finish(self: ReplicatedWriter) -> tuple[str, ...]:
        await real(self)
        return self._replicas.names

    patch.setattr(ReplicatedWriter, "finish", finish)


def bad_copies_are_final(patch: pytest.MonkeyPatch) -> None:
    """A store that answers something wrong is not replaced by another one."""

    async def first(
        self: ReplicaReads,
        _key: str,
        ask: Callable[[KeyedStore], Any],
        silent: Sequence[Member] = (),
    ) -> Any:  # noqa: ANN401
        return await _Asking(self, ask).run(self._ranked(silent), goes_on=(BackendUnavailable,))

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


STORE_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "backend-flapping": (
        out_of_reach_is_lost,
        "what may be in a store that is gone is not called lost",
    ),
    "backend-outage": (out_of_reach_is_clean, "7"),
    "flipped-bit": (bad_copies_are_final, "what one store has right is read right"),
    "timeout-write": (quorum_is_claimed, "2"),
}
