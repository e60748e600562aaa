"""Sealing and opening in one call, for what fits in memory.

Everything larger streams through `Sealer` and `Opener`. A whole file is the head followed by the
payload, and is an age v1 file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from crypto.context import Context
from crypto.errors import HeaderError
from crypto.geometry import SEALED_CHUNK_SIZE, opened_size
from crypto.head import OpenedHead, SealedHead, new_bare_head, new_head, open_head
from crypto.header import scan_head
from crypto.keys import Identity, Recipient
from crypto.memory import fill_bytes
from crypto.meta import Meta
from crypto.primitives import Buffer, Random, view


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed object in its two halves; one after the other they are an age file."""

    head: bytes = field(repr=False)
    payload: bytes = field(repr=False)


def seal(
    plaintext: Buffer,
    recipients: Sequence[Recipient],
    *,
    context: Context,
    meta: Meta | None = None,
    random: Random = os.urandom,
) -> Envelope:
    """Return the plaintext sealed for the recipients, under a fresh file key.

    Raises all that `new_head` does.
    """
    sealed = new_head(recipients, context=context, meta=meta, random=random)
    return Envelope(sealed.head, _seal_payload(sealed, view(plaintext)))


def seal_file(
    plaintext: Buffer, recipients: Sequence[Recipient], *, random: Random = os.urandom
) -> bytes:
    """Return a whole age file that belongs to no object: what a stock tool makes.

    Raises all that `new_bare_head` does.
    """
    sealed = new_bare_head(recipients, random=random)
    return sealed.head + _seal_payload(sealed, view(plaintext))


def open_envelope(
    head: bytes,
    payload: Buffer,
    identities: Sequence[Identity],
    *,
    context: Context | None = None,
) -> bytes:
    """Return the plaintext: all of it, or an error and nothing.

    With `context`, the head must be that of this very object.

    Raises all that `open_head` does, ContextMismatch, PayloadError.
    """
    opened = open_head(head, identities)
    if context is not None:
        opened.check_context(context)
    return _open_payload(opened, view(payload))


def open_file(data: Buffer, identities: Sequence[Identity]) -> bytes:
    """Return the plaintext of a whole age file, from here or elsewhere.

    Raises all that `open_head` does, PayloadError.
    """
    source = view(data)
    length = scan_head(source)
    if length is None:
        raise HeaderError(f"the file ends after {len(source)} bytes, within its head")
    opened = open_head(bytes(source[:length]), identities)
    return _open_payload(opened, source[length:])


def _seal_payload(sealed: SealedHead, source: memoryview) -> bytes:
    run = sealed.sealer.claim(len(source), last=True)
    return fill_bytes(run.sealed_size, lambda out: run.seal_into(source, out))


def _open_payload(opened: OpenedHead, payload: memoryview) -> bytes:
    opener = opened.opener()
    if len(payload) <= SEALED_CHUNK_SIZE:
        # Also where nothing is returned: the one empty chunk must still be genuine.
        return opener.open_only_chunk(payload)
    size = opened_size(len(payload))
    return fill_bytes(size, lambda out: opener.open_run_into(0, payload, out, last=True))
