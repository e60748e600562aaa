"""Noting in the catalog which copies reads found missing or corrupt while another one was right.

A read never waits for it. What cannot be noted is noted when it is found the next time.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict

from urn import mint

from .catalog import Catalog
from .catalog.copies import note_bad
from .errors import GatewayError
from .findings import remedy_of_copy

MARKED_MAX = 1024
"""Copies that are remembered, so that each read of one does not write to the catalog again."""
MARKED_S = 60.0
"""How long: it may have been made again since, and be bad again."""
MARKING_MAX = 16
"""Copies that are being noted at once; one that is over it is found again."""

logger = logging.getLogger(__name__)


class BadCopies:
    """Notes bad copies; `note` is the `OnBad` of `Replicas`."""

    def __init__(self, catalog: Catalog, payloads: str) -> None:
        """``payloads`` is the key prefix of all payloads that the catalog names."""
        self._catalog = catalog
        self._payloads = payloads
        self._marked: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._marking: set[asyncio.Task[None]] = set()

    def note(self, key: str, store: str, kind: type[Exception]) -> None:
        """Note that the copy in a store is bad; returns at once and never fails."""
        payload_id, _, segment = key.removeprefix(self._payloads).partition("/")
        if not segment.isdecimal():
            return  # no segment of a payload that the catalog names
        now_s = time.monotonic()
        marked_s = self._marked.get((key, store), -math.inf)
        if now_s - marked_s < MARKED_S or len(self._marking) >= MARKING_MAX:
            return
        self._marked[key, store] = now_s
        if len(self._marked) > MARKED_MAX:
            self._marked.popitem(last=False)
        task = asyncio.create_task(self._mark(key, store, payload_id, int(segment), kind.__name__))
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._marking)

    async def _mark(self, key: str, store: str, payload_id: str, segment: int, kind: str) -> None:
        told: dict[str, object] = {"store": store, "segment": segment, "key": key, "kind": kind}
        try:
            bad = await self._catalog.run(lambda c: note_bad(c, payload_id, segment, store))
            if bad is not None:
                told |= {"urn": mint(bad.object_id).urn, "copies_left": bad.copies_left}
                told["remedy"] = remedy_of_copy(bad.copies_left)
                logger.warning("copy is bad", extra=told)
        except GatewayError as error:
            self._marked.pop((key, store), None)
            logger.info("bad copy not noted", extra=told | {"code": error.code})
