"""Stale keys told apart, when somebody reads. Pure."""

from collections.abc import Sequence

from .catalog.registry import KeyVersion
from .errors import KeyDisabled, KeyNotYours, StaleKeyReader
from .key_states import KeyState
from .records import ROUTER, Caller, Manifest, Party

OUT_OF_USE = (KeyState.DISABLED, KeyState.DESTROYED)


def check_sealed(
    manifest: Manifest, caller: Caller, keys: Sequence[KeyVersion], held: str | None
) -> None:
    """Make sure that the caller's party can open the sealed file that it asks for.

    ``keys`` are the versions of the party's key; ``held`` is the recipient whose identity the
    caller says to have, if it says so.

    Raises:
        KeyDisabled: the version that the head is wrapped for, or the one held, is out of use.
        StaleKeyReader: the head is wrapped for another version than the one held.
        KeyNotYours: the one held never was a version of the party.

    """
    own = [key for key in keys if (key.role, key.miner) == (caller.kind.value, caller.miner)]
    own = [key for key in own if key.session_id]  # the deployment's router is nobody's party
    wrapped = next((p for p in manifest.wrapped_for if _is_of(p, caller)), None)
    sealed = next((key for key in own if wrapped is not None and key.is_of(wrapped)), None)
    current = _current(own, manifest.key_class)
    if sealed is not None and sealed.state in OUT_OF_USE:
        raise _disabled(sealed, current)
    if held is None:
        return
    mine = next((key for key in own if key.recipient == held), None)
    if mine is None:
        raise KeyNotYours("the party has had no key of that recipient", current_version=current)
    if mine.state in OUT_OF_USE:
        raise _disabled(mine, current)
    if sealed is None or mine.version != sealed.version:
        told = 0 if sealed is None else sealed.version
        raise StaleKeyReader(
            f"version {mine.version} is held, the object is sealed for"
            f" {'no version' if sealed is None else f'version {told}'} of this party's key",
            held_version=mine.version,
            sealed_version=told,
            current_version=current,
        )


def check_opened(manifest: Manifest, keys: Sequence[KeyVersion]) -> None:
    """Make sure that the router may open the object.

    Raises:
        KeyDisabled: the version of its key that the head is wrapped for is out of use.

    """
    own = [key for key in keys if key.role == ROUTER]
    for party in manifest.wrapped_for:
        sealed = next((key for key in own if key.is_of(party)), None)
        if sealed is not None and sealed.state in OUT_OF_USE:
            raise _disabled(sealed, _current(own, manifest.key_class))


def _is_of(party: Party, caller: Caller) -> bool:
    return (party.role, party.miner) == (caller.kind.value, caller.miner)


def _current(keys: Sequence[KeyVersion], key_class: str) -> int:
    """Return the active version's number; 0: there is none."""
    active = (k for k in keys if k.state is KeyState.ACTIVE and k.key_class == key_class)
    return next((key.version for key in active), 0)


def _disabled(key: KeyVersion, current: int) -> KeyDisabled:
    return KeyDisabled(
        f"version {key.version} of the {key.role}'s key is {key.state}",
        sealed_version=key.version,
        current_version=current,
    )
