"""New heads for old payloads: another set of recipients, or a file that a stock tool sealed.

File key and nonce stay, so the payload does; it is never seen here. Who could open before and
kept the file key or the plaintext can still read: a leaked key needs a reseal, not a rewrap.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto.context import Context, context_stanza
from crypto.errors import (
    ClassMismatch,
    ContextMismatch,
    CryptoError,
    HeaderError,
    NoIdentityMatch,
    SelfCheckError,
)
from crypto.head import (
    OpenedHead,
    build_head,
    check_class,
    check_mac,
    check_types,
    open_head,
    print_of,
    split_head,
    unwrap,
)
from crypto.header import Header, Stanza, stanza_class
from crypto.keys import Identity, Recipient, common_class
from crypto.labels import STANZA_META
from crypto.meta import Meta, meta_stanza
from crypto.opener import Opener
from crypto.primitives import Random
from crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class AdoptedHead:
    """A head made anew for a file that a stock tool sealed, and the opener of its payload.

    `file_key_print` is to be looked up: a file key seen before is to be refused. `meta` is what
    the head holds now.
    """

    head: bytes = field(repr=False)
    opener: Opener = field(repr=False)
    file_key_print: bytes = field(repr=False)
    meta: Meta | None


def adopt_head(
    head: bytes,
    identity: Identity,
    recipients: Sequence[Recipient],
    *,
    context: Context,
    meta: Meta | None = None,
    random: Random = os.urandom,
) -> AdoptedHead:
    """Return a head of ours for a file that somebody sealed to `identity`.

    File key and nonce stay. Of its stanzas only its own meta stanza stays, byte for byte; without
    one, `meta` is sealed. Whoever else could open the file cannot open the new head.

    Raises all that `open_head` and `new_head` do, ContextMismatch when the file has a context
    already, ClassMismatch for a stanza of another class than the context's.
    """
    check_class(recipients, context)
    # What was once wrapped by the weaker class stays as weak as that, whatever head it gets.
    _check_one_class(split_head(head)[0].stanzas, context.key_class)
    opened = open_head(head, [identity])
    if opened.has_context:
        raise ContextMismatch("the file was sealed for another object already; seal it anew")
    kept = [stanza for stanza in opened.header.stanzas if stanza.type == STANZA_META]
    own_meta = opened.meta()
    file_key = opened.file_key
    if own_meta is None and meta is not None:
        kept = [meta_stanza(file_key, meta, random=random)]
    wrapped = [recipient.wrap(file_key, random=random) for recipient in recipients]
    stanzas = [context_stanza(file_key, context), *kept, *wrapped]
    adopted = _checked(stanzas, opened, [identity], recipients)
    return AdoptedHead(adopted, opened.opener(), print_of(file_key), own_meta or meta)


def rewrap(
    head: bytes,
    identities: Sequence[Identity],
    *,
    current: Sequence[Recipient],
    wanted: Sequence[Recipient],
    context: Context | None = None,
    random: Random = os.urandom,
) -> bytes:
    """Return a head that the `wanted` recipients open, with the same file key and nonce.

    `current[i]` is the recipient of the i-th recipient stanza. Foreign stanzas come first, in
    their order, then one stanza for each wanted recipient, in theirs; those of recipients that
    stay are copied byte for byte, as the foreign ones are. Draws 32 bytes for each new X25519
    recipient. An identity of a current recipient must open the stanza at its place. The result was
    opened again, with an identity if one of them is wanted. With `context` the head must be that of
    its object.

    Raises ContextMismatch, and all that `open_head` does, HeaderError when `current` does not fit
    the stanzas, ClassMismatch, StanzaLimitError, HeaderSizeError, SelfCheckError.
    """
    header, nonce = split_head(head)
    check_types(header)
    stanzas = header.stanzas
    held = _recipient_stanzas(header)
    # The curve is most of what a rewrap costs: other places are tried where something is amiss.
    found = _unwrap_own(identities, current, held)
    fits = bool(found) and None not in found
    file_key = (found[0] if fits else None) or unwrap(header, identities)
    check_mac(head, header, file_key)
    opened = OpenedHead(header, nonce, file_key)
    if context is not None:
        opened.check_context(context)
    _check_one_class(stanzas, common_class(wanted))
    if len(held) != len(current):
        raise HeaderError(
            f"the header has {len(held)} recipient stanzas for {len(current)} current recipients"
        )
    for recipient, stanza in zip(current, held, strict=True):
        recipient.check_stanza(stanza)
    if not fits:
        _check_own_places(current, held, identities)
    foreign = [stanza for stanza in stanzas if stanza_class(stanza) is None]
    spliced = _splice(list(zip(current, held, strict=True)), wanted, file_key, random)
    return _checked([*foreign, *spliced], opened, identities, wanted)


def _recipient_stanzas(header: Header) -> list[Stanza]:
    return [stanza for stanza in header.stanzas if stanza_class(stanza) is not None]


def _unwrap_own(
    identities: Sequence[Identity], recipients: Sequence[Recipient], held: Sequence[Stanza]
) -> list[Secret | None]:
    """Return what the identities find at the places of their own recipients, None where it is for
    somebody else.
    """
    return [
        identity.unwrap(stanza)
        for identity in identities
        for recipient, stanza in zip(recipients, held, strict=False)
        if recipient == identity.recipient()
    ]


def _check_own_places(
    current: Sequence[Recipient], held: Sequence[Stanza], identities: Sequence[Identity]
) -> None:
    """Raise HeaderError where an identity at hand shows that `current` is not what is held."""
    for identity in identities:
        own = identity.recipient()
        for number, (recipient, stanza) in enumerate(zip(current, held, strict=True), start=1):
            if (recipient == own) != (identity.unwrap(stanza) is not None):
                raise HeaderError(
                    f"recipient stanza {number} is not that of current recipient {number}"
                )


def _splice(
    held: list[tuple[Recipient, Stanza]],
    wanted: Sequence[Recipient],
    file_key: Secret,
    random: Random,
) -> list[Stanza]:
    """Return a stanza for each wanted recipient: the one it has, else a new one."""
    stanzas: list[Stanza] = []
    for recipient in wanted:
        found = next((pair for pair in held if pair[0] == recipient), None)
        if found is None:
            stanzas.append(recipient.wrap(file_key, random=random))
        else:
            held.remove(found)
            stanzas.append(found[1])
    return stanzas


def _checked(
    stanzas: list[Stanza],
    source: OpenedHead,
    identities: Sequence[Identity],
    wanted: Sequence[Recipient],
) -> bytes:
    """Return the new head after it opened as a reader would open it.

    Without an identity among the wanted only the file key at hand can show that it is whole.
    """
    head = build_head(stanzas, source.file_key, source.nonce)
    try:
        header, _ = split_head(head)
        found = _unwrap_own(identities, wanted, _recipient_stanzas(header))
        for file_key in found or [source.file_key]:
            if file_key is None:
                raise NoIdentityMatch("a stanza of the new head is for somebody else")
            # Under a wrong file key the MAC, which was made under the right one, does not fit.
            check_mac(head, header, file_key)
    except CryptoError as error:
        raise SelfCheckError("the new head does not open; the old one stays valid") from error
    return head


def _check_one_class(stanzas: Sequence[Stanza], key_class: str) -> None:
    for number, stanza in enumerate(stanzas, start=1):
        if stanza_class(stanza) not in {None, key_class}:
            raise ClassMismatch(
                f"stanza {number} is {stanza_class(stanza)}, the object is {key_class}; "
                "seal it for recipients of one class"
            )
