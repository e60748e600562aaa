"""What can be told of a head without any identity: type, count, class, size, and what stays equal.

Pure. Whether a stanza opens, for whom, and whether the context is the one that was reserved, nobody
can tell who does not hold the file key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto import (
    NONCE_SIZE,
    STANZA_CONTEXT,
    STANZA_META,
    CryptoError,
    Header,
    HeaderSizeError,
    PayloadError,
    Stanza,
    StanzaLimitError,
    check_types,
    parse_header,
    parse_recipient,
    stanza_class,
)

from . import errors
from .records import Party
from .refusals import refusal_of

_PRINT_LABEL = b"storage-gateway/blind-print-v1"


@dataclass(frozen=True, slots=True)
class SealedElsewhere:
    """A head that came as it is, and what stands for the print of its file key."""

    head: bytes = field(repr=False)
    file_key_print: bytes = field(repr=False)


def print_of_payload(payload_id: str) -> bytes:
    """Return 32 bytes in the place of a file key's print: no two payloads have the same.

    The file key itself is not known here, so that its second use cannot be.
    """
    return hashlib.sha256(_PRINT_LABEL + payload_id.encode("ascii")).digest()


def refused(error: CryptoError) -> errors.EnvelopeRefused:
    """Return what a file that was sealed elsewhere is refused with: no router is spoken of."""
    if isinstance(error, (HeaderSizeError, StanzaLimitError, PayloadError)):
        return refusal_of(error)
    return errors.HeaderMismatch(str(error))


def check_head(head: bytes, parties: Sequence[Party], key_class: str) -> None:
    """Refuse what cannot be a head of an object of ours for these parties, in their order.

    Raises:
        EnvelopeRefused: its format, its limits, its class, its stanzas.

    """
    _split(_parse(head), parties, key_class)


def check_rewrapped(before: bytes, after: bytes, parties: Sequence[Party], key_class: str) -> None:
    """Refuse what is no rewrap of ``before``: as `check_head`, and all that must stay has stayed.

    Raises:
        EnvelopeRefused: it is none.

    """
    old = [stanza for stanza in _parse(before).stanzas if stanza_class(stanza) is None]
    new = _split(_parse(after), parties, key_class)
    if after[-NONCE_SIZE:] != before[-NONCE_SIZE:]:
        raise errors.HeaderMismatch("the nonce is not that of the header before")
    if [_words(stanza) for stanza in new] != [_words(stanza) for stanza in old]:
        raise errors.HeaderMismatch(
            "a stanza that is no recipient's is not as it was, or not there"
        )


def _words(stanza: Stanza) -> tuple[str, tuple[str, ...], bytes]:
    return stanza.type, stanza.args, stanza.body


def _parse(head: bytes) -> Header:
    try:
        header = parse_header(head[:-NONCE_SIZE])
        check_types(header)
    except CryptoError as error:
        raise refused(error) from error
    return header


def _split(header: Header, parties: Sequence[Party], key_class: str) -> Sequence[Stanza]:
    """Check all stanzas of a header; return those that are no recipient's, which come first."""
    classes = [stanza_class(stanza) for stanza in header.stanzas]
    count = sum(found is not None for found in classes)
    if any(found not in {None, key_class} for found in classes):
        raise errors.WrongClass(f"a stanza is not of class {key_class}, as the session is")
    if count != len(parties):
        raise errors.HeaderMismatch(f"{count} recipient stanzas for {len(parties)} parties")
    foreign = header.stanzas[: len(classes) - count]
    wrapped = header.stanzas[len(foreign) :]
    kinds = [stanza.type for stanza in foreign]
    if kinds not in ([STANZA_CONTEXT], [STANZA_CONTEXT, STANZA_META]):
        raise errors.HeaderMismatch(
            "before the recipients' stanzas must stand the context, then meta or nothing"
        )
    for party, stanza in zip(parties, wrapped, strict=True):
        try:
            parse_recipient(party.recipient).check_stanza(stanza)
        except CryptoError as error:
            raise errors.HeaderMismatch(str(error)) from error
    return foreign
