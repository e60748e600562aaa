"""The head of an envelope: header and payload nonce, made and opened.

It makes and checks stanzas, the header MAC and the keys that hang on the file key; it never sees
a payload. Every key of an object is derived here, each under a label of its own.
Source: https://age-encryption.org/v1, sections "Header MAC" and "Payload".
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto import labels
from crypto.context import Context, check_context_shape, context_stanza
from crypto.errors import (
    ClassMismatch,
    ContextMismatch,
    HeaderError,
    HeaderMACError,
    NoIdentityMatch,
)
from crypto.geometry import FILE_KEY_SIZE, NONCE_SIZE
from crypto.header import Header, Stanza, covered_by_mac, end_header, mac_input, parse_header
from crypto.keys import Identity, Recipient, common_class
from crypto.meta import Meta, check_meta_shape, meta_stanza, open_meta
from crypto.opener import Opener
from crypto.primitives import Random, derive, draw, mac
from crypto.sealer import Sealer
from crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class SealedHead:
    """A head just made, and the one sealer of its payload.

    `head` is the header and the 16-byte nonce; `file_key_print` is 32 bytes.
    """

    head: bytes = field(repr=False)
    sealer: Sealer = field(repr=False)
    file_key_print: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenedHead:
    """A head whose MAC was verified under the file key that an identity unwrapped."""

    header: Header
    nonce: bytes = field(repr=False)
    file_key: Secret

    @property
    def file_key_print(self) -> bytes:
        """32 bytes that tell one file key from another and nothing else of it."""
        return print_of(self.file_key)

    @property
    def has_context(self) -> bool:
        """Whether the header holds a context stanza, of whatever object."""
        return self._find(labels.STANZA_CONTEXT) is not None

    def opener(self) -> Opener:
        """Return a new opener of the payload."""
        return Opener(payload_key(self.file_key, self.nonce))

    def check_context(self, context: Context) -> None:
        """Raise ContextMismatch unless the context stanza is that of `context`."""
        stanza = self._find(labels.STANZA_CONTEXT)
        if stanza is None:
            raise ContextMismatch("the header has no context; it was sealed for no object of ours")
        expected = context_stanza(self.file_key, context)
        if not hmac.compare_digest(expected.body, stanza.body):
            raise ContextMismatch("the header is that of another object, party or class")

    def meta(self) -> Meta | None:
        """Return what the meta stanza holds, None without one. Raises MetaError."""
        stanza = self._find(labels.STANZA_META)
        return None if stanza is None else open_meta(self.file_key, stanza)

    def _find(self, kind: str) -> Stanza | None:
        return next((stanza for stanza in self.header.stanzas if stanza.type == kind), None)


def new_head(
    recipients: Sequence[Recipient],
    *,
    context: Context,
    meta: Meta | None = None,
    random: Random = os.urandom,
) -> SealedHead:
    """Return the head of a new object under a fresh file key and nonce.

    Draws 16 bytes of file key, 16 of nonce, 12 for the meta stanza if there is one, then 32 for
    each X25519 recipient, in that order.

    Raises RecipientError without recipients, ClassMismatch when the recipients' classes differ
    from each other or from the context's, MetaError, StanzaLimitError, HeaderSizeError.
    """
    check_class(recipients, context)
    return _new_head(recipients, context, meta, random)


def new_bare_head(
    recipients: Sequence[Recipient],
    *,
    meta: Meta | None = None,
    random: Random = os.urandom,
) -> SealedHead:
    """Return the head of a file that belongs to no object: what a stock tool makes.

    It has no context, so `adopt_head` takes it and `check_context` refuses it. Draws as `new_head`.

    Raises RecipientError without recipients, ClassMismatch when their classes differ, MetaError,
    StanzaLimitError, HeaderSizeError.
    """
    common_class(recipients)
    return _new_head(recipients, None, meta, random)


def open_head(head: bytes, identities: Sequence[Identity]) -> OpenedHead:
    """Return the head, opened by the first identity that opens one of its stanzas.

    Raises HeaderError (also for a faulty stanza of ours, or two of one kind), NoIdentityMatch,
    HeaderMACError.
    """
    header, nonce = split_head(head)
    check_types(header)
    file_key = unwrap(header, identities)
    check_mac(head, header, file_key)
    return OpenedHead(header, nonce, file_key)


def split_head(head: bytes) -> tuple[Header, bytes]:
    """Return the header and the nonce. Raises HeaderError, also when either is incomplete."""
    return parse_header(head[:-NONCE_SIZE]), head[-NONCE_SIZE:]


def check_types(header: Header) -> None:
    """Raise HeaderError for stanzas that may not stand in one header, or have a wrong shape.

    Context and meta stand at most once; scrypt stands alone (age v1, "scrypt recipient stanza").
    """
    types = [stanza.type for stanza in header.stanzas]
    for kind in (labels.STANZA_CONTEXT, labels.STANZA_META):
        if types.count(kind) > 1:
            raise HeaderError(f"the header has more than one {kind} stanza")
    if labels.STANZA_SCRYPT in types and len(types) > 1:
        raise HeaderError("a passphrase stanza stands beside others; age v1 forbids that")
    for stanza in header.stanzas:
        if stanza.type == labels.STANZA_CONTEXT:
            check_context_shape(stanza)
        elif stanza.type == labels.STANZA_META:
            check_meta_shape(stanza)


def unwrap(header: Header, identities: Sequence[Identity]) -> Secret:
    """Return the file key. Raises NoIdentityMatch, HeaderError for a malformed stanza."""
    for identity in identities:
        for stanza in header.stanzas:
            file_key = identity.unwrap(stanza)
            if file_key is not None:
                return file_key
    raise NoIdentityMatch(
        f"none of {len(identities)} identities opens any of {len(header.stanzas)} stanzas; "
        "the object was sealed for others"
    )


def check_mac(head: bytes, header: Header, file_key: Secret) -> None:
    """Raise HeaderMACError unless the MAC is that of the head's very bytes under the file key.

    `header` is what `split_head` made of `head`.
    """
    covered = covered_by_mac(head[:-NONCE_SIZE])
    if not hmac.compare_digest(_header_mac(covered, file_key), header.mac):
        raise HeaderMACError("the header was changed after it was made; read another copy")


def check_class(recipients: Sequence[Recipient], context: Context) -> None:
    """Raise ClassMismatch unless all recipients are of the context's class."""
    key_class = common_class(recipients)
    if key_class != context.key_class:
        raise ClassMismatch(f"{key_class} recipients for a {context.key_class} context")


