"""What a content-addressed store keeps under a key: it has no names of its own."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from urn import CID


@dataclass(frozen=True, slots=True)
class Pin:
    """A blob, and the root that keeps it in the node."""

    key: str
    root: CID
    size: int
    leaves: tuple[bytes, ...]
    """The SHA-256 of each leaf, in order; none of a root above what lies under other keys."""


class Pins(Protocol):
    """Where pins are written down, durably, before the node is asked for them.

    A pin stays until its payload is forgotten, also when it was removed from the node: what was on
    its way may come late, and is found only by what is written here.
    """

    async def intend(self, pin: Pin) -> None:
        """Write a pin down; again is the same.

        Raises:
            BackendUnavailable: nothing will ever remove it, or there is another one under its key.

        """

    async def find(self, key: str) -> Pin | None:
        """Return what was intended for a key."""

    async def known(self, roots: Collection[str]) -> Mapping[str, str]:
        """Return the keys of those of the roots, as base32, that are written down."""

    def below(self, prefix: str) -> AsyncIterator[Pin]:
        """Yield all whose keys start with a prefix, in their order."""


class NoPins:
    """Of a deployment that has not begun: a store can be tried, and there is nothing in it."""

    async def intend(self, pin: Pin) -> None:
        """Refuse; see the protocol."""
        raise RuntimeError(f"no deployment keeps {pin.key}")

    async def find(self, key: str) -> Pin | None:  # noqa: ARG002 - there is none
        """Return nothing; see the protocol."""
        return None

    async def known(self, roots: Collection[str]) -> Mapping[str, str]:  # noqa: ARG002
        """Return nothing; see the protocol."""
        return {}

    async def below(self, prefix: str) -> AsyncIterator[Pin]:  # noqa: ARG002
        """Yield nothing; see the protocol."""
        nothing: tuple[Pin, ...] = ()
        for pin in nothing:
            yield pin
