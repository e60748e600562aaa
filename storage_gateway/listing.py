"""What a store has of payloads, a page at a time, told by its keys alone.

A keyed store is listed. A node has no keys: its roots are gone through, in no order, and what the
catalog has not written down is read for the key that it is called by.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

from .backends import BlobInfo, KeyedStore, Member
from .backends.ipfs import IPFSStore
from .backends.pins import Pin
from .catalog.orphans import SeenPayload
from .errors import BackendUnavailable
from .roots import ROOT

PAYLOADS_IN_PAGE = 200
BLOBS_IN_PAGE = 2000
"""A page ends with the payload that these come with."""

_BLOB = re.compile(rf"([a-z2-7]{{32}})/(?:0|[1-9][0-9]{{0,8}}|{ROOT})", re.ASCII)


@dataclass(slots=True)
class Page:
    """Payloads in the order of their ids, each with all that the store has of it."""

    seen: list[SeenPayload] = field(default_factory=list)
    blobs: int = 0
    strange: int = 0
    """Keys that are no blob of a payload: nothing of ours wrote them."""
    example: str = ""
    """One of them."""
    others: int = 0
    """Payloads besides, that are known to be named."""
    ended: bool = False
    """It is the last one: there is nothing behind it."""

    @property
    def last(self) -> str:
        """The id of the last payload; empty where there is none."""
        return self.seen[-1].payload_id if self.seen else ""

    def add(self, payload_id: str, size: int) -> None:
        """Count a blob."""
        self.blobs += 1
        if payload_id != self.last:
            self.seen.append(SeenPayload(payload_id, 1, size))
            return
        before = self.seen[-1]
        self.seen[-1] = SeenPayload(payload_id, before.blobs + 1, before.bytes + size)


def payload_of(key: str, payloads: str) -> str | None:
    """Return whose blob a key is; None for one that we would not have written."""
    found = _BLOB.fullmatch(key.removeprefix(payloads)) if key.startswith(payloads) else None
    return None if found is None else found[1]


async def payload_pages(
    store: KeyedStore, payloads: str, *, after: str = ""
) -> AsyncGenerator[Page]:
    """Yield all that lies in a store below ``payloads``, behind a payload id.

    Raises:
        BackendUnavailable: also where the store does not list in order.

    """
    # "0" follows "/": behind all blobs of that payload.
    start = f"{payloads}{after}0" if after else ""
    page, last = Page(), after
    listed = cast("AsyncGenerator[BlobInfo]", store.list(payloads, after=start))
    async with aclosing(listed) as blobs:
        async for blob in blobs:
            payload_id = payload_of(blob.key, payloads)
            if payload_id is None:
                page.strange += 1
                page.example = page.example or blob.key
                continue
            if payload_id < last:
                raise BackendUnavailable(f"store {store.name} does not list in order")
            is_full = len(page.seen) >= PAYLOADS_IN_PAGE or page.blobs >= BLOBS_IN_PAGE
            if is_full and payload_id != last:
                yield page
                page = Page()
            page.add(payload_id, blob.size)
            last = payload_id
    page.ended = True
    yield page


@dataclass(slots=True)
class Found:
    """What a store has of a payload, to be removed blob by blob."""

    payload_id: str
    sizes: list[int] = field(default_factory=list)
    removals: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


class Holding(Protocol):
    """The payloads of one store. Errors are those of the stores."""

    def pages(self, after: str) -> AsyncGenerator[Page]:
        """Yield all that lies in it behind a payload id, in the order of the ids.

        A page that has nothing and is not the last one says that it takes longer.
        """

    def find(self, payload_ids: Collection[str]) -> AsyncGenerator[Found | None]:
        """Yield what it has now of each of the payloads; None says that it takes longer."""


class KeyedHolding:
    """Of a store with names; see `Holding`."""

    def __init__(self, store: KeyedStore, payloads: str) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``."""
        self._store = store
        self._payloads = payloads

    def pages(self, after: str) -> AsyncGenerator[Page]:
        """Yield all that lies in it; see the protocol."""
        return payload_pages(self._store, self._payloads, after=after)

    async def find(self, payload_ids: Collection[str]) -> AsyncGenerator[Found | None]:
        """List the folder of each; see the protocol. What we would not have written is left out."""
        for payload_id in payload_ids:
            found = Found(payload_id)
            async for blob in self._store.list(f"{self._payloads}{payload_id}/"):
                if payload_of(blob.key, self._payloads) == payload_id:
                    found.sizes.append(blob.size)
                    found.removals.append(partial(self._store.delete, blob.key))
            yield found


class NodeHolding:
    """Of an IPFS node; see `Holding`. What is not written down of it is in memory at once."""

    def __init__(self, node: IPFSStore, payloads: str) -> None:
        """``payloads`` is the key prefix of all payloads, ending in ``/``."""
        self._node = node
        self._payloads = payloads

    async def pages(self, after: str) -> AsyncGenerator[Page]:
        """Yield what nobody has written down, and count the rest; see the protocol."""
        strays: dict[str, SeenPayload] = {}
        strange = Page()
        async for part in self._node.strays(self._payloads):
            # Each payload has one first segment. Who goes on has counted them before.
            yield Page(others=0 if after else sum(key.endswith("/0") for key in part.known))
            for pin in part.pins:
                payload_id = payload_of(pin.key, self._payloads)
                if payload_id is None:
                    strange.strange += 1
                    strange.example = pin.key
                elif payload_id > after:
                    before = strays.get(payload_id, SeenPayload(payload_id, 0, 0))
                    size = before.bytes + _size_of(pin)
                    strays[payload_id] = SeenPayload(payload_id, before.blobs + 1, size)
        if not after:
            yield strange
        ids = sorted(strays)
        for start in range(0, len(ids), PAYLOADS_IN_PAGE):
            yield Page(seen=[strays[each] for each in ids[start : start + PAYLOADS_IN_PAGE]])
        yield Page(ended=True)

    async def find(self, payload_ids: Collection[str]) -> AsyncGenerator[Found | None]:
        """Go through all roots once, for all payloads; see the protocol."""
        found = {payload_id: Found(payload_id) for payload_id in payload_ids}
        async for part in self._node.strays(self._payloads):
            for pin in part.pins:
                payload_id = payload_of(pin.key, self._payloads)
                if payload_id in found:
                    found[payload_id].sizes.append(_size_of(pin))
                    found[payload_id].removals.append(partial(self._node.drop, pin))
            yield None
        for each in found.values():
            yield each


def holding_of(member: Member, payloads: str) -> Holding:
    """Return the payloads of one of the stores."""
    if isinstance(member.bare, IPFSStore):
        return NodeHolding(member.bare, payloads)
    return KeyedHolding(member.store, payloads)


def _size_of(pin: Pin) -> int:
    """Return how much a root keeps that no other one of its payload does."""
    return 0 if pin.key.endswith(f"/{ROOT}") else pin.size
