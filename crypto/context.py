"""What an envelope is for, as canonical bytes, and the MAC that ties it to the file key.

It defeats stores and mix-ups, not parties: whoever holds the file key can make such a MAC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from crypto import labels
from crypto.errors import ContextError, HeaderError
from crypto.header import Stanza
from crypto.keys import CLASSIC, HYBRID
from crypto.primitives import MAC_SIZE, derive, mac
from crypto.secret import Secret

_ABSENT: Final = 0xFFFF
_LENGTH_SIZE: Final = 2
# One row a field, in canonical order: what it must look like, and the same in words.
_GRAMMAR: Final = {
    "object_id": (re.compile(r"[a-z2-7]{32}"), "32 characters of lower-case base32"),
    "payload_id": (re.compile(r"[a-z2-7]{32}"), "32 characters of lower-case base32"),
    "session_id": (re.compile(r"[A-Za-z0-9_.]{1,64}"), "1 to 64 of letters, digits, _ and ."),
    "task_id": (re.compile(r"[A-Za-z0-9_.]{1,64}"), "1 to 64 of letters, digits, _ and ."),
    "direction": (re.compile(r"input|output"), "input or output"),
    "miner": (re.compile(r"0x[0-9a-f]{40}"), "0x and 40 lower-case hex digits, or absent"),
    "key_class": (re.compile(f"{CLASSIC}|{HYBRID}"), f"{CLASSIC} or {HYBRID}"),
}


@dataclass(frozen=True, slots=True)
class Context:
    """The place of an envelope: the seven fields that its context stanza covers.

    Raises ContextError naming the field that is not as docs/format.md wants it.
    """

    object_id: str
    payload_id: str
    session_id: str
    task_id: str
    direction: str
    miner: str | None
    key_class: str

    def __post_init__(self) -> None:
        for name, (pattern, words) in _GRAMMAR.items():
            value = getattr(self, name)
            if value is None and name == "miner":
                continue
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise ContextError(f"the context's {name} must be {words}")

    def canonical(self) -> bytes:
        """Return label and fields, each as big-endian u16 length and ASCII, absent as 0xFFFF."""
        values = [getattr(self, name) for name in _GRAMMAR]
        return b"".join(map(_encode_field, [labels.STANZA_CONTEXT, *values]))


def parse_context(data: bytes) -> Context:
    """Return the context behind canonical bytes. Raises ContextError for any other bytes."""
    values: list[str | None] = []
    position = 0
    for name in ("label", *_GRAMMAR):
        start = position + _LENGTH_SIZE
        length = int.from_bytes(data[position:start], "big")
        position = start + (0 if length == _ABSENT else length)
        if position > len(data):
            raise ContextError(f"the context's bytes end within {name}")
        # Latin-1 never fails here; what is not ASCII fails the grammar of its field.
        values.append(None if length == _ABSENT else data[start:position].decode("latin-1"))
    if position != len(data):
        raise ContextError(f"{len(data) - position} bytes follow the context")
    if values[0] != labels.STANZA_CONTEXT:
        raise ContextError(f"the bytes do not begin with the label {labels.STANZA_CONTEXT}")
    names = [field.name for field in fields(Context)]
    # The constructor checks every value, so a wrong type cannot get through.
    return Context(**dict(zip(names, values[1:], strict=True)))  # type: ignore[arg-type]


def context_stanza(file_key: Secret, context: Context) -> Stanza:
    """Return the stanza that ties a file key to its place."""
    key = derive(file_key, labels.CONTEXT)
    return Stanza(labels.STANZA_CONTEXT, (), mac(key, context.canonical()))


def check_context_shape(stanza: Stanza) -> None:
    """Raise HeaderError unless the stanza has no argument and a body of 32 bytes."""
    if stanza.args or len(stanza.body) != MAC_SIZE:
        raise HeaderError(f"a context stanza has no argument and {MAC_SIZE} bytes of body")


def _encode_field(value: str | None) -> bytes:
    if value is None:
        return _ABSENT.to_bytes(_LENGTH_SIZE, "big")
    return len(value).to_bytes(_LENGTH_SIZE, "big") + value.encode("ascii")
