"""Reseal: objects get new file keys, as they must when one may have leaked, or a key was of a class
that is not trusted any more.

All of the content is opened and sealed anew, under a new payload id: names that pin the old payload
are superseded, and the old payload is deleted once those who read it had the time to end.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from crypto import CryptoError, open_head

from .backends import KeyedStore
from .catalog import Catalog
from .catalog.jobs import FailureRow, Scope, Step
from .catalog.objects import load_manifest
from .catalog.resealing import Place, count_to_reseal, list_to_reseal
from .catalog.sessions import load_session
from .drafts import Draft
from .errors import (
    Busy,
    CatalogUnavailable,
    GatewayError,
    KeyProviderUnavailable,
    NotFound,
    ObjectChanged,
)
from .ids import new_random_id
from .keyring import Keyring
from .raising import fresh
from .read import Reads
from .records import Manifest, Wanted
from .write import Uploads

logger = logging.getLogger(__name__)

PAGE = 16
AT_ONCE = 4
"""Objects that are resealed at once."""
TRIES_MAX = 5
"""So often an object may get another head while it is resealed."""
WAITS = (Busy, CatalogUnavailable, KeyProviderUnavailable)
"""What is no fault of an object: the job tries again."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    done: int = 0
    changed: int = 0
    failure: FailureRow | None = None


class Reseal:
    """Reseals objects, for one gateway process."""

    repeats = False

    def __init__(
        self,
        catalog: Catalog,
        *,
        reads: Reads,
        uploads: Uploads,
        keyring: Keyring,
        store_of: Callable[[Wanted], KeyedStore],
        grace_s: float,
    ) -> None:
        """``store_of`` is `WantedStores.for_writes`; ``grace_s`` is how long what was
        superseded may be read.
        """
        self._catalog = catalog
        self._reads = reads
        self._uploads = uploads
        self._keyring = keyring
        self._store_of = store_of
        self._grace_s = grace_s
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def count(self, scope: Scope) -> dict[str, int]:
        """Return how many objects there are to reseal, by the session."""
        return await self._catalog.read(
            partial(
                count_to_reseal,
                session_id=scope.session_id,
                before_ms=scope.before_ms,
                after=_place_of(scope.position),
            )
        )

    async def steps(self, scope: Scope) -> AsyncIterator[Step]:
        """Reseal what was committed before the job began, in the order of commits.

        Raises:
            CatalogUnavailable, KeyProviderUnavailable, Busy

        """
        after = _place_of(scope.position)
        read = partial(
            list_to_reseal, session_id=scope.session_id, before_ms=scope.before_ms, limit=PAGE
        )
        while page := await self._catalog.read(partial(read, after=after)):
            step = await self.reseal_all(page)
            after = Place(page[-1].slot.session_id, page[-1].sequence)
            yield replace(step, position=f"{after.session_id}~{after.sequence}")

    async def reseal_all(self, page: Sequence[Manifest]) -> Step:
        """Reseal these, some at once.

        Raises:
            CatalogUnavailable, KeyProviderUnavailable, Busy: once all have ended.

        """
        tried = await asyncio.gather(
            *(self._reseal_in_turn(each) for each in page), return_exceptions=True
        )
        outcomes = list(_raised(tried))
        return Step(
            done=sum(outcome.done for outcome in outcomes),
            changed=sum(outcome.changed for outcome in outcomes),
            failures=tuple(o.failure for o in outcomes if o.failure is not None),
        )

    async def _reseal_in_turn(self, manifest: Manifest) -> _Outcome:
        async with self._at_once:
            try:
                is_done = await self._reseal_as_it_is(manifest)
            except WAITS:
                raise
            except NotFound:
                return _Outcome(changed=1)
            except (GatewayError, CryptoError) as error:
                code = error.code if isinstance(error, GatewayError) else "head_refused"
                told = {"object_id": manifest.object_id, "code": code}
                logger.warning("object not resealed", extra=told)
                return _Outcome(failure=FailureRow(manifest.object_id, code, str(error)))
            return _Outcome(done=1) if is_done else _Outcome(changed=1)

    async def _reseal_as_it_is(self, manifest: Manifest) -> bool:
        """Reseal an object, also if it gets another head meanwhile; False if it has been erased, or
        has another payload already.
        """
        for tried in range(TRIES_MAX):
            try:
                await self.reseal(manifest)
            except ObjectChanged:
                now = await self._catalog.read(partial(load_manifest, object_id=manifest.object_id))
                if now.head is None or now.payload_id != manifest.payload_id:
                    return False
                if tried == TRIES_MAX - 1:
                    raise
                manifest = now
            else:
                return True
        return False

    async def reseal(self, manifest: Manifest) -> Manifest:
        """Give one object a new file key and payload.

        Raises:
            ObjectChanged: it changed meanwhile, and is as it is now.
            CryptoError: its head does not open, or is none of its own.
            GatewayError

        """
        session_id = manifest.slot.session_id
        session = await self._catalog.read(lambda c: load_session(c, session_id))
        opened = open_head(manifest.head or b"", self._keyring.opening())
        opened.check_context(manifest.context())
        meta = opened.meta()
        body = self._reads.plaintext(manifest.object_id)
        async with aclosing(body):
            draft = Draft(
                object_id=manifest.object_id,
                payload_id=new_random_id(),
                slot=manifest.slot,
                key_class=session.key_class,
                parties=session.at_present(manifest.wrapped_for),
                wanted=session.wanted,
                store=self._store_of(session.wanted),
                replaces=manifest,
                grace_s=self._grace_s,
            )
            return await self._uploads.seal_draft(
                draft, _as_bytes(body), meta, size=manifest.size, late=None
            )


def _raised(tried: Sequence[_Outcome | BaseException]) -> Iterator[_Outcome]:
    """Yield what came of each; raise what was no object's fault, once all have ended."""
    for each in tried:
        if isinstance(each, BaseException):
            raise fresh(each)
        yield each


async def _as_bytes(body: AsyncIterator[bytes | bytearray]) -> AsyncGenerator[bytes]:
    async for piece in body:
        yield bytes(piece)


def _place_of(position: str) -> Place:
    session_id, _, sequence = position.rpartition("~")
    return Place(session_id, int(sequence)) if sequence else Place()
