"""What only those who can open an object may know of it besides its bytes: type and name.

It seals and opens one small stanza. A file name from here is a label: never use it as a path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from crypto import labels
from crypto.errors import HeaderError, MetaError
from crypto.geometry import TAG_SIZE
from crypto.header import Stanza
from crypto.primitives import (
    AEAD_NONCE_SIZE,
    Random,
    aead_open,
    aead_seal,
    decode_base64,
    derive,
    draw,
    encode_base64,
)
from crypto.secret import Secret

_BLOCK_SIZE: Final = 128
_META_SIZE_MAX: Final = 1024
_CONTROLS: Final = frozenset(map(chr, [*range(32), *range(127, 160)]))


@dataclass(frozen=True, slots=True, repr=False)
class Meta:
    """A media type (printable ASCII) and a file name (any text without control characters).

    Raises MetaError when a value is empty or holds what its kind does not allow.
    """

    content_type: str
    filename: str | None = None

    def __post_init__(self) -> None:
        kind = self.content_type
        if not (_is_text(kind) and kind.isascii() and kind.isprintable()):
            raise MetaError("the content type must be printable ASCII, not empty")
        if self.filename is not None:
            _check_filename(self.filename)

    def canonical(self) -> bytes:
        """Return JSON (RFC 8785: sorted keys, no spaces, UTF-8), padded with spaces to 128 bytes.

        Raises MetaError when that is more than 1 KiB.
        """
        value = {"content_type": self.content_type, "filename": self.filename}
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        data = text.encode("utf-8")
        size = -(-len(data) // _BLOCK_SIZE) * _BLOCK_SIZE
        if size > _META_SIZE_MAX:
            raise MetaError(
                f"content type and file name take {len(data)} bytes as JSON, "
                f"at most {_META_SIZE_MAX} are kept; shorten the file name"
            )
        return data.ljust(size)

    def __repr__(self) -> str:
        """Show nothing: names of private files do not belong in logs."""
        return "Meta(redacted)"


def meta_stanza(file_key: Secret, meta: Meta, *, random: Random) -> Stanza:
    """Return the sealed stanza; draws 12 random bytes. Raises MetaError when it is too large."""
    nonce = draw(random, AEAD_NONCE_SIZE)
    sealed = aead_seal(derive(file_key, labels.META), nonce, meta.canonical())
    return Stanza(labels.STANZA_META, (encode_base64(nonce),), sealed)


def open_meta(file_key: Secret, stanza: Stanza) -> Meta:
    """Return what the stanza holds.

    Raises MetaError when the tag is wrong or the content is not what `canonical` writes.
    """
    nonce = _parse_nonce(stanza)
    opened = aead_open(derive(file_key, labels.META), nonce, stanza.body)
    if opened is None:
        raise MetaError("the meta stanza does not open under this file key")
    data = opened.expose()
    meta = _parse_canonical(data)
    if meta is None or meta.canonical() != data:
        raise MetaError("the meta stanza does not hold canonical JSON of content type and name")
    return meta


def check_meta_shape(stanza: Stanza) -> None:
    """Raise HeaderError unless the stanza has one nonce and a body of 1 to 8 blocks and a tag."""
    _parse_nonce(stanza)
    blocks, rest = divmod(len(stanza.body) - TAG_SIZE, _BLOCK_SIZE)
    if rest or not 1 <= blocks <= _META_SIZE_MAX // _BLOCK_SIZE:
        raise HeaderError(
            f"a meta stanza's body is a multiple of {_BLOCK_SIZE} bytes up to {_META_SIZE_MAX}, "
            "and a tag"
        )


def _parse_nonce(stanza: Stanza) -> bytes:
    nonce = decode_base64(stanza.args[0]) if len(stanza.args) == 1 else None
    if nonce is None or len(nonce) != AEAD_NONCE_SIZE:
        raise HeaderError("a meta stanza has one argument, a nonce of 12 bytes in base64")
    return nonce


def _parse_canonical(data: bytes) -> Meta | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != {"content_type", "filename"}:
        return None
    kind, name = value["content_type"], value["filename"]
    if not isinstance(kind, str) or not isinstance(name, str | None):
        return None
    return Meta(content_type=kind, filename=name)


def _is_text(value: object) -> bool:
    # What callers without types may give is refused here, not somewhere within.
    return isinstance(value, str) and value != ""


def _check_filename(name: str) -> None:
    if not _is_text(name):
        raise MetaError("the file name must be text, not empty; leave it out instead")
    if not _CONTROLS.isdisjoint(name):
        raise MetaError("the file name must not hold control characters")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise MetaError("the file name must be valid Unicode") from None
