"""Bugs in what keys are rotated and told apart by; see `planted`."""

from collections.abc import Callable, Sequence

import pytest

from crypto import Identity
from storage_gateway.catalog.rewrapping import NewHead
from storage_gateway.records import Manifest, Party


def heads_stay_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """A job writes down for whom heads are to be, and leaves the heads as they were."""

    def new_head(
        manifest: Manifest,
        wanted: dict[tuple[str, str | None], Party],
        _identities: Sequence[Identity],
    ) -> NewHead:
        parties = (wanted[(party.role, party.miner)] for party in manifest.wrapped_for)
        return NewHead(manifest, manifest.head or b"", tuple(parties))

    patch.setattr("storage_gateway.rewrap._new_head", new_head)


KEY_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "rotation-under-load": (
        heads_stay_as_they_are,
        "each head opens with the identities that its manifest names, and no other one",
    ),
}
