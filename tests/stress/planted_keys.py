"""Bugs in what keys are rotated and told apart by; see `planted`."""

# ruff: noqa: ANN401 - arguments of the real code are passed on

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crypto import CryptoError, Identity, rewrap
from storage_gateway.api import object_handlers
from storage_gateway.catalog.graves import dig_grave
from storage_gateway.catalog.registry import KeyVersion
from storage_gateway.catalog.rewrapping import NewHead
from storage_gateway.errors import StaleKeyReader
from storage_gateway.intake import Intake
from storage_gateway.keyring import Keyring
from storage_gateway.records import Caller, Manifest, Party
from storage_gateway.stale import check_sealed


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


def who_is_ahead_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """A reader that holds a newer version than the object is sealed for counts as a right one."""

    def check(
        manifest: Manifest, caller: Caller, keys: Sequence[KeyVersion], held: str | None
    ) -> None:
        try:
            check_sealed(manifest, caller, keys, held)
        except StaleKeyReader as error:
            told = error.extensions
            if int(str(told["held_version"])) < int(str(told["sealed_version"])):
                raise

    patch.setattr(object_handlers, "check_sealed", check)


def nothing_depends_on_keys(patch: pytest.MonkeyPatch) -> None:
    """A version is destroyed, whatever is wrapped for it."""
    patch.setattr("storage_gateway.catalog.registry.dependents_of", lambda *_: 0)


def former_keys_are_taken_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What is sealed to any version that the router ever had is taken."""
    patch.setattr(Intake, "_require_fresh", lambda *_arguments: None)


def what_does_not_open_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    """A head that cannot be wrapped anew is put down as wrapped anew, as it is."""

    def wrapped(head: bytes, *args: Any, **kwargs: Any) -> bytes:
        try:
            return rewrap(head, *args, **kwargs)
        except CryptoError:
            return head

    patch.setattr("storage_gateway.rewrap.rewrap", wrapped)


def what_is_superseded_goes_at_once(patch: pytest.MonkeyPatch) -> None:
    """A payload that another one took the place of is deleted, whoever reads it."""

    def dig(*args: Any, doomed_s: float) -> None:
        del doomed_s
        dig_grave(*args)

    patch.setattr("storage_gateway.catalog.resealing.dig_grave", dig)


def keys_count_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What the provider told once is sealed to and opened with, however old it is."""
    patch.setattr(Keyring, "_require", lambda *_arguments: None)


def jobs_die_with_their_process(patch: pytest.MonkeyPatch) -> None:
    """A job whose process is dead is nobody's."""
    patch.setattr("storage_gateway.jobs.list_abandoned", lambda _connection: [])


KEY_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "crash-in-rotation": (jobs_die_with_their_process, "jobs are taken up, and end"),
    "disabled-key": (
        nothing_depends_on_keys,
        "no version is destroyed that something is wrapped for",
    ),
    "key-provider-down": (
        keys_count_for_ever,
        "who seals and opens is answered as the age of the keys allows",
    ),
    "poisoned-header": (
        what_does_not_open_counts_as_done,
        "the job ends, and counts and lists the heads that are poisoned, and no other",
    ),
    "reseal-under-load": (
        what_is_superseded_goes_at_once,
        "what is being read is read to its end",
    ),
    "rotation-under-load": (
        heads_stay_as_they_are,
        "each head opens with the identities that its manifest names, and no other one",
    ),
    "stale-key-reader": (
        who_is_ahead_is_not_told,
        "who holds another version is told which is needed",
    ),
    "stale-key-writer": (
        former_keys_are_taken_for_ever,
        "what is sealed to a version whose time is over is refused",
    ),
}
