"""What a store has of payloads, a page at a time, told by its keys alone."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

from .backends import BlobInfo, KeyedStore
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
