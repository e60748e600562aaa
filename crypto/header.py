"""The age v1 header as text: strict parser, encoder, and the search for its end in a stream.

Pure format code: it knows no keys and checks no MAC. What the parser accepts, the encoder writes
back byte for byte, so that stanzas can be moved between headers without touching them.
Source: https://age-encryption.org/v1, sections "Header" and "Recipient stanza".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from crypto import labels
from crypto.errors import HeaderError, HeaderSizeError, StanzaLimitError
from crypto.geometry import HEADER_SIZE_MAX, NONCE_SIZE, STANZAS_MAX
from crypto.primitives import MAC_SIZE, Buffer, decode_base64, encode_base64, view

_MAGIC: Final = b"age-encryption.org/v1\n"
_ARMOR: Final = b"-----BEGIN AGE"
_COLUMNS: Final = 64
_MAC_LENGTH: Final = 43
_CLASSES: Final = {labels.STANZA_X25519: "classic", labels.STANZA_HYBRID: "hybrid"}

_ARGUMENTS: Final = re.compile(r"[!-~]+(?: [!-~]+)*")
_OPENING: Final = re.compile(rf"-> {_ARGUMENTS.pattern}")
# A first look at a stream in C speed: whole stanzas, then what may still become one or the end.
# Each repetition begins with a byte that the one before cannot hold, which keeps it linear. No
# possessive quantifier on a group: before Python 3.11.5 those keep half a repetition (CPython issue
# 106052). It only decides when the line parser is asked.
_STANZAS: Final = re.compile(
    rb"(?:->(?: [!-~]++)+\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)*"
)
_PARTIAL: Final = re.compile(
    rb"-?|->(?: [!-~]*+)*|->(?: [!-~]++)+\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,64}"
    rb"|--|---(?: [A-Za-z0-9+/]{0,43})?"
)
_END: Final = re.compile(rb"---[^\n]*\n")


@dataclass(frozen=True, slots=True)
class Stanza:
    """The file key wrapped for one recipient, or a message to those who know its type.

    `type` and `args` are one or more characters of printable ASCII each; `body` is any bytes.
    """

    type: str
    args: tuple[str, ...] = ()
    body: bytes = field(default=b"", repr=False)

    def __repr__(self) -> str:
        """Show sizes only: no part of a head belongs in logs."""
        return f"Stanza({len(self.args)} arguments, {len(self.body)} bytes)"

    def encode(self) -> bytes:
        """Return the stanza's lines, the last one shorter than 64 columns, possibly empty.

        Raises HeaderError when the type or an argument could not be read back.
        """
        words = (self.type, *self.args)
        line = " ".join(words)
        # One look at the whole line, which shows an empty word and a space within a word as well.
        if not _ARGUMENTS.fullmatch(line) or line.count(" ") != len(self.args):
            raise HeaderError("a stanza's type and arguments must be printable ASCII, not empty")
        body = encode_base64(self.body)
        lines = [body[i : i + _COLUMNS] for i in range(0, len(body) + 1, _COLUMNS)]
        return "\n".join([f"-> {line}", *lines, ""]).encode("ascii")


@dataclass(frozen=True, slots=True)
class Header:
    """All stanzas in order, and the MAC over them (32 bytes)."""

    stanzas: tuple[Stanza, ...]
    mac: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the header up to and with the line break that ends it.

        Raises StanzaLimitError and HeaderSizeError beyond the limits, HeaderError when a part
        could not be read back.
        """
        return end_header(mac_input(self.stanzas), self.mac)


def mac_input(stanzas: tuple[Stanza, ...]) -> bytes:
    """Return the bytes that the header MAC covers: all up to and with the three dashes."""
    _check_count(len(stanzas))
    if not stanzas:
        raise HeaderError("a header has at least one stanza; this one has none")
    return b"".join([_MAGIC, *(stanza.encode() for stanza in stanzas), b"---"])


def covered_by_mac(data: bytes) -> bytes:
    """Return what the MAC covers of a header that `parse_header` took, as it stands there."""
    return data[: -len(" ") - _MAC_LENGTH - len("\n")]


def end_header(covered: bytes, mac: bytes) -> bytes:
    """Return the header: what its MAC covers, the MAC (32 bytes), and the line break that ends it.

    Raises HeaderSizeError, HeaderError for a MAC of another length.
    """
    if len(mac) != MAC_SIZE:
        raise HeaderError(f"a header MAC has {MAC_SIZE} bytes, not {len(mac)}")
    data = b"%b %b\n" % (covered, encode_base64(mac).encode("ascii"))
    _check_size(len(data))
    return data


def stanza_class(stanza: Stanza) -> str | None:
    """Return "classic" or "hybrid" for a recipient stanza of ours, None for any other type."""
    return _CLASSES.get(stanza.type)


