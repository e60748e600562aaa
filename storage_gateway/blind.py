"""Blind custody: uploads that were sealed elsewhere for a reservation, and heads that the session's
user makes anew. Nothing here opens them; what can be told from outside is checked.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from crypto import SEALED_CHUNK_SIZE, CryptoError, opened_size

from . import errors
from .backends import KeyedStore
from .blind_heads import SealedElsewhere, check_head, check_rewrapped, print_of_payload, refused
from .catalog import Catalog, Unit
from .catalog.blind import (
    Reservation,
    confirm_header,
    end_reservation,
    load_committed,
    load_kept_header,
    load_reservation,
    replace_head,
    require_generation,
    reserve,
    use_reservation,
)
from .catalog.sessions import load_session
from .catalog.wraps import wrap_id_of
from .config import Config
from .drafts import Draft, Payload
from .ids import new_random_id
from .late import Late
from .leaves import chained, cut_leaves, floor_of, split_head
from .memory import Budget
from .producing import passing
from .records import BLIND, Manifest, Party, Session, Slot, TokenKind, Wanted
from .write import AS_SEALED, Body, Uploads

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A manifest, and whom its head would be wrapped for now."""

    manifest: Manifest
    wrap_id: str
    parties: tuple[Party, ...]
    is_pending: bool
    """Whether that is not whom it is wrapped for."""


class BlindCustody:
    """Reservations, uploads for them, and headers, for one gateway process."""

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        uploads: Uploads,
        *,
        memory: Budget,
        store_of: Callable[[Wanted], KeyedStore],
        bring_copy: Callable[[Manifest], Awaitable[None]],
    ) -> None:
        """``memory`` and ``store_of`` are those of ``uploads``; ``bring_copy`` returns once as many
        stores have the manifest's copy as must, also when it was brought before.
        """
        self._catalog = catalog
        self._uploads = uploads
        self._memory = memory
        self._store_of = store_of
        self._reservation_s = config.reservation_s
        self._kept_header_s = config.kept_header_s
        self._bring_copy = bring_copy

    async def reserve(self, slot: Slot) -> Reservation:
        """Make names for an upload into a slot; whoever is there first has the slot.

        Raises:
            NotBlind: the session is of another custody.

        """
        object_id, payload_id = new_random_id(), new_random_id()
        return await self._catalog.run(
            lambda c: reserve(
                c,
                slot,
                object_id=object_id,
                payload_id=payload_id,
                lifetime_s=self._reservation_s,
            )
        )

    async def take_in(
        self,
        reservation: Reservation,
        session: Session,
        body: Body,
        *,
        size: int | None = None,
        late: Late | None = None,
        lifetime_s: int | None = None,
    ) -> Manifest:
        """Take a file that was sealed for a reservation, unopened, and commit it.

        ``size`` is that of the whole file, if it is known; the rest as for `Uploads.seal`.

        Raises:
            EnvelopeRefused: it cannot be such a file.
            ReservationUsed, StaleReservation: the reservation serves no more.
            Busy, RequestError, ServiceError: as `Uploads.seal`.

        """
        draft = replace(self._draft(reservation, session), lifetime_s=lifetime_s)
        try:
            async with self._memory.admit(floor_of(size, SEALED_CHUNK_SIZE)) as memory:
                head, rest = await split_head(body)
                check_head(head, reservation.parties, reservation.key_class)
                if size is not None:
                    opened_size(size - len(head))  # before it is stored, and not at its end
                made = SealedElsewhere(head, print_of_payload(reservation.payload_id))
                parts = cut_leaves(chained(rest, body), AS_SEALED, memory, size=size)
                payload = Payload(parts, passing, lambda: made, memory, late)
                # Before all else: of two attempts under one payload id the one would settle what
                # the other has written.
                await self._catalog.run(lambda c: use_reservation(c, reservation))
                return await self._uploads.take_in(draft, payload)
        except CryptoError as error:
            raise refused(error) from error

    def _draft(self, reservation: Reservation, session: Session) -> Draft:
        return Draft(
            object_id=reservation.object_id,
            payload_id=reservation.payload_id,
            slot=reservation.slot,
            key_class=reservation.key_class,
            parties=reservation.parties,
            wanted=session.wanted,
            store=self._store_of(session.wanted),
            custody=BLIND,
            on_commit=lambda c: end_reservation(c, reservation),
        )

    async def header(self, manifest: Manifest, generation: int | None) -> bytes:
        """Return an object's head, or one that was replaced and is kept.

        Raises:
            Erased: there is none any more.
            NotFound: none of that generation.

        """

        def unit(connection: Connection) -> bytes:
            found = load_committed(connection, manifest.object_id)
            if generation in {None, found.generation} and found.head is not None:
                return found.head
            return load_kept_header(connection, manifest.object_id, generation or 0)

        return await self._catalog.read(unit)

    async def rewrap(
        self, object_id: str, generation: int, head: bytes, wrap_id: str | None
    ) -> Manifest:
        """Put a head in the place of that of a generation, of an object of blind custody; the same
        again changes nothing.

        ``wrap_id`` says whom it is wrapped for, so that nobody's change of keys goes unseen; None:
        whoever is current.

        Raises:
            NotFound, Erased: there is no such object.
            GenerationMismatch: the head is another one by now.
            StaleReservation: ``wrap_id`` is not the current one.
            EnvelopeRefused: it is no rewrap of that head for as many parties.
            CopiesLate: it is there, and not in as many stores as it must be; send it again.

        """
        found = await self._catalog.read(lambda c: _look(c, object_id))
        manifest = found.manifest
        if manifest.generation != generation + 1 or manifest.head != head:
            require_generation(manifest, generation)
            if wrap_id not in {None, found.wrap_id}:
                recipients = [party.recipient for party in found.parties]
                raise errors.StaleReservation("a key of a party has changed", recipients=recipients)
            check_rewrapped(manifest.head or b"", head, found.parties, manifest.key_class)
            manifest = await self._catalog.run(
                lambda c: replace_head(
                    c, found.manifest, head, found.parties, keep_s=self._kept_header_s
                )
            )
            logger.info("header replaced", extra={"object_id": object_id})
        await self._bring_copy(manifest)
        return manifest

    async def confirm(
        self, manifest: Manifest, generation: int, kind: TokenKind, miner: str | None
    ) -> list[Party]:
        """Note that a party opened the head of a generation; return whose word is missing.

        With the last one the heads before it are dropped.

        Raises:
            NotFound, Erased: there is no such object any more.
            GenerationMismatch: the head is another one by now.
            Forbidden: it is not wrapped for that party.

        """
        return await self._catalog.run(
            lambda c: confirm_header(c, manifest, generation, kind.value, miner)
        )


def look_at_reservation(object_id: str, slot: Slot) -> Unit[Reservation]:
    """Return the unit that finds a reservation that an upload into the slot may begin with."""
    return lambda connection: load_reservation(connection, object_id, slot)


def pending_of(connection: Connection, manifest: Manifest) -> Pending:
    """Return whom an object would be wrapped for now; of an erased one, nobody is waited for."""
    session = load_session(connection, manifest.slot.session_id)
    return is_pending(session, manifest)


def is_pending(session: Session, manifest: Manifest) -> Pending:
    """As `pending_of`, of a session at hand."""
    parties = session.at_present(manifest.wrapped_for)
    is_outdated = manifest.head is not None and parties != manifest.wrapped_for
    return Pending(manifest, wrap_id_of(session.session_id, parties), parties, is_outdated)


def _look(connection: Connection, object_id: str) -> Pending:
    return pending_of(connection, load_committed(connection, object_id))
