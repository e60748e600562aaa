"""Sealing here, for a reservation of a session whose custody is blind.

What the gateway tells is not taken at its word: the context must be that of the slot that was asked
for, and with a list of recipients at hand nobody else is sealed for.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from crypto import (
    Context,
    ContextError,
    Meta,
    Recipient,
    RecipientError,
    SealedHead,
    new_head,
    parse_context,
    parse_recipient,
)
from storage_gateway.client import Source
from storage_gateway.records import MINER, OUTPUT, Slot
from urn import ObjectName, parse_name


def sealed_head_for(
    reservation: dict[str, Any], slot: Slot, meta: Meta, known: Sequence[Recipient] | None
) -> SealedHead:
    """Return the head of what is sealed for a reservation, and its sealer.

    ``slot`` is where it is to go; the miner of an output may be left out, its token implies it.

    Raises:
        ContextError, RecipientError, URNError: the gateway's answer is not to be sealed for.
        MetaError: the file name is too long.

    """
    context = _context_of(reservation, slot)
    parties = reservation["recipients"]
    recipients = known_only([parse_recipient(party["recipient"]) for party in parties], known)
    return new_head(recipients, context=context, meta=meta)


def known_only(
    recipients: Sequence[Recipient], known: Sequence[Recipient] | None
) -> Sequence[Recipient]:
    """Return the recipients if each of them is known.

    Raises:
        RecipientError: one is not: the gateway may have put a key of its own there.

    """
    strangers = [str(each) for each in recipients if known is not None and each not in known]
    if strangers:
        raise RecipientError(
            f"the gateway names {strangers[0]}, which is not in the list of recipients: ask that"
            " party for its recipient; nothing was sealed for it"
        )
    return recipients


def _context_of(reservation: dict[str, Any], slot: Slot) -> Context:
    try:
        context = parse_context(base64.b64decode(reservation["context"], validate=True))
    except binascii.Error:
        raise ContextError("the reservation's context is not base64") from None
    name = parse_name(reservation["urn"])
    if not isinstance(name, ObjectName):
        raise ContextError("the reservation is no object's name")
    miner = context.miner if slot.direction == OUTPUT and slot.miner is None else slot.miner
    wanted = Slot(slot.session_id, slot.task_id, slot.direction, miner)
    own = wanted.context(name.object_id, reservation["payload_id"], context.key_class)
    writers = [p["miner"] for p in reservation["recipients"] if p["role"] == MINER]
    if context != own or (slot.direction == OUTPUT and writers != [miner]):
        raise ContextError("the reservation is for another upload than the one asked for")
    return context


class SealingSource:
    """A source that is sealed as it is read: the head first, then the payload."""

    def __init__(self, source: Source, sealed: SealedHead) -> None:
        """Take what is to be sealed, and what it is sealed with."""
        self._source = source
        self._sealer = sealed.sealer
        self._ready = sealed.head
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """Return the next sealed bytes, about as many as were asked for, none at the end."""
        while not (self._ready or self._ended):
            piece = self._source.read(size)
            self._ended = not piece
            self._ready = self._sealer.update(piece) if piece else self._sealer.finish()
        ready, self._ready = self._ready, b""
        return ready