def parse_header(data: bytes) -> Header:
    """Return the header that `data` is, from its first byte to its last line break.

    Raises HeaderError with the number of the faulty line, HeaderSizeError, StanzaLimitError.
    """
    _check_size(len(data))
    _check_magic(data)
    if len(data) < len(_MAGIC):
        raise HeaderError("the header ends within its first line; the file was cut short")
    return _parse_lines(_Lines(data))


def scan_head(prefix: Buffer, *, at_end: bool = False) -> int | None:
    """Return the length of header and nonce at the beginning of a file, None if not all is here.

    `prefix` is what has come of the file so far, `at_end` says that nothing follows. The header
    that ends in `prefix` was parsed strictly.

    Raises as soon as it can be told: HeaderError for what cannot become a header (an armored file
    is named as such) and for a file that ends too early, HeaderSizeError, StanzaLimitError.
    """
    size_seen = view(prefix).nbytes
    seen = bytes(view(prefix)[: HEADER_SIZE_MAX + 1])
    _check_magic(seen)
    size = _find_end(seen)
    if size is None:
        _check_size(len(seen))
    length = None if size is None else size + NONCE_SIZE
    if length is not None and length <= size_seen:
        return length
    if at_end:
        part = "header" if length is None else "nonce"
        raise HeaderError(f"the file ends after {size_seen} bytes, within its {part}")
    return None


class _Lines:
    """A cursor over the lines after the first, which counts them for the error texts."""

    def __init__(self, data: bytes) -> None:
        # Latin-1 maps any byte to a character; the grammar lets only ASCII through. What follows
        # the last line break is no line: it is empty unless the header was cut short.
        self._lines = data[len(_MAGIC) :].decode("latin-1").split("\n")
        self._rest = self._lines.pop()
        self._number = 1

    def next(self) -> str:
        self._number += 1
        try:
            return self._lines[self._number - 2]
        except IndexError:
            raise self.fault("the header ends here; it was cut short") from None

    def at_end(self) -> bool:
        return self._number - 1 == len(self._lines) and not self._rest

    def fault(self, reason: str) -> HeaderError:
        return HeaderError(f"line {self._number} of the header: {reason}")


def _parse_lines(lines: _Lines) -> Header:
    stanzas: list[Stanza] = []
    while (line := lines.next()).startswith("->"):
        _check_count(len(stanzas) + 1)
        if not _OPENING.fullmatch(line):
            raise lines.fault("a stanza begins with '->' and words of printable ASCII")
        _, kind, *args = line.split(" ")
        stanzas.append(Stanza(kind, tuple(args), _parse_body(lines)))
    mac = _parse_end(line, lines)
    if not stanzas:
        raise lines.fault("a header has at least one stanza")
    return Header(tuple(stanzas), mac)


def _parse_body(lines: _Lines) -> bytes:
    parts: list[bytes] = []
    while True:
        line = lines.next()
        part = decode_base64(line)
        if part is None or len(line) > _COLUMNS:
            raise lines.fault(
                "a stanza's body is canonical base64 without padding in lines of 64 columns, "
                "the last one shorter"
            )
        parts.append(part)
        if len(line) < _COLUMNS:
            return b"".join(parts)


def _parse_end(line: str, lines: _Lines) -> bytes:
    text = line.removeprefix("--- ")
    mac = decode_base64(text)
    if text == line or mac is None or len(mac) != MAC_SIZE:
        raise lines.fault(
            f"expected a stanza or the end, '---' and {_MAC_LENGTH} characters of canonical base64"
        )
    if not lines.at_end():
        raise lines.fault("the header ends here, but more bytes were given")
    return mac


def _find_end(seen: bytes) -> int | None:
    """Return the size of the complete header in `seen`, None if it may still become one."""
    match = _STANZAS.match(seen, len(_MAGIC))
    rest = match.end() if match is not None else len(_MAGIC)
    # Up to here "->" stands only where a stanza begins; the one that has just begun counts too.
    _check_count(seen.count(b"\n->", 0, rest + 2))
    end = _END.match(seen, rest)
    if end is not None:
        parse_header(seen[: end.end()])
        return end.end()
    if _PARTIAL.fullmatch(seen, rest) is None:
        # The line parser names the line and the reason; the line break makes it judge the last.
        _parse_lines(_Lines(seen + b"\n"))
        raise HeaderError("the header breaks the format")  # unreachable while the two agree
    return None


def _check_magic(data: bytes) -> None:
    if data and _ARMOR.startswith(data[: len(_ARMOR)]):
        raise HeaderError("this is an armored age file; send the binary form (no --armor)")
    if not data.startswith(_MAGIC[: len(data)]):
        raise HeaderError("not an age file: it does not begin with age-encryption.org/v1")


def _check_size(size: int) -> None:
    if size > HEADER_SIZE_MAX:
        raise HeaderSizeError(f"the header is longer than {HEADER_SIZE_MAX} bytes")


def _check_count(count: int) -> None:
    if count > STANZAS_MAX:
        raise StanzaLimitError(f"a header holds at most {STANZAS_MAX} stanzas")
