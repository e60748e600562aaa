"""Rewrap: heads that are wrapped for outdated keys get new ones; payloads are never touched.

Each new head is opened before it is put in the place of the old one, and the old one must be that
of its object: what does not open, or belongs elsewhere, is counted and told, and stays as it is.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from functools import partial

from crypto import CryptoError, Identity, parse_recipient, rewrap

from .catalog import Catalog
from .catalog.jobs import FailureRow, Scope, Step
from .catalog.rewrapping import NewHead, StaleWrap, find_stale, list_wrapped, put_heads
from .keyring import Keyring
from .records import Manifest, Party

logger = logging.getLogger(__name__)

PAGE = 200
"""Heads that are put in one transaction."""


class Rewrap:
    """Wraps heads anew, for one gateway process."""

    repeats = True

    def __init__(self, catalog: Catalog, *, threads: Executor, keyring: Keyring) -> None:
        """Nothing is looked at yet."""
        self._catalog = catalog
        self._threads = threads
        self._keyring = keyring

    async def count(self, scope: Scope) -> dict[str, int]:
        """Return how many heads are to be wrapped anew, by the session."""
        stale = await self._catalog.read(lambda c: list(find_stale(c, scope.session_id)))
        counts: dict[str, int] = {}
        for each in stale:
            counts[each.wrap.session_id] = counts.get(each.wrap.session_id, 0) + each.wrap.heads
        return {name: count for name, count in counts.items() if count}

    async def steps(self, scope: Scope) -> AsyncIterator[Step]:
        """Wrap anew all heads of a session, or of all, that are not for active keys.

        Stopped between two steps it has lost nothing, and begins in front again: what is done is
        not found any more.

        Raises:
            CatalogUnavailable, KeyProviderUnavailable

        """
        for stale in await self._catalog.read(lambda c: list(find_stale(c, scope.session_id))):
            after = ""
            read = partial(list_wrapped, wrap_id=stale.wrap.wrap_id, limit=PAGE)
            ahead = asyncio.create_task(self._catalog.read(partial(read, after=after)))
            try:
                while page := await ahead:
                    after = page[-1].object_id
                    # While this page is wrapped: what it will change the next one does not hold.
                    ahead = asyncio.create_task(self._catalog.read(partial(read, after=after)))
                    yield await self._wrap(stale, page)
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def _wrap(self, stale: StaleWrap, page: Sequence[Manifest]) -> Step:
        wrap = stale.wrap
        identities = await self._keyring.opening_to_rewrap(wrap.parties, stale.wanted)
        made = await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(_made_of, page, _wanted_by_place(stale), identities)
        )
        heads = [each for each in made if isinstance(each, NewHead)]
        failures = tuple(each for each in made if isinstance(each, FailureRow))
        for failure in failures:
            told = {"object_id": failure.object_id, "code": failure.code}
            logger.warning("head not wrapped anew", extra=told)
        done = await self._catalog.run(partial(put_heads, heads=heads)) if heads else 0
        return Step(done, len(heads) - done, failures)


def _wanted_by_place(stale: StaleWrap) -> dict[tuple[str, str | None], Party]:
    return {(party.role, party.miner): party for party in stale.wanted}


def _made_of(
    page: Sequence[Manifest],
    wanted: dict[tuple[str, str | None], Party],
    identities: Sequence[Identity],
) -> list[NewHead | FailureRow]:
    return [_new_head(manifest, wanted, identities) for manifest in page]


def _new_head(
    manifest: Manifest,
    wanted: dict[tuple[str, str | None], Party],
    identities: Sequence[Identity],
) -> NewHead | FailureRow:
    # In the order of the head's own stanzas, which stay where they are.
    places = [(party.role, party.miner) for party in manifest.wrapped_for]
    parties = tuple(wanted[place] for place in places if place in wanted)
    try:
        head = rewrap(
            manifest.head or b"",
            identities,
            current=[parse_recipient(party.recipient) for party in manifest.wrapped_for],
            wanted=[parse_recipient(party.recipient) for party in parties],
            context=manifest.context(),
        )
    except CryptoError as error:
        # Its text holds no bytes of a key or a header: `crypto.errors`.
        return FailureRow(manifest.object_id, "head_refused", f"{type(error).__name__}: {error}")
    return NewHead(manifest, head, parties)