def build_head(stanzas: Sequence[Stanza], file_key: Secret, nonce: bytes) -> bytes:
    """Return header with its MAC, and nonce. Raises StanzaLimitError, HeaderSizeError."""
    covered = mac_input(tuple(stanzas))
    return end_header(covered, _header_mac(covered, file_key)) + nonce


def payload_key(file_key: Secret, nonce: bytes) -> Secret:
    """Return the key of the payload's chunks."""
    return derive(file_key, labels.PAYLOAD, salt=nonce)


def print_of(file_key: Secret) -> bytes:
    """Return the file key's fingerprint, 32 bytes: one way, and of use for nothing else."""
    return derive(file_key, labels.FILE_KEY_PRINT).expose()


def _new_head(
    recipients: Sequence[Recipient], context: Context | None, meta: Meta | None, random: Random
) -> SealedHead:
    file_key = Secret(draw(random, FILE_KEY_SIZE))
    nonce = draw(random, NONCE_SIZE)
    stanzas = [] if context is None else [context_stanza(file_key, context)]
    if meta is not None:
        stanzas.append(meta_stanza(file_key, meta, random=random))
    stanzas += [recipient.wrap(file_key, random=random) for recipient in recipients]
    head = build_head(stanzas, file_key, nonce)
    return SealedHead(head, Sealer(payload_key(file_key, nonce)), print_of(file_key))


def _header_mac(covered: bytes, file_key: Secret) -> bytes:
    return mac(derive(file_key, labels.HEADER_MAC), covered)
